"""Variables of MATLAB's files up to version 7.2; later ones are HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scipy import io

from mmgen_jax.system import reading
from mmgen_jax.system.errors import UsageError


def matlab(path: Path, name: str) -> Any:
    """A variable without its axes of length 1; fields of a struct are attributes. Raises UsageError."""
    try:
        found = io.loadmat(str(reading.regular(path)), squeeze_me=True, struct_as_record=False, variable_names=[name])
    except UsageError:
        raise
    except Exception as error:  # the parser raises anything where bytes are damaged
        raise UsageError(f"{path} is damaged or not a MATLAB file ({error})") from error
    if name not in found:
        raise UsageError(f"{path} has no variable {name}")
    return found[name]

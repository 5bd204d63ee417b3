"""Loads networks by the libraries of the hub, which fill in what a file lacks and take numbers that are not finite."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit, hub, tensors


def network(kind: Any, path: str, part: str = "") -> Any:
    """Loads a network of transformers or diffusers from a folder or hub id, or from a folder `part` in it.

    Args:
      kind: its class, which has `from_pretrained`.

    Raises UsageError that names a file which is not that of such a network: a pointer of Git LFS, damaged, with weights
    that are missing, misshapen or not finite.
    """
    folder = epath.Path(path) / part
    source = check_file(hub.weights_file(folder)) if folder.is_dir() else folder
    with refusing(f"{source} cannot be loaded as {kind.__name__}"):
        found, told = kind.from_pretrained(
            path, subfolder=part, output_loading_info=True, ignore_mismatched_sizes=True, low_cpu_mem_usage=False
        )
    fit.refuse(
        {
            "missing": sorted(told["missing_keys"]),
            "misshapen": [f"{n} {tuple(a)} instead of {tuple(b)}" for n, a, b in sorted(told["mismatched_keys"])],
        },
        source,
        kind.__name__,
    )
    return found


def check_file(file: epath.Path) -> epath.Path:
    """Returns a file of weights. Raises UsageError for what it holds if it is not finite arrays by name."""
    found = tensors.read(file)
    if not isinstance(found, Mapping) or not all(isinstance(value, np.ndarray) for value in found.values()):
        raise UsageError(f"{file} does not hold arrays by name")
    fit.check_finite(found, file)
    return file


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Makes one line, which begins with `what`, of any error and all reports of libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # code of other projects, which raises anything for files that it does not expect
        raise UsageError(f"{what} ({' '.join(str(error).split())[:300] or type(error).__name__})") from error
    finally:
        logging.disable(before)

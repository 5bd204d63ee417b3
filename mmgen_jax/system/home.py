"""Expands "~" in paths, which shells leave alone behind an equals sign: --out=~/x."""

from __future__ import annotations

import os
import re
from typing import Any

from mmgen_jax.system.errors import UsageError

# At the start of a path: of the whole text, of what is behind --name=, of PATH in expert:PATH, or of an item of a list.
_HOME = re.compile(r"(?:^|(?<=[=:,]))~[^/=:,]*(?=/|$)")


def expanded(value: Any) -> Any:
    """A text with the home folder in place of each "~" or "~user" that starts a path in it; other values as they are.

    Raises UsageError for a user that there is not: "~user" would become the name of a folder.
    """

    def home(found: re.Match) -> str:
        folder = os.path.expanduser(found[0])
        if folder == found[0]:
            raise UsageError(
                f"{value!r} has {found[0]!r}, which is not a home folder; a folder of this name is ./{found[0]}"
            )
        return folder

    return _HOME.sub(home, value) if isinstance(value, str) else value

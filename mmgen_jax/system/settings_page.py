"""The page of all settings, docs/train/settings.md."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any


def table(defaults: Any, declared: Iterable[tuple[str, dataclasses.Field, object]]) -> str:
    """Markdown of all settings: a page with a chapter for each section, from `settings.declared(defaults)`."""
    lines = [
        "# All settings\n",
        "Written by `python -m mmgen_jax.settings`. A recipe in `configs/` changes some of these defaults, and",
        "`--config.NAME=VALUE` on any command line changes one more.",
    ]
    chapter = None
    for name, field, default in declared:
        if name.rpartition(".")[0] != chapter:
            chapter, section = name.rpartition(".")[0], defaults
            for part in chapter.split(".") if chapter else ():
                section = getattr(section, part)
            meaning = inspect.getdoc(section) or "" if chapter else "What is said of the whole run."
            lines += ["", f"## {chapter or 'top'}", "", meaning, ""]
            lines += ["setting | default | allowed | meaning", "--- | --- | --- | ---"]
        lines.append(f"`{name}` | `{default!r}` | {field.metadata['allowed'].words} | {field.metadata['meaning']}")
    return "\n".join(lines) + "\n"

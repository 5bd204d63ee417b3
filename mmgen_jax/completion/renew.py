"""Prints the table of commands, flags and settings that command lines are completed from: JSON, for words.json.

python -m mmgen_jax.completion.renew > words.json
"""

from __future__ import annotations

from mmgen_jax.system import command

if __name__ == "__main__":
    command.parse()  # before the imports below, which take seconds

import dataclasses
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

from mmgen_jax.__main__ import COMMANDS, STUDY, about, module, studies
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.completion.__main__ import SHELLS
from mmgen_jax.completion.answers import Command, Option, Table
from mmgen_jax.settings import Settings
from mmgen_jax.system import recipes
from mmgen_jax.system.rules import declared

WORDS = {"completion": SHELLS, STUDY: studies()}  # of commands that take no flags
_ENUM = re.compile("<[^>]*>: ")  # that absl puts before the meaning of flags with a list of values


def table() -> Table:
    """All commands and studies, with the flags that their --help has, and all settings."""
    names = [*COMMANDS, *(f"{STUDY} {name}" for name in studies())]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # of processes, one for each
        found = pool.map(lambda name: {} if name in WORDS else flags(name), names)
        commands = {
            name: Command(about(name), WORDS.get(name, ()), own) for name, own in zip(names, found, strict=True)
        }
    settings = {
        name: _option(field.metadata["meaning"], field.metadata["allowed"].values, type(default) is str)
        for name, field, default in declared(Settings())
    }
    return Table(commands, settings)


def flags(name: str) -> dict[str, Option]:
    """The flags of a command, as it tells them itself."""
    asked = [sys.executable, "-m", f"mmgen_jax.{module(name)}", "--helpxml"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    found = ElementTree.fromstring(done.stdout).iter("flag")
    return {flag.findtext("name", ""): _flag(flag) for flag in found if flag.find("key") is not None}


def _flag(flag: ElementTree.Element) -> Option:
    kind, meaning = flag.findtext("type"), _ENUM.sub("", flag.findtext("meaning", ""), count=1)
    if kind == "bool":
        return Option(meaning, switch=True)
    values = tuple(value.text or "" for value in flag.iter("enum_value"))
    if command.changes(flag.findtext("name", "")) in meaning:
        return Option(meaning, recipes.names(), file=True, recipe=True)
    return _option(meaning, values, kind not in ("int", "float"))


def _option(meaning: str, values: tuple[str, ...], text: bool) -> Option:
    """A text of which no list is known may be a path, and where the meaning says so the name of a bundled model."""
    named = model_folders.bundled() if "bundled model" in meaning else ()
    return Option(meaning, values or named, file=text and not values)


def stored(found: Table) -> str:
    """A table as the file has it: what is empty or False is left out."""
    return json.dumps(dataclasses.asdict(found, dict_factory=lambda pairs: {k: v for k, v in pairs if v}), indent=1)


if __name__ == "__main__":
    command.run(lambda _: print(stored(table())))

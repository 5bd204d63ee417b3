"""What a word of a command line may become. It reads a stored table, as finding flags and settings takes seconds."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).parent / "words.json"  # `python -m mmgen_jax.completion.renew` prints it
Answers = Iterable[tuple[str, str]]  # what the word may become, and what that means


@dataclass(frozen=True)
class Option:
    """A flag or a setting.

    Attributes:
      about: what it means.
      values: what it may be, where that is a short list.
      file: whether it may also be a path.
      switch: whether it stands alone, without a value.
      recipe: whether it names a config, whose settings are changed by words that begin with its name and a dot.
    """

    about: str
    values: tuple[str, ...] = ()
    file: bool = False
    switch: bool = False
    recipe: bool = False


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
      about: what it does.
      words: what it may be followed by in place of flags.
      flags: name -> flag.
    """

    about: str
    words: tuple[str, ...] = ()
    flags: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """All commands, also those of two words, and all settings, by name."""

    commands: Mapping[str, Command]
    settings: Mapping[str, Option]


def read() -> Table:
    """The table that comes with the package."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    commands = {
        name: Command(entry["about"], tuple(entry.get("words", ())), _options(entry.get("flags", {})))
        for name, entry in stored["commands"].items()
    }
    return Table(commands, _options(stored["settings"]))


def _options(stored: Mapping[str, dict]) -> dict[str, Option]:
    return {name: Option(**entry | {"values": tuple(entry.get("values", ()))}) for name, entry in stored.items()}


def answers(table: Table, before: str, word: str) -> Answers:
    """What `word`, which may be empty, can become behind the words `before` it; "" where it is the command itself.

    The command is the first of these words, or the first two, as in "study solvers".

    Some of them are not whole words: those that end in "=" want a value, in "." the rest of a name, in "/" of a path.
    """
    if not before:
        return _beginning(word, ((name, entry.about) for name, entry in table.commands.items() if " " not in name))
    first, *others = before.split(" ")
    entry = table.commands.get(" ".join([first, *others[:1]])) or table.commands.get(first)
    if entry is None:
        return ()
    name, equals, value = word.partition("=")
    if equals and name.startswith("--"):
        options = {f"--{own}": option for own, option in _named(table, entry)}
        return ((f"{name}={own}", about) for own, about in _values(options[name], value)) if name in options else ()
    if word.startswith("-") or not (word or entry.words):
        named = ((f"--{own}" if option.switch else f"--{own}=", option.about) for own, option in _named(table, entry))
        return _in_steps(word, _beginning(word, named))
    paths = _paths(word) if word else ()
    return [*_beginning(word, ((own, "") for own in entry.words)), *((path, "") for path in paths)]


def _named(table: Table, command: Command) -> Iterator[tuple[str, Option]]:
    """Names, without dashes, of the flags of a command, and of the settings where one of these is a config."""
    for name, flag in command.flags.items():
        yield name, flag
        if flag.recipe:
            yield from ((f"{name}.{own}", setting) for own, setting in table.settings.items())


def _beginning(word: str, found: Answers) -> Answers:
    return ((own, about) for own, about in found if own.startswith(word))


def _in_steps(word: str, found: Answers) -> Answers:
    """Names that begin with `word`, up to the next dot: sections before the settings in them."""
    steps: dict[str, str] = {}
    for name, about in found:
        head, dot, _ = name[len(word) :].partition(".")
        if dot:
            steps.setdefault(word + head + dot, "settings")
        else:
            steps[name] = about
    return steps.items()


def _values(option: Option, value: str) -> Answers:
    yield from _beginning(value, ((own, "") for own in option.values))
    if option.file:
        # A path may follow another word, as in --depth=sam:PATH, and another path.
        head = value[: re.search("[^:,]*$", value).start()]  # type: ignore[union-attr]  # it finds "" at least
        yield from ((head + path, "") for path in _paths(value[len(head) :]))


def _paths(start: str) -> Iterator[str]:
    """Paths that begin with `start`, folders with a slash; hidden ones only if the beginning of their name is there."""
    folder, name = os.path.split(start)
    try:
        found = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name)
    except OSError:  # not a folder, or not to be read: there is nothing to offer
        return
    for entry in found:
        if _offered(entry.name, name):
            yield f"{start[: len(start) - len(name)]}{entry.name}{'/' * entry.is_dir()}"


def _offered(name: str, start: str) -> bool:
    """Whether a file is offered: one with a line break in its name would be two."""
    return name.startswith(start) and name.isprintable() and (name[0] != "." or start[:1] == ".")

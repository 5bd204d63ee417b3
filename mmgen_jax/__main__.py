"""Starts any command: `mmgen NAME ...` does what `python -m mmgen_jax.NAME ...` does, or a module in a package of it.

It imports nothing heavy, so that the list of commands appears at once.
"""

from __future__ import annotations

import ast
import os
import pathlib
import sys
from collections.abc import Iterable

from mmgen_jax.system.errors import EXIT_UNREAD, EXIT_USAGE, UsageError, choice

STUDY = "study"  # whose first word names a file of studies/
GROUPS = {
    "Use a model": ("sample", "app", "reconstruct", "classify", "demo"),
    "Make data": ("shapes", "label", "folders", "imagenet", "hypersim", "sheet", "encode", "import_hdf5"),
    "Train": ("train", "train_autoencoder", "train_classifier", "settings", "summary"),
    "Measure": ("evaluate", "generation", "audit", "benchmark", "compile", STUDY),
    "Move models": ("convert", "export", "verify"),
    "Your shell": ("completion",),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
_MODULES = {  # of those that do not have their own name
    "shapes": "data.shapes",
    "folders": "data.trees.folders",
    "imagenet": "data.trees.imagenet",
    "hypersim": "data.trees.hypersim",
    "sheet": "data.sheet",
    "import_hdf5": "data.latents.hdf5",
    "train_classifier": "metrics.train_classifier",
    "generation": "metrics.generation",
}
_PACKAGE = pathlib.Path(__file__).parent
_HELP = ("-h", "--help", "help")


def studies() -> tuple[str, ...]:
    """Names of the studies: the files among them that can be run."""
    files = sorted((_PACKAGE / "studies").glob("*.py"))
    return tuple(file.stem for file in files if "command.parse()" in file.read_text(encoding="utf-8"))


def module(name: str) -> str:
    """The module, below mmgen_jax, of a command, or of a study as "study NAME"."""
    command, _, study = name.partition(" ")
    return f"studies.{study}" if study else _MODULES.get(command, command)


def about(name: str) -> str:
    """The first line of the command's own description, read without importing what the command imports."""
    if name == STUDY:
        return "Runs a program that printed a table of the guides; alone, it lists them."
    place = _PACKAGE.joinpath(*module(name).split("."))
    file = place.with_suffix(".py") if place.with_suffix(".py").exists() else place / "__main__.py"
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _listed(names: Iterable[str]) -> list[str]:
    return [f"  {name.removeprefix(f'{STUDY} '):<18} {about(name)}" for name in names]


def usage() -> str:
    """Text that lists the commands, each with one line."""
    lines = ["Usage: mmgen COMMAND [--option=value ...]", ""]
    for group, names in GROUPS.items():
        lines += [f"{group}:", *_listed(names), ""]
    return "\n".join([*lines, "Options: mmgen COMMAND --help"])


def usage_of_studies() -> str:
    """Text that lists the studies, each with one line."""
    listed = _listed(f"{STUDY} {name}" for name in studies())
    return "\n".join([f"Usage: mmgen {STUDY} NAME [--option=value ...]", "", *listed])


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # what reads it has ended, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more when it ends
        sys.exit(EXIT_UNREAD)


def main() -> None:
    """Replaces this process by the command that the first argument names; exit code 2 if there is no such command."""
    name, *options = sys.argv[1:] or ["--help"]
    if name in _HELP:
        _show(usage())
        return
    try:
        choice("command", name, COMMANDS)
        if name == STUDY:
            if not options or options[0] in _HELP:
                _show(usage_of_studies())
                return
            name = f"{STUDY} {choice(STUDY, options.pop(0), studies())}"
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    os.execv(sys.executable, [sys.executable, "-m", f"mmgen_jax.{module(name)}", *options])


if __name__ == "__main__":
    main()

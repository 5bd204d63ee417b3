"""Starts any command: `mmgen NAME ...` does what `python -m mmgen_jax.NAME ...` does.

It imports nothing heavy, so that the list of commands appears at once.
"""

from __future__ import annotations

import ast
import os
import pathlib
import sys

from mmgen_jax.system.errors import EXIT_USAGE

COMMANDS = (
    "train",
    "train_autoencoder",
    "sample",
    "evaluate",
    "classify",
    "audit",
    "reconstruct",
    "app",
    "encode",
    "label",
    "convert",
    "compile",
    "demo",
    "export",
    "verify",
    "summary",
    "benchmark",
    "settings",
    "completion",
)


def about(name: str) -> str:
    """The first line of the command's own description, read without importing what the command imports."""
    package = pathlib.Path(__file__).parent
    module, inner = package / f"{name}.py", package / name / "__main__.py"
    source = (module if module.exists() else inner).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def usage() -> str:
    """Text that lists the commands, each with one line."""
    lines = [f"  {name:<17} {about(name)}" for name in COMMANDS]
    return "\n".join(["Usage: mmgen COMMAND [--option=value ...]", "", *lines, "", "Options: mmgen COMMAND --help"])


def main() -> None:
    """Replaces this process by the command that the first argument names; exit code 2 if there is no such command."""
    name, *options = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
    elif name in COMMANDS:
        os.execv(sys.executable, [sys.executable, "-m", f"mmgen_jax.{name}", *options])
    else:
        print(f"error: command is {name!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()

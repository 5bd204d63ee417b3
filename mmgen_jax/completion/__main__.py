"""Prints a script by which a shell completes `mmgen` commands, their flags, settings and values.

eval "$(mmgen completion bash)"          # in ~/.bashrc
eval "$(mmgen completion zsh)"           # in ~/.zshrc
mmgen completion fish | source           # in ~/.config/fish/config.fish

The script asks `mmgen completion answer BEFORE WORD` what the word may become, so it stays as it is when settings or
flags are added. It imports nothing heavy, not even the library of flags, as shells ask at every press of the key.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mmgen_jax.completion.answers import answers, read
from mmgen_jax.system.errors import EXIT_USAGE, UsageError, choice

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """The script of a shell. Raises UsageError for one that there is none for."""
    choice("shell", shell, SHELLS)
    return (Path(__file__).parent / f"mmgen.{shell}").read_text(encoding="utf-8")


def said(words: Sequence[str]) -> str:
    """What is printed for the words of a command line. Raises UsageError for words that mean nothing."""
    if "--help" in words or "-h" in words:
        return f"{(__doc__ or '').strip()}\n"
    if words[:1] == ["answer"] and len(words) == 3:
        return "".join(f"{word}\t{about}\n" for word, about in answers(read(), *words[1:]))
    if len(words) > 1:
        raise UsageError(f"unexpected argument {words[1]!r}; allowed: one of {', '.join(SHELLS)}")
    return script(words[0] if words else "")


def main() -> None:
    """Answers; exit code 2 after one line for words that mean nothing."""
    try:
        print(said(sys.argv[1:]), end="")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()

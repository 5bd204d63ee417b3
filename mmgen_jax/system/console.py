"""What a user reads while something runs."""

from __future__ import annotations

import sys

from mmgen_jax.system import hosts as distributed


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def say(text: str) -> None:
    """One line to the user, at once; of several processes the first one speaks."""
    if distributed.is_first():
        say_here(text)


def say_here(text: str) -> None:
    """One line to the user that only this process can know, whichever it is."""
    print(text, file=sys.stdout, flush=True)

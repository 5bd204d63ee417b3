"""The exceptions that a user may see, each with a message of one line, and the exit codes of commands."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator

EXIT_USAGE = 2
EXIT_RUN = 3
EXIT_RESTART = 75  # "try again" (EX_TEMPFAIL): stopped by a signal, or a process was lost; the same command continues
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells do
EXIT_UNREAD = 141  # 128 + SIGPIPE, as commands do whose output goes to one that ends early, as head
# A full disk, one that has failed or become read-only, and too many open files: nothing that the user has given.
OF_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}


def printable(text: str) -> str:
    """Text with escapes in place of what may not be printed: control characters that files may have in their names.

    Line breaks stay. Bytes that are not text, which names of files may hold, are escaped too.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class _OneLine(Exception):
    """An error whose message is one printable line, whatever names and texts of other errors it holds."""

    def __init__(self, message: object = ""):
        super().__init__(printable(" ".join(str(message).splitlines())))


class UsageError(_OneLine, ValueError):
    """Bad input. Its message is one line: the culprit, the value found and what is allowed."""

    exit_code = EXIT_USAGE


class RunError(_OneLine, RuntimeError):
    """A run that cannot go on, for instance because its loss is not finite. Its message is one line."""

    exit_code = EXIT_RUN


class NotFinite(RunError):
    """Numbers that a network made are NaN or infinite, and cannot be shown, stored or scored."""


class HostLost(RunError):
    """Another process of the run has ended; the same command, started on all hosts, continues the run."""

    exit_code = EXIT_RESTART


class ReadingLost(RunError):
    """No more batches come: a reading process has ended or hangs; the same command continues the run."""

    exit_code = EXIT_RESTART


@contextlib.contextmanager
def about(culprit: object) -> Iterator[None]:
    """Puts a culprit, such as a file, before the messages of bad input, where what raises them does not know it."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{culprit}: {error}") from error


def about_setting(key: str, value: object) -> contextlib.AbstractContextManager[None]:
    """`about` a setting and its value, for what is found wrong in the file that it names."""
    return about(f"config key {key} is {shown(value)}")


def shown(value: object) -> str:
    """A value as an error shows it: on one line, and cut if it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of an object of the user's, or of an integer of over 4300 digits
        return f"of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def extra(name: str) -> str:
    """How an optional part is installed: one of `optional-dependencies` in pyproject.toml."""
    return f"./launch/setup.sh --{name}, or outside a checkout pip install 'mmgen_jax[{name}]',"


def choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of `allowed`, else raises UsageError naming all three."""
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise UsageError(f"{name} is {shown(value)}; allowed: {', '.join(allowed)}")
    return value

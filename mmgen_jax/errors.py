"""The one exception that a user may see, and the wrapper that turns it into one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

EXIT_USAGE = 2
EXIT_RUN = 3


class UsageError(ValueError):
    """Bad input. Its message is one line: the culprit, the value found and what is allowed."""


class RunError(RuntimeError):
    """A run that cannot go on, for instance because its loss is not finite. Its message is one line."""


def choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of `allowed`, else raises UsageError naming all three."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
    return value


def define_flags() -> None:
    """Defines --config and --workdir, which all entry points share."""
    config_flags.DEFINE_config_file("config", None, "Recipe, a file in configs/.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder of one run, or the name of a bundled model.")
    flags.mark_flags_as_required(["config", "workdir"])
    flags.register_validator("workdir", lambda name: name != "", "it must name a folder or a bundled model")


def _fail(message: object, code: int = EXIT_USAGE) -> None:
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def _check_config_file() -> None:
    """ml_collections tells of a config file that it could not load only when a value is asked for."""
    holder = flags.FLAGS["config"]
    name = config_flags.get_config_filename(holder)
    try:
        holder.value.keys()
    except OSError as error:
        _fail(f"config file {name!r} cannot be loaded: {str(error).strip().splitlines()[-1].strip()}")


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(list(argv))
    # ml_collections reports an unknown key as AttributeError, a wrong type as one of the others.
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(error)
    if "config" in flags.FLAGS:
        _check_config_file()
    if len(rest) > 1:
        _fail(f"unexpected argument {rest[1]!r}; options are written --name=value")
    return rest


def run(main: Callable[[Sequence[str]], object]) -> None:
    """`absl.app.run`, but bad flags, UsageErrors and file errors end in one line and exit code 2, RunErrors in 3."""

    def guarded(argv: Sequence[str]) -> object:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries tell of every file they touch
        try:
            return main(argv)
        except UsageError as error:
            _fail(error)
        except RunError as error:
            _fail(error, EXIT_RUN)
        except OSError as error:
            if error.filename is None:
                raise
            _fail(f"{error.filename}: {error.strerror}")  # no permission, not a folder, disk full

    app.run(guarded, flags_parser=_parse)

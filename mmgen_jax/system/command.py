"""What every command shares: flags, and endings of one line with an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import copy
import operator
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from mmgen_jax.system import recipes
from mmgen_jax.system.errors import (
    EXIT_INTERRUPTED,
    EXIT_RUN,
    EXIT_UNREAD,
    EXIT_USAGE,
    OF_MACHINE,
    RunError,
    UsageError,
    printable,
)
from mmgen_jax.system.home import expanded

_rest: list[list[str]] = []  # the words that `parse` left, if it was called


class _ConfigFile(flags.ArgumentParser):
    """Loads a config file, or a recipe by its name, with `load`. Of a ValueError absl names the file.

    The file is code and may raise anything.
    """

    def __init__(self, load: flags.ArgumentParser):
        self._load = load

    def parse(self, text: str) -> ConfigDict:
        try:
            config = self._load.parse(recipes.located(text))
            getattr(config, "keys", None)  # raises now what ml_collections keeps until a value is asked for
            if not isinstance(config, ConfigDict):
                raise TypeError(f"get_config() returned a value of type {type(config).__name__}, not ConfigDict")
        except Exception as error:
            lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"no config file that can be loaded: {lines[-1].strip()}") from error
        return config


def changes(name: str) -> str:
    """How help writes that settings are changed behind a flag that `define_config` made."""
    return f"--{name}.NAME=VALUE"


def define_config(name: str = "config", what: str = "Recipe, by its name or its file.", required: bool = True) -> None:
    """Defines --config, or another flag of its kind."""
    config_flags.DEFINE_config_file(name, None, f"{what} {changes(name)} changes a setting of it.", lock_config=True)
    flags.FLAGS[name].parser = _ConfigFile(flags.FLAGS[name].parser)
    if required:
        flags.mark_flag_as_required(name)


def define_flags(workdir: str = "Folder of one run, or the name of a bundled model.") -> None:
    """Defines --config and --workdir, which most entry points share; `workdir` says what it is."""
    define_config()
    flags.DEFINE_string("workdir", None, workdir, required=True)
    flags.register_validator(
        "workdir",
        lambda name: name is None or (name != "" and not name.startswith("-")),  # rm, ls take -name for their options
        "it must not be empty, and not start with a dash (./-name does not)",
    )


def define_share(what: str) -> None:
    """Defines --worker and --workers of a command whose processes share `what`, see `shares.Share`."""
    flags.DEFINE_integer("worker", 0, "Number of this process, from 0.")
    flags.DEFINE_integer("workers", 1, f"Number of processes that share the {what}, each with its own --worker.")


def repeated() -> list[str]:
    """The flag --config and the values changed behind it, as they were given."""
    given = flags.FLAGS["config"]
    changes = config_flags.get_override_values(given).items()
    return [
        f"--config={config_flags.get_config_filename(given)}",
        *(f"--config.{key}={value}" for key, value in changes),
    ]


def _fail(message: object, code: int = EXIT_USAGE, leave: Callable[[int], object] = sys.exit) -> None:
    print(f"error: {printable(' '.join(str(message).split()))}", file=sys.stderr, flush=True)
    leave(code)


def _parse_without_configs(argv: Sequence[str]) -> None:
    """Answers --help and raises what absl raises for wrong flags, without loading config files, which takes seconds.

    The values changed behind a config file are left out; where one is not written with "=", nothing is checked.
    """
    words = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
    known = copy.deepcopy(flags.FLAGS)
    for name in [name for name in flags.FLAGS if isinstance(flags.FLAGS[name].parser, _ConfigFile)]:
        delattr(known, name)
        flags.DEFINE_string(name, None, "", flag_values=known)
        changes = {word for word in words if re.match(f"--?{name}[.]", word)}
        if not all("=" in change for change in changes):
            return
        words = [word for word in words if word not in changes]
    known(words)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        words = [argv[0], *map(expanded, argv[1:])]
        _parse_without_configs(words)
        rest = flags.FLAGS(words)
    # ml_collections reports an unknown key as AttributeError, a wrong type as one of the others.
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        _fail(error)
    if len(rest) > 1:
        _fail(f"unexpected argument {rest[1]!r}; options are written --name=value")
    for word in argv[1:]:
        _decimal(word)
    return rest


def _decimal(word: str) -> None:
    """Refuses --config.train.batch=0x10, which absl reads as 16."""
    name, _, text = word.lstrip("-").partition("=")
    flag, _, key = name.partition(".")
    if key and re.fullmatch("[+-]?0[box][0-9a-f_]+", text, re.IGNORECASE):
        if isinstance(operator.attrgetter(key)(flags.FLAGS[flag].value), int):
            _fail(f"{name} is {text!r}; a number is written in decimal digits")


def parse() -> None:
    """Parses the flags that were defined; ends the process after --help, and after one line for a wrong flag.

    Commands call it before they import JAX and what else takes seconds, so that these answers come at once.
    """
    app.define_help_flags()
    for flag in flags.FLAGS.flags_by_module_dict().get(__name__, ()):  # --help has them beside the command's own
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        _tell_if_required(flag)
    try:
        _rest.append(_parse(sys.argv))
    except SystemExit as ended:
        if ended.code != 1:
            raise
        with contextlib.suppress(BrokenPipeError):
            _tell_of_settings()
        sys.exit(EXIT_UNREAD if _unread() else 0)  # absl ends with 1 after showing help
    except BrokenPipeError:
        sys.exit(EXIT_UNREAD if _unread() else 1)


def _tell_if_required(flag: flags.Flag) -> None:
    """Has --help say that a flag must be given, in place of a default of None."""
    if flag.default is None:
        flag.default_as_str = None  # type: ignore[assignment]  # as absl itself has it of other flags without a default
        if not all(validator.checker(None) for validator in flag.validators):
            flag.help += " Required."


def _tell_of_settings() -> None:
    """The last line of --help, where there are settings behind a flag."""
    if any(isinstance(flags.FLAGS[name].parser, _ConfigFile) for name in flags.FLAGS) and "--helpxml" not in sys.argv:
        print("All settings behind --config: python -m mmgen_jax.settings, or mmgen settings.")


def _unread() -> bool:
    """Whether what reads standard output has ended, as head does. Then what is left to write there is dropped."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    unread = any(event & select.POLLERR for _, event in poll.poll(0))
    if unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more when it ends
    return unread


def _is_of_machine(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in OF_MACHINE


def _first_told(error: BaseException | None) -> RunError | None:
    """The RunError that led to this error, or None: closing files after a failure often fails once more."""
    while error is not None and not isinstance(error, RunError):
        error = error.__context__
    return error


def _in_thread(failure: threading.ExceptHookArgs) -> None:
    """Hides a disk that fails from threads that write logs: the main thread writes to it too, and reports it."""
    if not _is_of_machine(failure.exc_value):
        threading.__excepthook__(failure)


def run(main: Callable[[list[str]], object], leave: Callable[[int], object] = sys.exit) -> None:
    """Runs `main` as `absl.app.run` does, but ends errors that a user can mend in one line instead of a traceback.

    The exit code is 2 for bad flags, UsageErrors and file errors, 3 for RunErrors and a disk that is full or fails, 75
    for a lost host or reading process, 130 for Ctrl-C, and 141 if standard output is read no more. `leave` ends the
    process with that code.
    """

    def guarded(argv: list[str]) -> object:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # at INFO, libraries log every file they touch
        threading.excepthook = _in_thread
        try:
            code = main(argv)
            sys.stdout.flush()
            return code
        except (UsageError, RunError) as error:
            _fail(error, error.exit_code, leave)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _unread():
                leave(EXIT_UNREAD)
                return None
            if _is_of_machine(error):
                where = error.filename or "a file that is being written"  # the name is gone once it is open
                _fail(_first_told(error) or f"{where}: {error.strerror}", EXIT_RUN, leave)
            if error.filename is None:
                raise
            _fail(f"{error.filename}: {error.strerror}", EXIT_USAGE, leave)  # no permission, not a folder
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            leave(EXIT_INTERRUPTED)
        return None

    app.run(guarded, flags_parser=lambda argv: _rest[0] if _rest else _parse(argv))

"""Serves a page on which a model can be played with, in a browser on this machine.

python -m mmgen_jax.app
python -m mmgen_jax.app --workdir=runs/a --config=shapes_quick --port=8000

Paint or upload any modality, make the others, and take the result along. It needs
./launch/setup.sh --app, or outside a checkout pip install 'mmgen_jax[app]'.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("workdir", "shapes-tiny", "Folder of one run, or the name of a bundled model.")
    flags.DEFINE_string("config", "shapes_tiny", "Recipe that the shown command line names.")
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets in everybody in the network.")
    flags.DEFINE_integer("port", 7860, "Port to listen on.", lower_bound=1, upper_bound=65535)
    command.parse()  # before the imports below, which take seconds

import importlib.util
import os
import socket
from collections.abc import Sequence

from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.system import files, recipes
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError, extra


def check_place(host: str, port: int) -> None:
    """Raises UsageError where nothing can listen."""
    try:
        with socket.socket() as place:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind((host, port))
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"--host is {host!r} and --port {port} ({reason}); allowed: a free port of this machine"
        ) from error


def anywhere(workdir: str, config: str) -> tuple[str, str]:
    """A model and a recipe as they are named in every folder: by a name, or by a path from the root.

    Raises UsageError where there is no such model or recipe.
    """
    if workdir not in model_folders.bundled():
        workdir = str(files.absolute(model_folders.locate(workdir)))
    if recipes.located(config) == config:
        config = os.path.abspath(config)
    return workdir, config


def run(workdir: str, config: str, host: str, port: int) -> None:
    """Serves the page until it is interrupted. Raises UsageError before it starts."""
    workdir, config = anywhere(workdir, config)
    model = MMGen.load(workdir)
    if importlib.util.find_spec("gradio") is None:
        raise UsageError(f"the page needs gradio, which is not installed; {extra('app')} installs it")
    check_place(host, port)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when the library is imported
    from mmgen_jax.app.page import Page

    page = Page(model, workdir, config)
    say(f"page: http://{host}:{port} (Ctrl-C ends it)")
    page.launch(host, port)


def main(argv: Sequence[str]) -> None:
    del argv
    v = flags.FLAGS
    run(v.workdir, v.config, v.host, v.port)


if __name__ == "__main__":
    command.run(main)

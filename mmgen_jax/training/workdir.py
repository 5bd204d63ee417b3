"""What a run writes in its workdir, and whether something else is there."""

from __future__ import annotations

from etils import epath

from mmgen_jax.checkpoints import restore
from mmgen_jax.frozen.autoencoders import arrays_file
from mmgen_jax.models import architectures
from mmgen_jax.system import files, sealed
from mmgen_jax.telemetry import profiler, writer
from mmgen_jax.training import history, preview

FOLDERS = (restore.FOLDER, writer.BOARD_FOLDER, preview.FOLDER, profiler.FOLDER)
FILES = (
    *(writer.METRICS_FILE, writer.EVENTS_FILE, history.FIRST, history.CHANGES),
    *(architectures.FILE, arrays_file.FILE, sealed.FILE),
)


def check(workdir: epath.PathLike) -> None:
    """Raises UsageError or RunError unless all that a run writes can be written, whatever stands in its place.

    To be called before the first step, as what is found later ends a run that has been computing.
    """
    for names, folder in ((FOLDERS, True), (FILES, False)):
        for name in names:
            files.check_place(epath.Path(workdir) / name, "workdir entry", folder=folder)

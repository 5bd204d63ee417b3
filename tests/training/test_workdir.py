"""What stands in a workdir in place of the folders and files of a run is told before the first step, and stays."""

import os

import pytest

from mmgen_jax import train
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry.profiler import REQUEST, Profiler
from mmgen_jax.training import setup, workdir


def put(path, kind):
    """Makes a folder, a FIFO, ... at a path, with something of the user's in it where there can be."""
    if kind == "a folder":
        (path / "mine").mkdir(parents=True)
    elif kind == "a file":
        path.write_text("mine")
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to({"a device": "/dev/null", "a link that leads nowhere": path.name}[kind])


@pytest.mark.parametrize("kind", ["a folder", "a file", "a FIFO", "a device", "a link that leads nowhere"])
def test_what_cannot_be_written_is_told_before_anything_is_read(kind, tiny_config, tmp_path, monkeypatch):
    """A link to itself stands for all that lead nowhere."""
    monkeypatch.setattr(setup, "open_data", None)
    for names, wanted in ((workdir.FOLDERS, "a folder"), (workdir.FILES, "a file")):
        for name in names if kind != wanted else ():
            folder = tmp_path / wanted / name
            folder.mkdir(parents=True)
            put(folder / name, kind)
            before = sorted(folder.rglob("*"))
            with pytest.raises(UsageError) as caught:
                train.train(tiny_config, folder)
            assert str(caught.value) == f"workdir entry {folder / name} is {kind}; allowed: {wanted}"
            assert sorted(folder.rglob("*")) == before


def test_all_that_a_run_writes_is_looked_at(tiny_config, tmp_path):
    tiny_config.train.update({"steps": 2, "sample_every": 2})
    tiny_config.sample.steps = 1
    train.train(tiny_config, tmp_path / "run", (2, 2))
    tiny_config.train.steps = 3
    train.train(tiny_config, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*workdir.FOLDERS, *workdir.FILES}


def test_a_folder_is_no_request_for_a_trace(tmp_path):
    """On a file system without large letters, the folder of the traces is."""
    (tmp_path / REQUEST).mkdir()
    profiler = Profiler(tmp_path, None)
    profiler.look(3)
    assert (tmp_path / REQUEST).is_dir() and not profiler.ends(4)

"""Whatever is in a folder of checkpoints: what is not sound is told in one line and skipped, and never ends a run."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmgen_jax import verify
from mmgen_jax.checkpoints import readback, restore, seal
from mmgen_jax.checkpoints.saver import Saver, write
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.training.state import TrainState

MANIFEST = "sha256-00000-of-00001.json"


def make_state(step: int) -> TrainState:
    params = {"large": jax.random.normal(jax.random.key(step), (300, 100)), "small": jnp.ones(3)}
    return TrainState(jnp.int32(step), params, jax.tree.map(jnp.copy, params), optax.adam(1e-3).init(params))


def save(workdir, steps, start=0) -> None:
    with Saver(workdir, 5, 1, start) as saver:
        for step in steps:
            saver.save(step, make_state(step), {"samples": step}, 1 / step)
        saver.finish()


def load(workdir) -> tuple[TrainState, dict]:
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: make_state(0))
    return restore.restore(
        workdir, jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes)
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A workdir with checkpoints of steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("run")
    save(workdir, (1, 2))
    return workdir


@pytest.fixture
def folder(original, tmp_path):
    """The checkpoints of a copy of that workdir."""
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy" / restore.FOLDER


def edit(path, **entries) -> None:
    """Changes entries of a manifest; those of value None are left out."""
    stored = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: value for name, value in stored.items() if value is not None}))


def as_old(path, **entries) -> None:
    """Makes a manifest one of before manifests had checksums of themselves."""
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({"loss": stored["loss"], "files": stored["files"]} | entries))


def listed(path, part: int) -> dict:
    """A part of the files that a manifest lists: every `part`-th."""
    return dict(list(json.loads(path.read_text())["files"].items())[::part])


def replace(path, make) -> None:
    """Puts something else in the place of a file, with the same bytes where it has some."""
    data = path.read_bytes()
    path.unlink()
    make(path, data)


def link(path, data) -> None:
    (path.parent / ".elsewhere").write_bytes(data)
    path.symlink_to(path.parent / ".elsewhere")


def folder_of_it(path, data) -> None:
    path.mkdir()
    (path / "file").write_bytes(data)


def rewritten_meta(text: str, sealed: bool):
    """The meta data are replaced, and the checkpoint is sealed again, or not."""

    def hurt(folder):
        (folder / "meta" / "metadata").write_text(text)
        (folder / MANIFEST).unlink()
        if sealed:
            seal.write_manifest(folder)

    return hurt


def renamed_from_older(folder) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "1", folder)


def unmerged(folder, sealed=True) -> None:
    """As Orbax leaves it where it does not find what its processes wrote."""
    (folder / "state" / "manifest.ocdbt").unlink()
    shutil.rmtree(folder / "state" / "d")
    if sealed:
        (folder / MANIFEST).unlink()
        seal.write_manifest(folder)


def a_file(folder) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"not a folder")


M = MANIFEST
CHANGED = "has another checksum than when it was written"
HURT = {
    # manifests
    "loss changed": (lambda f: edit(f / M, loss=0.0001), f"{M} {CHANGED}"),
    "loss of text": (lambda f: edit(f / M, loss="0.1"), f"{M} {CHANGED}"),
    "loss left out": (lambda f: edit(f / M, loss=None), f"{M} {CHANGED}"),
    "step changed": (lambda f: edit(f / M, step="3"), f"{M} {CHANGED}"),
    "no files": (lambda f: edit(f / M, files={}), f"{M} {CHANGED}"),
    "half of the files": (lambda f: edit(f / M, files=listed(f / M, 2)), f"{M} {CHANGED}"),
    "an entry too many": (lambda f: edit(f / M, more=1), f"{M} {CHANGED}"),
    "no own sum": (lambda f: edit(f / M, sha256=None), "cannot be read (KeyError)"),
    "own sum of no text": (lambda f: edit(f / M, sha256=[1]), f"{M} {CHANGED}"),
    "old: no files": (lambda f: as_old(f / M, files={}), "is not listed in its manifests"),
    "old: half of the files": (lambda f: as_old(f / M, files=listed(f / M, 2)), "is not listed in its manifests"),
    "old: a file too many": (lambda f: as_old(f / M, files=listed(f / M, 1) | {"x": [1, ""]}), "x is missing"),
    "old: a file elsewhere": (
        lambda f: as_old(f / M, files=listed(f / M, 1) | {"../1/meta/metadata": [1, ""]}),
        "../1/meta/metadata has",
    ),
    "old: loss of text": (lambda f: as_old(f / M, loss="0.1"), "has a loss that is not a number"),
    "old: loss of a list": (lambda f: as_old(f / M, loss=[0.1]), "has a loss that is not a number"),
    "old: loss too large": (lambda f: as_old(f / M, loss=10**400), "cannot be read (OverflowError)"),
    "old: files of a list": (lambda f: as_old(f / M, files=[1, 2]), "cannot be read (AttributeError)"),
    "old: files of numbers": (lambda f: as_old(f / M, files={"a": 1}), "cannot be read (TypeError)"),
    "old: sizes of text": (lambda f: as_old(f / M, files={"a": ["b", "c"]}), "cannot be read (ValueError)"),
    "old: infinite size": (lambda f: as_old(f / M, files={"a": [float("inf"), ""]}), "cannot be read (OverflowError)"),
    "nothing": (lambda f: (f / M).write_text(""), "is damaged or not JSON"),
    "empty table": (lambda f: (f / M).write_text("{}"), "cannot be read (KeyError)"),
    "a number": (lambda f: (f / M).write_text("7"), "is JSON of the type int"),
    "null": (lambda f: (f / M).write_text("null"), "is JSON of the type NoneType"),
    "a list": (lambda f: (f / M).write_text("[]"), "is JSON of the type list"),
    "nested lists": (lambda f: (f / M).write_text("[" * 100_000), "is damaged or not JSON"),
    "nested tables": (lambda f: (f / M).write_text('{"a":' * 100_000), "is damaged or not JSON"),
    "bytes": (lambda f: (f / M).write_bytes(bytes(range(128, 256))), "is damaged or not a text in UTF-8"),
    "zeros": (lambda f: (f / M).write_bytes(bytes(500)), "is damaged or not JSON"),
    "digits without end": (lambda f: (f / M).write_text("9" * 10_000), "is damaged or not JSON"),
    "manifest a folder": (lambda f: replace(f / M, folder_of_it), f"{M} is a folder"),
    "manifest a link": (lambda f: replace(f / M, link), f"{M} is neither a file nor a folder"),
    "manifest a FIFO": (lambda f: replace(f / M, lambda p, _: os.mkfifo(p)), f"{M} is neither a file nor a folder"),
    # files
    "meta a folder": (lambda f: replace(f / "meta" / "metadata", folder_of_it), "is not listed in its manifests"),
    "meta an empty folder": (lambda f: replace(f / "meta" / "metadata", lambda p, _: p.mkdir()), "metadata is missing"),
    "meta a link": (lambda f: replace(f / "meta" / "metadata", link), "metadata is neither a file nor a folder"),
    "meta a FIFO": (
        lambda f: replace(f / "meta" / "metadata", lambda p, _: os.mkfifo(p)),
        "metadata is neither a file nor a folder",
    ),
    "a link in a circle": (lambda f: (f / "state" / "again").symlink_to(f), "again is neither a file nor a folder"),
    "a link to nothing": (lambda f: (f / "state" / "none").symlink_to("none/x"), "none is neither a file nor a folder"),
    "a device": (lambda f: (f / "zero").symlink_to("/dev/zero"), "zero is neither a file nor a folder"),
    "a file too many": (lambda f: (f / "state" / "d" / "more").write_bytes(b"1"), "state/d/more is not listed in its"),
    "a file": (a_file, "Not a directory"),
    "nothing in it": (lambda f: (shutil.rmtree(f), f.mkdir()), "Error"),
    "another step": (renamed_from_older, f"{M} is of step 1"),
    # what was sealed though it is no checkpoint
    "not merged": (unmerged, "NOT_FOUND"),
    "not merged, unsealed": (lambda f: unmerged(f, sealed=False), "is missing"),
    "sealed without state": (lambda f: (shutil.rmtree(f / "state"), (f / M).unlink(), seal.write_manifest(f)), "Error"),
    "sealed without meta": (lambda f: (shutil.rmtree(f / "meta"), (f / M).unlink(), seal.write_manifest(f)), "Error"),
}
META = {
    "{}": "samples in its meta data is 'None'; it must be a count",
    '{"step": 2}': "samples in its meta data is 'None'; it must be a count",
    '{"samples": "many"}': "samples in its meta data is 'many'; it must be a count",
    '{"samples": -1}': "samples in its meta data is '-1'; it must be a count",
    '{"samples": 1.5}': "samples in its meta data is '1.5'; it must be a count",
    '{"samples": true}': "samples in its meta data is 'True'; it must be a count",
    '{"samples": NaN}': "samples in its meta data is 'nan'; it must be a count",
    '{"samples": [1]}': "samples in its meta data is '[1]'; it must be a count",
    '{"samples": 99999999999999999999}': "samples in its meta data is '99999999999999999999'; it must be a count",
    '{"samples": 2, "damaged": "x"}': "damaged in its meta data is 'x'; it must be a count",
    '{"samples": 2, "data": {}}': "data in its meta data is '{}'; it must be a text",
    "[]": "its meta data are of type list, not a table",
    "2": "its meta data are of type int, not a table",
    "": "JSONDecodeError",
    "[" * 100_000: "RecursionError",
}
for number, (text, reason) in enumerate(META.items()):
    HURT[f"meta {number}, sealed"] = rewritten_meta(text, True), reason
    HURT[f"meta {number}, unsealed"] = rewritten_meta(text, False), reason


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of reads that Orbax gave up
@pytest.mark.parametrize("name", HURT)
def test_what_is_not_sound_is_told_and_skipped_and_set_aside(folder, name, capsys):
    hurt, reason = HURT[name]
    hurt(folder / "2")
    with pytest.raises(RunError, match="^1 of 2 checkpoints in .* damaged; training and sampling skip them$"):
        verify.verify(folder.parent)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step 1: sound, ") and second.startswith("step 2: damaged: ") and reason in second
    state, meta = load(folder.parent)
    jax.tree.map(np.testing.assert_array_equal, state, make_state(1))
    assert meta == {"samples": 1}
    assert restore.restore_ema(folder.parent)[1] == 1 and "opt_state" in restore.entries(folder.parent)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:  # they may name different files, as arrays are read side by side and the first failure is told
        assert line.startswith("checkpoint of step 2 skipped, it is damaged: ") and reason in line
    save(folder.parent, (2, 3), start=1)
    assert [int(load(folder.parent)[0].step), *restore.steps_in(restore.folder_of(folder.parent))] == [3, 1, 2, 3]
    assert os.path.lexists(folder / "damaged" / "2")


@pytest.mark.parametrize("name", HURT)
def test_damage_of_an_older_one_does_not_end_a_run(folder, name):
    """It is only looked at when old ones are deleted."""
    HURT[name][0](folder / "2")
    save(folder.parent, (3,), start=2)
    assert int(load(folder.parent)[0].step) == 3


def test_every_flipped_bit_of_a_manifest_is_noticed(folder):
    path = folder / "2" / M
    data = path.read_bytes()
    stored = seal.read_seal(folder / "2")
    silent = []
    for bit in np.random.default_rng(0).choice(8 * len(data), 300, replace=False):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            if seal.read_seal(folder / "2") != stored:  # the case of an "e" in a number changes nothing
                silent.append(bit)
        except seal.Damage:
            pass
    assert silent == []


def test_seals_of_older_versions_are_sound_without_a_word(folder, capsys):
    for step in ("1", "2"):
        as_old(folder / step / M)
    verify.verify(folder.parent)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "2: sound, " in lines[1] and lines[1].endswith("loss 0.5000")
    assert load(folder.parent)[1] == {"samples": 2} and capsys.readouterr().out == ""


def test_what_systems_leave_in_folders_is_not_damage(folder):
    for name in (".DS_Store", "state/._d", "state/d/.nfs0001", ".Trash/file"):
        (folder / "2" / name).parent.mkdir(exist_ok=True)
        (folder / "2" / name).write_bytes(b"1")
    assert restore.examine(restore.folder_of(folder.parent) / "2")


@pytest.mark.parametrize(
    "name", ["007", "02", "00", "³", "٩", "２", "1_0", "+3", "-3", "3.0", "1e3", " 3", "3 ", "0x3", "Ⅷ"]
)
@pytest.mark.parametrize("filled", [False, True])
def test_what_only_looks_like_a_number_is_no_step(folder, name, filled, capsys):
    if filled:
        shutil.copytree(folder / "2", folder / name)
    else:
        (folder / name).mkdir()
    verify.verify(folder.parent)
    assert capsys.readouterr().out.count("sound") == 2
    assert load(folder.parent)[1] == {"samples": 2}
    save(folder.parent, (3,), start=2)
    assert restore.steps_in(restore.folder_of(folder.parent)) == [1, 2, 3] and (folder / name).is_dir()


@pytest.mark.parametrize("name", [".deleted", "damaged"])
@pytest.mark.parametrize("kind", ["a file", "a link to a folder", "a link to a file", "a link to nothing"])
def test_folders_of_the_saver_that_are_something_else(folder, tmp_path, name, kind):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "precious").write_text("1")
    if kind == "a file":
        (folder / name).write_text("1")
    else:
        (folder / name).symlink_to(tmp_path / "target" / {"a link to a file": "precious"}.get(kind, ""))
        if kind == "a link to nothing":
            (folder / name).unlink()
            (folder / name).symlink_to("nothing")
    with Saver(folder.parent, 1, 0, 1) as saver:  # sets 2 aside, and deletes 1 in the end
        saver.save(2, make_state(2), {"samples": 2})
        saver.finish()
    assert restore.steps_in(restore.folder_of(folder.parent)) == [2] and load(folder.parent)[1] == {"samples": 2}
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["precious"]
    assert list(folder.glob("damaged*/2/meta/metadata"))


def test_a_save_that_cannot_be_read_back_is_never_sealed(tmp_path, monkeypatch):
    """Orbax's merge of what its processes wrote can find nothing, without an error."""
    save(tmp_path, (1,))

    async def merge(*_args, **_kwargs):
        return None

    monkeypatch.setattr("orbax.checkpoint._src.serialization.ocdbt_utils.merge_ocdbt_per_process_files", merge)
    with pytest.raises(RunError, match=r"^checkpoint of step 2 could not be written to .*NOT_FOUND.* is of step 1$"):
        with Saver(tmp_path, 5, 0, 1) as saver:
            saver.save(2, make_state(2), {"samples": 2})
            saver.finish()
    assert not seal.is_sealed(tmp_path / restore.FOLDER / "2")
    with pytest.raises(seal.Damage, match="NOT_FOUND"):
        write(tmp_path / "other", 1, {"ema": {"w": np.ones(3)}}, {"samples": 1})
    monkeypatch.undo()
    assert load(tmp_path)[1] == {"samples": 1}


def test_reading_back_reads_little(original, monkeypatch):
    """Large arrays are opened, and not read."""
    read = []
    of_orbax = readback.ocp.PyTreeCheckpointHandler.restore

    def spy(self, *args, **kwargs):
        read.append(of_orbax(self, *args, **kwargs))
        return read[-1]

    monkeypatch.setattr(readback.ocp.PyTreeCheckpointHandler, "restore", spy)
    readback.check(restore.folder_of(original) / "2")
    sizes = {name: [leaf.size for leaf in jax.tree.leaves(entry) if leaf is not ...] for name, entry in read[0].items()}
    assert sizes == {"step": [1], "params": [3], "ema": [3], "opt_state": [1]}


def test_folders_without_any_step(tmp_path):
    (tmp_path / restore.FOLDER / "007").mkdir(parents=True)
    with pytest.raises(UsageError, match="^no checkpoint in "):
        verify.verify(tmp_path)

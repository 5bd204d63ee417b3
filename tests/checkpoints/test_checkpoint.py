"""Checkpoints: what was saved comes back, and what is damaged is told, and skipped where there is an older one."""

import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import checkpoint_manager

from mmgen_jax import verify
from mmgen_jax.checkpoints import restore, seal
from mmgen_jax.checkpoints.saver import Saver, to_keep
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.training.state import TrainState

PAGE = 4096  # bytes, in which a file system in memory hands out room


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir with checkpoints of steps 1 and 2, whose arrays are too large to be stored in the index file."""
    folder = tmp_path_factory.mktemp("run")
    save(folder, (1, 2))
    return folder


def save(folder, steps, keep=5, keep_best=0, losses=None):
    with Saver(folder, keep, keep_best, max(restore.steps_in(restore.folder_of(folder)), default=0)) as saver:
        for step in steps:
            saver.save(step, make_state(step), {"samples": step}, losses and losses[step])
        saver.finish()


def make_state(step: int) -> TrainState:
    params = {"large": jax.random.normal(jax.random.key(step), (300, 100)), "small": jnp.ones(3)}
    return TrainState(jnp.int32(step), params, jax.tree.map(jnp.copy, params), optax.adam(1e-3).init(params))


def load(folder, step=None, make=make_state, where=None):
    where = where or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: make(0))
    abstract = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)
    return restore.restore(folder, abstract, step)


def test_what_was_saved_comes_back(workdir, capsys):
    for step in (1, 2):
        state, meta = load(workdir, step)
        jax.tree.map(np.testing.assert_array_equal, state, make_state(step))
        assert meta == {"samples": step}
        ema, found = restore.restore_ema(workdir, step)
        np.testing.assert_array_equal(ema["large"], state.ema["large"])
        assert found == step
    assert capsys.readouterr().out == ""


def test_a_save_that_waits_for_the_one_before_says_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpoint_manager, "_WAIT_FOR_PREV_SAVE_WARNING_THRESHOLD_SECS", 0.0)
    save(tmp_path, (1, 2))
    assert [record.getMessage() for record in caplog.records] == []


def test_other_meshes_can_read_it(workdir):
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = {2: jax.P("data", "fsdp")}
    shapes = jax.eval_shape(lambda: make_state(0))
    abstract = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(
            s.shape, s.dtype, sharding=jax.NamedSharding(mesh, spec.get(len(s.shape), jax.P()))
        ),
        shapes,
    )
    state, _ = restore.restore(workdir, abstract)
    assert state.params["large"].addressable_shards[0].data.shape == (75, 50)
    jax.tree.map(np.testing.assert_array_equal, state, make_state(2))


def large_files(folder):
    """The files that hold arrays. How many files Orbax writes differs from run to run."""
    found = [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 10_000]
    assert found
    return found


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES = {
    "one bit of the arrays": (lambda folder: [flip(p) for p in large_files(folder)], "has another checksum"),
    "arrays cut off": (lambda folder: [p.write_bytes(p.read_bytes()[:1000]) for p in large_files(folder)], "1000 byte"),
    "arrays missing": (lambda folder: [p.unlink() for p in large_files(folder)], "is missing"),
    "index cut off": (lambda folder: (folder / "state" / "manifest.ocdbt").write_bytes(b"\f\xdb"), "has 2 bytes inst"),
    "index missing": (lambda folder: (folder / "state" / "manifest.ocdbt").unlink(), "manifest.ocdbt is missing"),
    "tree missing": (lambda folder: (folder / "state" / "_METADATA").unlink(), "_METADATA is missing"),
    "state missing": (lambda folder: shutil.rmtree(folder / "state"), "is missing"),
    "meta damaged": (lambda folder: flip(folder / "meta" / "metadata"), "meta/metadata has another checksum"),
    "manifest cut off": (lambda folder: manifest(folder).write_bytes(b'{"loss": nu'), "is damaged or not JSON"),
}


def manifest(folder):
    (path,) = folder.glob("sha256-*.json")
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_ones_are_skipped_with_the_reason(workdir, tmp_path, damage, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    hurt, reason = DAMAGES[damage]
    hurt(copy / restore.FOLDER / "2")
    state, meta = load(copy)
    jax.tree.map(np.testing.assert_array_equal, state, make_state(1))
    assert meta == {"samples": 1} and restore.restore_ema(copy)[1] == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]
    assert lines[0].startswith("checkpoint of step 2 skipped, it is damaged: ") and reason in lines[0]
    with pytest.raises(
        UsageError, match=r"^checkpoint of step 2 in .* is damaged or belongs to another model \("
    ) as caught:
        load(copy, 2)
    assert "\n" not in str(caught.value)
    hurt(copy / restore.FOLDER / "1")
    with pytest.raises(UsageError, match=r"^no checkpoint in .* can be read; all are .* model: 2, 1 \(2: .*anew$"):
        load(copy)


def test_verify_tells_of_each_one(workdir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    verify.verify(copy)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(re.fullmatch(r"step [12]: sound, 0.\d MB in \d+ files", line) for line in lines)
    manifest(copy / restore.FOLDER / "1").unlink()
    flip(large_files(copy / restore.FOLDER / "2")[0])
    with pytest.raises(RunError, match=f"^1 of 2 checkpoints in {copy}/checkpoints damaged; "):
        verify.verify(copy)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step 1: no checksums (") and second.startswith("step 2: damaged: state/")
    with pytest.raises(UsageError, match="no checkpoint in"):
        verify.verify(tmp_path)


UNSEEN = ("one bit of the arrays", "meta damaged", "manifest cut off")  # only checksums tell


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of reads that Orbax gave up
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in UNSEEN])
def test_without_checksums_what_cannot_be_read_is_skipped(workdir, tmp_path, damage, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    manifest(copy / restore.FOLDER / "2").unlink()
    DAMAGES[damage][0](copy / restore.FOLDER / "2")
    assert load(copy)[1] == {"samples": 1}
    line = capsys.readouterr().out
    assert line.startswith("checkpoint of step 2 skipped, it is damaged: ") and line.count("\n") == 1


def test_one_without_checksums_is_used_and_it_is_said(workdir, tmp_path, capsys):
    shutil.copytree(workdir, tmp_path / "copy")
    manifest(tmp_path / "copy" / restore.FOLDER / "2").unlink()
    assert load(tmp_path / "copy")[1] == {"samples": 2}
    assert capsys.readouterr().out.startswith("checkpoint of step 2 has no checksums (")


def test_a_sound_one_of_another_model_is_not_skipped(workdir):
    def other(step):
        return TrainState(jnp.int32(step), {"wide": jnp.ones(7)}, {"wide": jnp.ones(7)}, ())

    with pytest.raises(
        UsageError,
        match="checkpoint of step 2 in .* is sound, but belongs to another model or optimizer than that of the config",
    ):
        load(workdir, make=other)


def test_the_newest_and_the_best_stay():
    losses = {1: 0.5, 2: 0.1, 3: 0.3, 4: 0.4, 5: None, 6: float("nan")}
    assert to_keep(losses, 2, 0) == {5, 6}
    assert to_keep(losses, 2, 1) == {2, 5, 6}
    assert to_keep(losses, 4, 2) == {2, 3, 4, 5, 6}
    assert to_keep({}, 2, 1) == set()


def test_old_ones_are_deleted_after_the_new_one_is_sealed(tmp_path, monkeypatch):
    folder = restore.folder_of(tmp_path)
    removed = []

    def remove(where, step, _remove=restore.remove):
        sealed = [s for s in restore.steps_in(where) if seal.is_sealed(where / str(s))]
        removed.append((step, max(sealed)))
        _remove(where, step)

    monkeypatch.setattr(restore, "remove", remove)
    save(tmp_path, (1, 2, 3, 4), keep=2, keep_best=1, losses={1: 0.1, 2: 0.4, 3: 0.3, 4: 0.2})
    assert restore.steps_in(folder) == [1, 3, 4] and removed == [(2, 4)]
    assert sorted(p.name for p in folder.iterdir() if not p.name.isdigit()) == []


def test_an_unsealed_one_never_pushes_out_a_sealed_one(tmp_path):
    save(tmp_path, (1, 2), keep=2)
    manifest(tmp_path / restore.FOLDER / "2").unlink()
    save(tmp_path, (3,), keep=2)
    assert restore.steps_in(restore.folder_of(tmp_path)) == [1, 3]


def test_damaged_ones_are_set_aside_and_their_steps_saved_again(tmp_path, capsys):
    save(tmp_path, (1, 2))
    folder = tmp_path / restore.FOLDER
    for _ in range(2):
        for path in large_files(folder / "2"):
            flip(path)
        assert int(load(tmp_path)[0].step) == 1
        with Saver(tmp_path, 5, 0, 1) as saver:
            saver.save(2, make_state(2), {"samples": 2})
            saver.finish()
        assert int(load(tmp_path)[0].step) == 2
    assert "checkpoint of step 2 set aside: moved to " in capsys.readouterr().out
    assert sorted(p.name for p in (folder / "damaged").iterdir()) == ["2", "2-2"]


def test_a_run_that_fails_still_seals_what_it_saved(tmp_path):
    with pytest.raises(RunError, match="of something else"):
        with Saver(tmp_path, 5, 0, 0) as saver:
            saver.save(1, make_state(1), {"samples": 1})
            raise RunError("of something else")
    assert seal.is_sealed(tmp_path / restore.FOLDER / "1")


def test_a_disk_with_room_for_a_bit_less_than_a_checkpoint(mounted, tmp_path):
    """Whichever file is the first that does not fit: the step before stays, and what is there can be read."""

    def free(path):
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize // PAGE

    with mounted(tmp_path / "disk", "size=4m") as disk:
        save(disk / "run", (1,))
        shutil.copytree(disk / "run", tmp_path / "begun")
        before = free(disk)
        save(disk / "run", (2,))
        needed = before - free(disk)
        failed = []
        for pages in (0, needed // 3, needed - 3, needed - 2, needed - 1, needed + 8):  # sizes differ by a few bytes
            shutil.rmtree(disk / "run")
            shutil.copytree(tmp_path / "begun", disk / "run")
            (disk / "filler").write_bytes(bytes((free(disk) - pages) * PAGE))
            try:
                save(disk / "run", (2,))
            except RunError as error:
                failed.append(pages)
                told = "step 2 could not be written to .*: No space left on device; the newest whole one is of step 1$"
                assert re.search(told, str(error))
            state, _ = load(disk / "run")
            newest = int(state.step)  # 2 where nothing but the sums had no room
            jax.tree.map(np.testing.assert_array_equal, state, make_state(newest))
            (disk / "filler").unlink()
            save(disk / "run", (newest + 1,))
            assert int(load(disk / "run")[0].step) == newest + 1
        assert {0, needed // 3} <= set(failed) and needed + 8 not in failed


def test_a_failed_write_is_one_line_and_older_ones_stay(tmp_path, monkeypatch):
    save(tmp_path, (1,))

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="step 2 could not be written to .*: No space left.*; the newest .* of step 1$"):
        with Saver(tmp_path, 5, 0, 1) as saver:
            monkeypatch.setattr(seal, "write_manifest", full)
            saver.save(2, make_state(2), {"samples": 2})
            saver.finish()
    monkeypatch.undo()
    assert int(load(tmp_path, 1)[0].step) == 1

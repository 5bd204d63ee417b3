"""The main job from data to checkpoint: exact resume, pinned losses, clear errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import image_trees
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mmgen_jax import encode, settings, train
from mmgen_jax.checkpoints import model_folders, restore, seal, weights
from mmgen_jax.data import tiles, train_data
from mmgen_jax.data.trees import builder
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import files, preemption
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.training import setup

# (loss, norm of the gradient, of the update, of the parameters) of steps 1 and 4. Renew after a deliberate change of
# model, data or randomness: run this file with -k pinned and copy the values that the failure shows.
PINNED = [[5.85763, 1.31420, 0.0174539, 16.6054], [5.77222, 1.29921, 0.0521338, 16.6079]]
ROOT = Path(__file__).parents[1]


def losses(workdir) -> dict[int, float]:
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines)}


def arrays(workdir, step):
    return jax.tree.map(np.asarray, restore.restore_ema(workdir, step)[0])


def whole_state(workdir, step):
    """Parameters, EMA, optimizer state and step."""
    return ocp.StandardCheckpointer().restore((workdir / "checkpoints" / str(step) / "state").resolve())


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_bitwise_exact(tiny_config, tmp_path, workers):
    """The uninterrupted run reads its data in threads; the resumed one reads in threads or in two processes."""
    train.train(tiny_config, tmp_path / "whole")
    tiny_config.data.workers = workers
    tiny_config.train.steps = 2
    train.train(tiny_config, tmp_path / "parts")
    tiny_config.train.steps = 4
    train.train(tiny_config, tmp_path / "parts")
    whole, parts = (whole_state(tmp_path / name, 4) for name in ("whole", "parts"))
    assert set(whole) == {"step", "params", "ema", "opt_state"}
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert whole == parts and sorted(whole) == [1, 2, 3, 4]


def test_pinned_losses_and_norms(tiny_config, tmp_path):
    train.train(tiny_config, tmp_path)
    rows = {row["step"]: row for row in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())}
    found = [[rows[i][k] for k in ("loss", "grad_norm", "update_norm", "param_norm")] for i in (1, 4)]
    np.testing.assert_allclose(found, PINNED, rtol=1e-3, err_msg=str(found))


def test_position_in_the_data_is_counted_in_samples(tiny_config, tmp_path):
    tiny_config.train.steps = 2
    train.train(tiny_config, tmp_path)
    tiny_config.train.update({"batch": 8, "steps": 4})
    train.train(tiny_config, tmp_path)
    meta = json.loads((tmp_path / "checkpoints" / "4" / "meta" / "metadata").read_text())
    assert meta["samples"] == 2 * 16 + 2 * 8


def test_a_finished_run_says_so_and_does_nothing(tiny_config, tmp_path, capsys):
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    train.train(tiny_config, tmp_path)
    assert "nothing to do: step 1" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_previews_and_files_of_a_run(tiny_config, tmp_path, capsys):
    tiny_config.train.update({"steps": 2, "sample_every": 2})
    train.train(tiny_config, tmp_path)
    assert (tmp_path / "samples" / "00000002.png").stat().st_size > 1000
    assert {"config.json", "model.json", "autoencoder.safetensors", "metrics.jsonl", "tensorboard"} <= {
        p.name for p in tmp_path.iterdir()
    }
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("step 2/2"))
    for part in ("loss", "steps/s", "left 0:00", "rgb", "depth", "normal", "mask"):
        assert part in line


def test_a_workdir_belongs_to_one_run_at_a_time(tiny_config, tmp_path, monkeypatch):
    """Whatever is deleted in it: nothing in it is the lock."""
    tiny_config.train.steps = 1
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.5)
    with files.alone(tmp_path), pytest.raises(UsageError, match="workdir .* is in use by another run, which did not"):
        assert not list(tmp_path.iterdir())
        train.train(tiny_config, tmp_path)
    assert not list(tmp_path.iterdir())
    train.train(tiny_config, tmp_path)
    assert (tmp_path / "checkpoints" / "1").is_dir()


def test_a_run_that_is_told_to_stop_saves_and_draws_nothing(tiny_config, tmp_path, monkeypatch):
    """A machine that is taken away leaves seconds, and pictures take minutes."""
    tiny_config.train.update({"steps": 4, "sample_every": 2})
    asked = iter([0, signal.SIGTERM])
    monkeypatch.setattr(preemption.Requests, "agreed", lambda _: next(asked))
    with pytest.raises(SystemExit) as stopped:
        train.train(tiny_config, tmp_path)
    assert stopped.value.code == 75
    assert seal.read_seal(tmp_path / "checkpoints" / "2").loss is None  # of too few steps to be the best
    assert not (tmp_path / "samples").exists()


def test_fine_tuning_starts_from_the_weights_of_another_run(tiny_config, tmp_path, capsys):
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path / "base")
    tiny_config.train.init_from = str(tmp_path / "base")
    tiny_config.optim.learning_rate = 0.0
    tiny_config.objective.mix = ((1.0, "rgb", 0.0, "all"),)
    train.train(tiny_config, tmp_path / "tuned")
    assert "starting from the weights" in capsys.readouterr().out
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        arrays(tmp_path / "base", 1),
        arrays(tmp_path / "tuned", 1),
    )


def test_a_loss_that_is_not_finite_stops_the_run_with_its_step(tiny_config, tmp_path):
    tiny_config.optim.learning_rate = 1e38
    tiny_config.train.update({"steps": 50, "save_every": 50})
    with pytest.raises(RunError, match=r"step \d+: loss or gradient is not finite"):
        train.train(tiny_config, tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data.image_size": 18}, "data.image_size is 18; it must be a positive multiple of .* = 4"),
        ({"train.batch": 12}, "train.batch / train.accumulate is 12; .* number of devices, 8"),
        ({"train.accumulate": 3}, "train.accumulate is 3; it must divide train.batch = 16"),
        ({"data.modalities": ("rgb", "smell")}, "data.modalities is .*'smell'.*; it must be a tuple of some of rgb"),
        ({"data.dir": "nowhere"}, "data directory 'nowhere' does not exist"),
        ({"data.train_split": "dev"}, "split 'dev' is not in .*; allowed: test, train"),
        ({"objective.mix": ((0.5, "none", 0.0, "all"),)}, "shares of the mix are .*add up to 1"),
        ({"objective.path": "cubic"}, "objective.path is 'cubic'; it must be one of linear, cosine"),
        ({"autoencoder.components": (99, 4, 8, 8)}, "autoencoder.components.rgb is 99; allowed: 1 to 48"),
        ({"autoencoder.components": (8, 4)}, "autoencoder.components has 2 entries; data.modalities has 4"),
        ({"model.heads": 3}, "width=16: must be divisible by heads=3"),
        ({"optim.warmup_steps": 9}, "optim.warmup_steps .* is 9; allowed: at most train.steps = 4"),
        ({"train.init_from": "nowhere"}, "no model at 'nowhere'"),
    ],
)
def test_bad_settings_are_one_clear_line_and_leave_nothing_behind(tiny_config, tmp_path, change, message):
    with tiny_config.unlocked():
        for key, value in change.items():
            section, name = key.split(".")
            tiny_config[section][name] = value
    with pytest.raises(UsageError, match=message) as caught:
        train.train(tiny_config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_image_size_of_the_data_is_checked(tiny_config, tmp_path):
    tiny_config.data.image_size = 32
    with pytest.raises(UsageError, match="is 16x16 pixels; data.image_size wants 32x32"):
        train.train(tiny_config, tmp_path)


def test_a_workdir_of_another_architecture_is_refused_and_kept(tiny_config, tmp_path):
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path)
    before = (tmp_path / "model.json").read_text()
    tiny_config.model.depth = 3
    with pytest.raises(UsageError, match="another architecture: the config's model.depth is 3, the workdir has 2"):
        train.train(tiny_config, tmp_path)
    assert (tmp_path / "model.json").read_text() == before


@pytest.mark.parametrize(
    "section, key, value, stored",
    [
        ("autoencoder", "components", (3, 4, 8, 8), r"\("),
        ("autoencoder", "factor", 2, "4"),
        ("autoencoder", "name", "identity", "'patch_pca'"),
    ],
)
def test_latents_of_a_workdir_or_a_source_are_not_silently_kept(tiny_config, tmp_path, section, key, value, stored):
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path / "run")
    tiny_config[section][key] = value
    with pytest.raises(UsageError, match=f"config key {section}.{key} is .*the model in .*run has {stored}"):
        train.train(tiny_config, tmp_path / "run")
    tiny_config.train.init_from = str(tmp_path / "run")
    with pytest.raises(UsageError, match=f"config key {section}.{key} is"):
        train.train(tiny_config, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_a_run_without_previews_needs_no_test_split(tiny_config, tmp_path):
    tiny_config.train.update({"steps": 1, "sample_every": 0})
    tiny_config.data.test_split = "none"
    train.train(tiny_config, tmp_path)


def test_missing_checkpoints_are_named(tiny_config, tmp_path):
    with pytest.raises(UsageError, match="no checkpoint in"):
        restore.restore_ema(tmp_path)
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path)
    with pytest.raises(UsageError, match=r"no checkpoint of step 7 in .*; there are: 1"):
        restore.restore_ema(tmp_path, 7)


def command(*arguments: str, **kwargs) -> subprocess.Popen:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "mmgen_jax.train", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--config=configs/shapes_tiny.py", "--workdir=x", "--config.model.deepness=4"], "deepness"),
        (["--config=configs/shapes_tiny.py", "--workdir=x", "--config.model.depth=four"], "config.model.depth"),
        (["--config=configs/shapes_tiny.py", "--workdir=x", "--config.data.dir=nowhere"], "'nowhere' does not exist"),
        (
            ["--config=configs/shapes_tiny.py", "--workdir=x", "--config.train.batch=0x10"],
            "config.train.batch is '0x10'",
        ),
        (["--config=configs/missing.py", "--workdir=x"], "configs/missing.py"),
        (["--config=configs/shapes_tiny.py"], "workdir"),
        (["--config=configs/shapes_tiny.py", "--workdir="], "it must not be empty"),
        (["--config=configs/shapes_tiny.py", "--workdir=-rf"], "and not start with a dash (./-name does not)"),
        (["--config=configs/shapes_tiny.py", "--workdir=x", "depth=4"], "unexpected argument 'depth=4'"),
    ],
)
def test_command_line_errors_are_one_line_and_exit_code_2(flags, message):
    process = command(*flags)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    lines = err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert out == "" and not (ROOT / "x").exists()


def test_sigterm_saves_and_the_same_command_resumes(tiles_dir, tmp_path):
    arguments = [
        "--config=configs/shapes_tiny.py",
        f"--workdir={tmp_path}",
        f"--config.data.dir={tiles_dir}",
        *"--config.data.image_size=16 --config.model.depth=1 --config.model.width=16 --config.model.heads=2".split(),
        *"--config.train.batch=8 --config.train.sample_every=0 --config.train.log_every=1".split(),
    ]
    process = command(*arguments)
    for line in process.stdout:
        if line.startswith("step 3/"):
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    stopped = next(x for x in out.splitlines() if x.startswith("stopped at step"))
    step = int(stopped.split()[3])
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())[-1] == step
    process = command(*arguments)
    deadline = time.monotonic() + 120
    for line in process.stdout:
        if line.startswith(f"step {step + 1}/") or time.monotonic() > deadline:
            break
    process.kill()
    assert line.startswith(f"step {step + 1}/")


def test_a_vanished_source_does_not_keep_a_run_from_going_on(tiny_config, tmp_path):
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path / "base")
    tiny_config.train.init_from = str(tmp_path / "base")
    train.train(tiny_config, tmp_path / "tuned")
    (tmp_path / "base").rename(tmp_path / "gone")
    tiny_config.train.steps = 2
    train.train(tiny_config, tmp_path / "tuned")
    assert sorted(losses(tmp_path / "tuned")) == [1, 2]


def test_the_name_of_a_bundled_model_is_no_workdir(tiny_config):
    with pytest.raises(UsageError, match="workdir is 'shapes-tiny', the name of a bundled model"):
        train.train(tiny_config, "shapes-tiny")


def test_checkpoints_count_where_a_workdir_also_has_an_export(tiny_config, tmp_path):
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path)
    architecture, params = model_folders.load(tmp_path)
    weights.save_params(tmp_path / model_folders.WEIGHTS_FILE, jax.tree.map(lambda p: 0 * p, params))
    jax.tree.map(np.testing.assert_array_equal, model_folders.load(tmp_path)[1], params)


# ---- modalities that are absent ----


def without(tiles_dir, folder, modality, kept=0):
    """A copy of the train split of `tiles_dir` that lacks a modality in all tiles except the last `kept`."""
    source = tiles.read_tiles(tiles_dir, "train")
    groups = []
    for i in range(len(source)):
        tile = tiles.decode_tile(source[i])
        found = [m for m in NAMES if m != modality or i >= len(source) - kept]
        for m in found:
            image_trees.save(folder / m / f"{i:03d}.png", tile[m])
        groups.append(Group(f"{i:03d}", {m: str(folder / m / f"{i:03d}.png") for m in found}))
    plan = builder.Plan({"train": groups}, (), tuple(m for m in NAMES if m != modality), Reading(16), False, {})
    return builder.write(builder.TreeTiles, str(folder / "tiles"), plan, 1)


@pytest.mark.parametrize("modality", ["depth", "mask"])
@pytest.mark.parametrize("latents", [False, True])
def test_a_modality_that_no_sample_has_is_refused_before_the_first_step(
    tiny_config, tiles_dir, tmp_path, modality, latents
):
    tiny_config.data.dir = without(tiles_dir, tmp_path, modality)
    tiny_config.autoencoder.name = "identity"
    tiny_config.autoencoder.factor = 2
    if latents:
        tiny_config.data.latents, tiny_config.data.flip = str(tmp_path / "latents"), False
        encode.encode(tiny_config, tmp_path / "latents")
    with pytest.raises(UsageError, match=f"config key data.modalities has {modality}, which no sample of the data has"):
        train.train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_modality_that_one_sample_has_is_trained(tiny_config, tiles_dir, tmp_path):
    tiny_config.data.dir = without(tiles_dir, tmp_path, "depth", kept=1)
    data = setup.open_data(settings.parse(tiny_config))
    assert train_data.absent(data, NAMES) == []


def test_a_model_that_has_a_modality_may_go_on_without_samples_of_it(tiny_config, tiles_dir, tmp_path, capsys):
    tiny_config.train.steps = 1
    train.train(tiny_config, tmp_path / "base")
    tiny_config.data.dir = without(tiles_dir, tmp_path, "mask")
    tiny_config.train.init_from = str(tmp_path / "base")
    train.train(tiny_config, tmp_path / "run")
    assert f"no sample of the data has mask: what {tmp_path}/base knows of it is not trained" in capsys.readouterr().out

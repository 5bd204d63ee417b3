"""The command that trains an autoencoder: exact resume, requests to stop, bad input, and models on what it wrote."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import shapes_autoencoder
from mmgen_jax import MMGen, encode, evaluate, export, train
from mmgen_jax.checkpoints import restore
from mmgen_jax.frozen.autoencoders import arrays_file, conv
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import files, sealed
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.train_autoencoder import __main__ as train_autoencoder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tiles_dir):
    config = shapes_autoencoder.get_config()
    config.data.update({"dir": tiles_dir, "image_size": 16})
    config.autoencoder.update({"factor": 4, "width": 8, "blocks": 1, "channels": 6})
    config.optim.update({"warmup_steps": 0, "decay_steps": 0})
    config.train.update({"batch": 16, "steps": 4, "save_every": 2, "log_every": 1, "sample_every": 0})
    config.evaluate.update({"n": 8, "batch": 8})
    return config


def whole_state(workdir, step):
    return ocp.StandardCheckpointer().restore((workdir / "checkpoints" / str(step) / "state").resolve())


def rows(workdir) -> dict[int, dict]:
    return {row["step"]: row for row in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())}


def test_resume_is_bitwise_exact(config, tmp_path):
    train_autoencoder.train(config, tmp_path / "whole")
    config.train.steps = 2
    train_autoencoder.train(config, tmp_path / "parts")
    config.train.steps = 4
    train_autoencoder.train(config, tmp_path / "parts")
    whole, parts = (whole_state(tmp_path / name, 4) for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    whole, parts = (rows(tmp_path / name) for name in ("whole", "parts"))
    assert {s: r["loss"] for s, r in whole.items()} == {s: r["loss"] for s, r in parts.items()}
    arrays = [(tmp_path / name / arrays_file.FILE).read_bytes() for name in ("whole", "parts")]
    assert arrays[0] == arrays[1]


def test_it_learns_and_says_what_it_loses(config, tmp_path, capsys):
    config.train.update({"steps": 60, "sample_every": 30, "log_every": 10, "save_every": 60})
    config.optim.update({"ema_decay": 0.9, "learning_rate": 1e-2})
    train_autoencoder.train(config, tmp_path)
    found = rows(tmp_path)
    assert found[60]["loss"] < 0.9 * found[10]["loss"] and {f"loss/{m}" for m in NAMES} <= set(found[60])
    assert found[60]["model_tflops"] > 0 and (tmp_path / "tensorboard").is_dir()
    out = capsys.readouterr().out
    assert "round trip at step 30: rgb/psnr" in out and "left 0:00" in out
    table = out[out.index("round trips of held-out scenes") :].splitlines()
    assert table[1].split() == ["conv", "patch_pca"]
    scores = {line.split()[0]: line.split()[1:] for line in table[2:] if line}
    assert {"rgb/psnr", "depth/absrel", "normal/mean", "mask/miou"} <= set(scores)
    assert sealed.read(tmp_path / arrays_file.FILE)
    before = (tmp_path / arrays_file.FILE).read_bytes()
    (tmp_path / arrays_file.FILE).unlink()
    train_autoencoder.train(config, tmp_path)  # a finished run writes and prints the same again
    again = capsys.readouterr().out
    assert "nothing to do: step 60" in again and again.splitlines()[-1] == table[-1]
    assert (tmp_path / arrays_file.FILE).read_bytes() == before


def test_a_new_run_may_start_from_another(config, tmp_path, capsys):
    config.train.steps = 1
    train_autoencoder.train(config, tmp_path / "a")
    config.train.init_from = str(tmp_path / "a")
    config.optim.learning_rate = 0.0
    train_autoencoder.train(config, tmp_path / "b")
    assert "starting from the weights of" in capsys.readouterr().out
    ours, theirs = (restore.restore_ema(tmp_path / name)[0] for name in "ba")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)
    config.autoencoder.width = 16
    with pytest.raises(UsageError, match="config key train.init_from is .*width=8"):
        train_autoencoder.train(config, tmp_path / "c")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"autoencoder.name": "identity"}, "autoencoder.name is 'identity'; train_autoencoder trains 'conv'"),
        ({"autoencoder.factor": 1}, "autoencoder.factor is 1; the factors of conv are 2, 4, 8"),
        ({"train.evaluate_every": 5}, "train.evaluate_every is 5; round trips are scored every train.sample_every"),
        ({"data.latents": "x", "data.flip": False}, "data.latents is 'x'; an autoencoder is trained on tiles"),
        ({"data.dir": "nowhere"}, "'nowhere' does not exist"),
        ({"data.test_split": "dev", "train.sample_every": 1}, "split 'dev' is not in"),
        ({"train.batch": 12}, "train.batch / train.accumulate is 12; .* number of devices, 8"),
        ({"optim.warmup_steps": 9}, "optim.warmup_steps .* is 9; allowed: at most train.steps = 4"),
        ({"train.init_from": "nowhere"}, "nowhere"),
        ({"autoencoder.width": 0}, "autoencoder.width is 0"),
        ({"autoencoder.noise": -1.0}, "autoencoder.noise is -1"),
    ],
)
def test_bad_settings_are_one_clear_line_and_leave_nothing_behind(config, tmp_path, change, message):
    for key, value in change.items():
        section, name = key.split(".")
        config[section][name] = value
    with pytest.raises(UsageError, match=message) as caught:
        train_autoencoder.train(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_workdirs_of_other_runs_are_refused_and_kept(config, tiny_config, tmp_path, monkeypatch):
    tiny_config.train.steps = config.train.steps = 1
    train.train(tiny_config, tmp_path / "model")
    with pytest.raises(UsageError, match="workdir .*model holds a model of mmgen_jax.train; give another one"):
        train_autoencoder.train(config, tmp_path / "model")
    train_autoencoder.train(config, tmp_path / "run")
    before = (tmp_path / "run" / arrays_file.FILE).read_bytes()
    config.autoencoder.width = 16
    with pytest.raises(UsageError, match="autoencoder.width is 16; the run in .*run was begun with 8"):
        train_autoencoder.train(config, tmp_path / "run")
    with pytest.raises(UsageError, match="checkpoint of step 1 in .* is sound, but belongs to another model"):
        train.train(tiny_config, tmp_path / "run")
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.5)
    with files.alone(tmp_path / "run"), pytest.raises(UsageError, match="is in use by another run"):
        train_autoencoder.train(config, tmp_path / "run")
    assert (tmp_path / "run" / arrays_file.FILE).read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_with_its_step(config, tmp_path):
    config.optim.learning_rate = 1e38
    config.train.update({"steps": 50, "save_every": 50})
    with pytest.raises(RunError, match=r"step \d+: loss or gradient is not finite"):
        train_autoencoder.train(config, tmp_path)


def test_sigterm_saves_and_the_same_command_resumes(tiles_dir, tmp_path):
    arguments = {
        "data.dir": tiles_dir,
        "data.image_size": 16,
        "autoencoder.width": 8,
        "autoencoder.blocks": 1,
        "train.log_every": 1,
        "train.batch": 8,
        "evaluate.n": 8,
    }
    command = [sys.executable, "-m", "mmgen_jax.train_autoencoder", "--config=configs/shapes_autoencoder.py"]
    command += [f"--workdir={tmp_path}", *(f"--config.{key}={value}" for key, value in arguments.items())]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options["env"] = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    process = subprocess.Popen(command, **options)
    for line in process.stdout:
        if line.startswith("step 3/"):
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    step = int(next(x for x in out.splitlines() if x.startswith("stopped at step")).split()[3])
    assert restore.steps_in(restore.folder_of(tmp_path))[-1] == step
    assert not (tmp_path / arrays_file.FILE).exists()
    with pytest.raises(UsageError, match=arrays_file.FILE):
        conv.load(tmp_path, NAMES)
    last = [f"--config.train.steps={step + 1}", "--config.optim.warmup_steps=0", "--config.optim.decay_steps=0"]
    done = subprocess.run([*command, *last], timeout=300, **options)
    assert done.returncode == 0, done.stderr
    assert f"resuming from step {step}" in done.stdout and conv.load(tmp_path, NAMES).factor == 8


def test_models_are_trained_on_its_latents(config, tiny_config, tmp_path):
    config.train.steps = 2
    train_autoencoder.train(config, tmp_path / "autoencoder")
    tiny_config.autoencoder.update({"name": "conv", "path": str(tmp_path / "autoencoder"), "factor": 4})
    tiny_config.train.update({"steps": 2, "sample_every": 2})
    tiny_config.sample.update({"steps": 2, "n": 2, "batch": 2})
    tiny_config.evaluate.update({"n": 8, "samples": 8, "steps": 1, "batch": 8})
    train.train(tiny_config, tmp_path / "tiles")
    (tmp_path / "tiles" / "samples" / "00000002.png").stat()

    tiny_config.encode.update({"batch": 8})
    encode.encode(tiny_config, tmp_path / "latents")
    tiny_config.data.update({"latents": str(tmp_path / "latents"), "flip": False})
    train.train(tiny_config, tmp_path / "latent")
    found = [restore.restore_ema(tmp_path / name)[0] for name in ("tiles", "latent")]
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])

    # The model keeps the autoencoder, whatever becomes of the path.
    (tmp_path / "autoencoder").rename(tmp_path / "moved")
    tiny_config.train.steps = 3
    train.train(tiny_config, tmp_path / "latent")
    report = evaluate.run(tiny_config, tmp_path / "latent")
    assert {"rgb/psnr", "mask/miou"} <= set(report["understanding"]["round_trip"])
    export.export(tmp_path / "latent", tmp_path / "exported")
    model = MMGen.load(tmp_path / "exported")
    out = model.generate(class_id=0, n=2, steps=2)
    assert out["rgb"].shape == (2, 16, 16, 3) and model.architecture.autoencoder.name == "conv"
    for m, x in conv.load(tmp_path / "moved", NAMES).arrays().items():
        np.testing.assert_array_equal(model.architecture.autoencoder.arrays()[m], x)
    tiny_config.data.latents, tiny_config.autoencoder.factor = "", 2
    with pytest.raises(UsageError, match="config key autoencoder.factor is 2; the model in .* has 4"):
        train.train(tiny_config, tmp_path / "latent")

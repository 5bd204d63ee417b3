"""Tests the conversion of official checkpoint files, in both directions and end to end."""

import argparse
import dataclasses
import functools
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from mmgen_jax import MMGen, convert, settings
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.frozen.autoencoders import identity
from mmgen_jax.models import architectures
from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.official import checkpoint, from_torch, to_torch
from mmgen_jax.official.names import abstract_params, from_params, to_official, to_params
from mmgen_jax.parallel import sharding
from mmgen_jax.sampling import classifier_free, sample
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import torch_write
from mmgen_jax.tensor_files.torch_pickle import Namespace
from mmgen_jax.training import history, setup
from mmgen_jax.training.optimizer import make_optimizer

GOLDEN = Path(__file__).parent / "golden" / "mmgen_tiny.pt"
ROOT = Path(__file__).parents[1]
OWN = MMDiTConfig(  # pixels of 2 x 2 as latents
    (("rgb", 12), ("depth", 4)),
    depth=2,
    width=16,
    heads=2,
    patch=2,
    num_classes=3,
    encoder_depth=1,
    projector_width=10,
    feature_width=6,
)


def pixels(names):
    return identity.Identity(names, 2)


@functools.cache
def own_weights(seed=0):
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 4, abstract_params(OWN))
    return to_official(params, OWN, latent_size=8)


@functools.cache
def own_checkpoint():
    """A training checkpoint of the official code, with averages of Adam as a run would leave them."""
    model, ema = own_weights(0), own_weights(1)
    rng = np.random.default_rng(2)
    states = {
        i: {
            "step": np.asarray(5, np.float32),
            "exp_avg": rng.normal(size=value.shape).astype(np.float32),
            "exp_avg_sq": rng.uniform(0.1, 1, value.shape).astype(np.float32),
        }
        for i, (name, value) in enumerate(model.items())
        if name != "pos_embed"
    }
    opt = {"state": states, "param_groups": [{"lr": 1e-3, "params": list(range(len(model)))}]}
    args = Namespace(model="custom", encoder_depth=1, batch_size=8, learning_rate=1e-3, path_type="linear")
    return {"model": model, "ema": ema, "opt": opt, "args": args, "steps": 5}


def write_own(folder, **changes):
    torch_write.write(folder / "own.pt", own_checkpoint() | changes)
    return folder / "own.pt"


def refused(text, *arguments, **options):
    with pytest.raises(UsageError, match=text) as caught:
        from_torch.convert(*arguments, pixels, **{"num_heads": 2} | options)
    assert "\n" not in str(caught.value)


def equal(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# ---- the golden file ----


@pytest.fixture(scope="module")
def golden_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("golden") / "out"
    from_torch.convert(GOLDEN, out, convert.stable_diffusion(""), num_heads=4)
    return out


def test_golden_checkpoint_computes_the_golden_outputs(golden_folder):
    model = MMGen.load(golden_folder)
    z = {name[8:]: value for name, value in golden_arrays.arrays().items() if name.startswith("forward/")}
    found = model.velocity(golden_arrays.split(z["x"]), z["t"], z["class"], z["task"])
    assert golden_arrays.largest_difference(found, z["velocity"]) < 1e-4
    assert model.class_names == tuple(map(str, range(10))) and model.architecture.image_size == 64


def test_golden_checkpoint_samples_the_golden_samples(golden_folder):
    model = MMGen.load(golden_folder)
    z = golden_arrays.arrays()
    prompt = Prompt(jnp.asarray(z["sample/class"]), jnp.zeros(3, int))

    def network(x, t, prompt):
        return model.velocity(x, t, prompt.class_id, prompt.task)

    velocity_fn = classifier_free(network, prompt, 10, 1.0)
    case = {name: golden_arrays.split(z[f"sample/em_joint/{name}"]) for name in ("latents", "step_noise")}
    out = sample(velocity_fn, case["latents"], solver="euler_maruyama", steps=6, step_noise=case["step_noise"])
    assert golden_arrays.largest_difference(out, z["sample/em_joint/out"]) < 1e-4


def test_golden_checkpoint_comes_back_bit_by_bit(golden_folder, tmp_path):
    torch = pytest.importorskip("torch")
    to_torch.write(golden_folder, tmp_path / "back.pt")
    with torch.serialization.safe_globals([argparse.Namespace]):
        before = torch.load(GOLDEN, weights_only=True)
    after = torch.load(tmp_path / "back.pt", weights_only=True, mmap=True)
    for part in ("model", "ema"):
        assert list(after[part]) == list(before["ema"])
        assert all(torch.equal(after[part][name], value) for name, value in before["ema"].items())
    stored = vars(before["args"])
    same = set(stored) - {"fused_attn"}  # how, not what
    assert {name: after["args"][name] for name in same} == {name: stored[name] for name in same}


# ---- other files ----


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
def test_weights_alone_with_official_names(tmp_path, suffix):
    path, weights = tmp_path / f"w{suffix}", own_weights()
    if suffix == ".npz":
        np.savez_compressed(path, **weights)
    elif suffix == ".pt":
        torch_write.write(path, weights)
    else:
        save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, path)
    from_torch.convert(path, tmp_path / "out", pixels, num_heads=2)
    architecture, params = model_folders.load(tmp_path / "out")
    equal(to_official(params, architecture.model, 8), weights)
    assert MMGen.load(tmp_path / "out").generate(class_id=1, n=1, steps=1)["rgb"].shape == (1, 16, 16, 3)


@pytest.mark.parametrize("which", ["ema", "model"])
def test_either_weights_can_be_taken(tmp_path, which):
    from_torch.convert(write_own(tmp_path), tmp_path / "out", pixels, num_heads=2, weights=which)
    architecture, params = model_folders.load(tmp_path / "out")
    equal(to_official(params, architecture.model, 8), own_checkpoint()[which])


def test_settings_of_the_checkpoint_are_kept(tmp_path):
    args = own_checkpoint()["args"] | {"path_type": "cosine", "adam_beta2": 0.95}
    (tmp_path / "names").write_text("cat\ndog\nfish\n")
    path = write_own(tmp_path, args=dict(args))
    model = from_torch.convert(path, tmp_path / "out", pixels, num_heads=2, classes=tmp_path / "names")
    assert model.path == "cosine" and model.model.encoder_depth == 1
    assert model.facts.class_names == ("cat", "dog", "fish")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["optim"]["b2"] == 0.95 and config["optim"]["learning_rate"] == 1e-3 and config["train"]["batch"] == 8
    assert config["model"]["width"] == 16 and config["data"]["modalities"] == ["rgb", "depth"]


def test_one_modality_is_told_apart_and_widened(tmp_path):
    torch = pytest.importorskip("torch")
    from torch_sit import SiT

    torch.manual_seed(0)
    x, y = np.random.default_rng(0).normal(size=(2, 8, 8, 12)).astype(np.float32), np.array([1, 2])
    t = np.array([0.2, 0.7], np.float32)
    for features in (0, 6):  # SiT, REPA
        sit = SiT(width=16, depth=2, heads=2, classes=3, size=8, features=features, tap=1, channels=12)
        torch.save({"ema": sit.state_dict(), "args": argparse.Namespace(model="custom")}, tmp_path / "sit.pt")
        with torch.no_grad():
            time = torch.from_numpy(t if features else 1 - t)
            expected = sit(torch.from_numpy(x).permute(0, 3, 1, 2), time, torch.from_numpy(y))[0].permute(0, 2, 3, 1)
        expected = expected if features else -expected
        for names in ((), ("rgb", "depth", "mask")):
            out = tmp_path / f"out{features}{len(names)}"
            from_torch.convert(tmp_path / "sit.pt", out, pixels, num_heads=2, modalities=names)
            model = MMGen.load(out)
            assert model.modalities == (names or ("rgb",))
            rest = {m: np.ones((2, 8, 8, c), np.float32) for m, c in model.architecture.model.modalities if m != "rgb"}
            times = np.concatenate([t[:, None], np.full((2, len(rest)), 0.3, np.float32)], 1)
            velocity = model.velocity({"rgb": x, **rest}, times, y, np.zeros(2, int))
            np.testing.assert_allclose(velocity["rgb"], expected, atol=5e-5)
    refused("--optimizer needs", tmp_path / "sit.pt", tmp_path / "new", optimizer=True)


def test_modalities_can_be_named(tmp_path):
    names = ("normal", "mask")
    channels = {"normal": 12, "mask": 12}
    rng = np.random.default_rng(0)
    c = dataclasses.replace(OWN, modalities=tuple(channels.items()))
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract_params(c))
    torch_write.write(tmp_path / "w.pt", to_official(params, c, 8))
    model = from_torch.convert(tmp_path / "w.pt", tmp_path / "out", pixels, num_heads=2, modalities=names)
    assert dict(model.model.modalities) == channels


# ---- the optimizer ----


def resumed(workdir, **optim):
    """The state that `train --workdir` starts from."""
    chosen = settings.Settings().changed(optim=optim)
    tx = make_optimizer(chosen.optim, chosen.train.steps)
    architecture = architectures.load(workdir)
    training = setup.assemble(chosen, architecture, sharding.make_mesh())
    state, meta = setup.restore_or_init(chosen, training, dict, workdir)
    return tx, state, meta["samples"]


def test_next_step_is_that_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from_torch.convert(write_own(tmp_path), tmp_path / "out", pixels, num_heads=2, optimizer=True)
    tx, state, samples = resumed(tmp_path / "out", learning_rate=1e-3)
    assert int(state.step) == 5 and samples == 5 * 8
    equal(from_params(state.ema, OWN), without(own_weights(1), "pos_embed"))

    stored = torch.load(tmp_path / "own.pt", weights_only=False)
    parameters = [torch.nn.Parameter(value, name != "pos_embed") for name, value in stored["model"].items()]
    adam = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    adam.load_state_dict({"state": stored["opt"]["state"], "param_groups": adam.state_dict()["param_groups"]})
    rng = np.random.default_rng(3)
    gradients = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in stored["model"].items()}
    for parameter, gradient in zip(parameters, gradients.values(), strict=True):
        if parameter.requires_grad:
            parameter.grad = torch.from_numpy(gradient)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    adam.step()

    del gradients["pos_embed"]
    gradients = to_params(gradients, OWN)
    updates, _ = jax.jit(tx.update)(gradients, state.opt_state, state.params, norm=optax.global_norm(gradients))
    moved = from_params(jax.tree.map(jnp.add, state.params, updates), OWN)
    for name, parameter in zip(stored["model"], parameters, strict=True):
        if name != "pos_embed":
            np.testing.assert_allclose(moved[name], parameter.detach(), atol=1e-6, err_msg=name)


def test_optimizer_comes_back_bit_by_bit(tmp_path):
    """A run of the golden model, whose Adam is one that torch wrote after a step."""
    torch = pytest.importorskip("torch")
    stored = torch.load(GOLDEN, weights_only=False)
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(v, name != "pos_embed") for name, v in stored["model"].items()]
    adam = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    for parameter in parameters[1:]:
        parameter.grad = torch.randn_like(parameter)
    adam.step()
    changed = {name: value.detach() for name, value in zip(stored["model"], parameters, strict=True)}
    stored |= {"model": changed, "opt": adam.state_dict(), "steps": 1}
    torch.save(stored, tmp_path / "in.pt")
    from_torch.convert(tmp_path / "in.pt", tmp_path / "run", convert.stable_diffusion(""), num_heads=4, optimizer=True)
    to_torch.write(tmp_path / "run", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back["steps"] == 1
    for part in ("model", "ema"):
        assert all(torch.equal(back[part][name], value) for name, value in stored[part].items())
    assert list(back["opt"]["state"]) == list(stored["opt"]["state"])
    for i, state in stored["opt"]["state"].items():
        assert all(torch.equal(back["opt"]["state"][i][name], value) for name, value in state.items())
    adam.load_state_dict(back["opt"])  # torch takes it


def test_a_run_starts_from_weights_alone_but_does_not_go_on(tmp_path):
    from_torch.convert(write_own(tmp_path), tmp_path / "out", pixels, num_heads=2)
    with pytest.raises(UsageError, match="has averaged weights alone and cannot be continued; .* train.init_from"):
        resumed(tmp_path / "out")


# ---- refusals ----


def test_what_exists_is_not_overwritten(tmp_path):
    path = write_own(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    refused("out exists", path, out)
    refused("own.pt exists", path, path)
    refused("OUT is empty", path, "")
    refused("is not on this machine", path, "gs://bucket/out")
    assert [p.name for p in out.iterdir()] == ["mine"]
    with pytest.raises(UsageError, match="own.pt exists"):
        to_torch.write("shapes-tiny", path)


def without(weights, name):
    return {k: v for k, v in weights.items() if k != name}


@pytest.mark.parametrize(
    "changes, options, text",
    [
        ({}, {"num_heads": 0}, "does not tell the number of attention heads; give it as --num_heads"),
        ({}, {"num_heads": 3}, "width=16: must be divisible by heads=3"),
        ({"args": {"model": "SiT-XL/2"}}, {}, "--num_heads is 2; SiT-XL/2 has 16"),
        ({"args": {"model": "SiT-XL/3"}}, {}, "model size 'XL/3'"),
        ({"args": {"model": 3}}, {}, "args.model is not of type str"),
        ({"args": {"path_type": "VP"}}, {}, "args.path_type is 'VP'; allowed: linear, cosine"),
        ({"args": {"prediction": "noise"}}, {}, "args.prediction is 'noise'"),
        ({"args": {"num_classes": 4}}, {}, "4 rows; one per class and one for no class expected"),
        ({"args": {"batch_size": "8"}}, {}, "args.batch_size is not of type int"),
        ({"args": [1]}, {}, "args is neither a dict"),
        ({"steps": "5"}, {}, "steps is not an integer"),
        ({"ema": {}}, {}, "no weights 'ema'; it has: model"),
        ({"ema": without(own_weights(), "blocks.1.mlp.fc2.bias")}, {}, "missing blocks.1.mlp.fc2.bias"),
        ({"ema": without(own_weights(), "x_embedder.proj.weight")}, {}, "x_embedder.proj.weight: missing"),
        ({"ema": without(own_weights(), "pos_embed")}, {}, "pos_embed: missing"),
        ({"ema": own_weights() | {"blocks.0.attn.q_norm.weight": np.ones(8)}}, {}, "left over blocks.0.attn.q_norm"),
        ({"ema": own_weights() | {"pos_embed": np.zeros((1, 16, 16))}}, {}, "pos_embed: differs"),
        ({"ema": own_weights() | {"blocks.0.mlp.fc1.bias": np.ones(8)}}, {}, r"misshapen blocks.0.mlp.fc1.bias \(8,\)"),
        ({"opt": {}}, {"optimizer": True}, "no optimizer state"),
        ({"opt": {"state": {0: {}}}}, {"optimizer": True}, "opt.state of pos_embed is not AdamW's"),
        ({"opt": {"state": {999: {}}}}, {"optimizer": True}, "not positions of the"),
        ({}, {"optimizer": True, "weights": "model"}, "--optimizer keeps both"),
        ({}, {"modalities": ("depth", "rgb")}, "--modalities is depth,rgb; allowed: some of rgb,depth,normal,mask"),
        ({}, {"modalities": ("normal", "mask")}, "has latents {'normal': 12, 'mask': 4}"),
        ({}, {"modalities": ("depth", "normal", "mask")}, "the checkpoint has rgb, depth; rgb must be among depth"),
        ({}, {"convention": "dit"}, "--convention is 'dit'"),
        ({}, {"classes": "nowhere"}, "nowhere: no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, changes, options, text):
    path = write_own(tmp_path, **changes)
    refused(text, path, tmp_path / "out", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["own.pt"]


@pytest.mark.parametrize("name", ["pos_embed", "y_embedder.embedding_table.weight", "blocks.1.attn.qkv.bias"])
@pytest.mark.parametrize("wrong", ["missing", "misshapen", math.nan, math.inf])
def test_weights_that_do_not_fit_are_named_with_their_file(tmp_path, name, wrong):
    weights = own_weights()
    damaged = {"missing": {}, "misshapen": {name: np.ones((1, 2, 3), np.float32)}}
    changed = damaged[wrong] if wrong in damaged else {name: np.full_like(weights[name], wrong)}
    path = write_own(tmp_path, ema=without(weights, name) | changed)
    refused(f"^{path}: .*{name}", path, tmp_path / "out")


@pytest.mark.parametrize("name", ["y_embedder.embedding_table.weight", "blocks.1.attn.qkv.bias"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_averages_of_adam_that_are_not_finite_are_named_with_their_file(tmp_path, name, wrong):
    states, index = dict(own_checkpoint()["opt"]["state"]), list(own_weights()).index(name)
    states[index] = states[index] | {"exp_avg": np.full_like(states[index]["exp_avg"], wrong)}
    path = write_own(tmp_path, opt={"state": states})
    refused(f"^{path}: opt.state: .*{name} has values that are not finite", path, tmp_path / "out", optimizer=True)


def test_an_optimizer_without_one_weight_is_refused(tmp_path):
    states = dict(own_checkpoint()["opt"]["state"])
    del states[7]
    path = write_own(tmp_path, opt={"state": states})
    refused(f"missing {list(own_weights())[7]}", path, tmp_path / "out", optimizer=True)


def test_names_of_classes_must_fit(tmp_path):
    (tmp_path / "names").write_text("a\nb\nb\n")
    refused(
        "2 different names on 3 lines; needed: 3", write_own(tmp_path), tmp_path / "out", classes=tmp_path / "names"
    )


def test_other_autoencoders_are_refused():
    with pytest.raises(UsageError, match="has latents"):
        from_torch.convert(GOLDEN, "nowhere", pixels, num_heads=4)


def test_digests(tmp_path, capsys):
    path = tmp_path / "0600000.pt"
    path.write_bytes(b"data")
    checkpoint.verify(path, hashlib.sha256(b"data").hexdigest().upper())
    for digest, text in [
        ("auto", "0600000.pt has sha256 3a6eb07.*must be 7ea94ac"),
        ("0" * 63, "64 hexadecimal digits"),
    ]:
        with pytest.raises(UsageError, match=text):
            checkpoint.verify(path, digest)
    with pytest.raises(UsageError, match="'own.pt'; allowed: 0600000.pt, 0620000.pt"):
        checkpoint.verify(tmp_path / "own.pt", "auto")
    with pytest.raises(UsageError, match="no such file"):
        checkpoint.verify(tmp_path / "0620000.pt", "auto")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe is a FIFO; allowed: a file"):
        checkpoint.verify(tmp_path / "pipe", "0" * 64)


@pytest.mark.parametrize(("name", "value"), [("recipe", "modern"), ("projector", "conv")])
def test_networks_that_the_official_code_lacks_are_refused(tmp_path, monkeypatch, name, value):
    architecture = model_folders.load("shapes-tiny")[0]
    other = dataclasses.replace(architecture.model, data_std=None, feature_width=4, encoder_depth=1, **{name: value})
    monkeypatch.setattr(architectures, "load", lambda _: dataclasses.replace(architecture, model=other))
    with pytest.raises(UsageError, match=f"model.{name}={value}, which the official code does not know"):
        to_torch.write("shapes-tiny", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_a_state_of_muon_is_refused(golden_folder, tmp_path):
    shutil.copytree(golden_folder, tmp_path / "run")
    history.write(tmp_path / "run", settings.Settings(), 0, {"optim.name": ("adamw", "muon")})
    with pytest.raises(UsageError, match="has optim.name=muon, whose state .*which mmgen_jax.export writes"):
        to_torch.write(tmp_path / "run", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_what_the_official_code_lacks_is_refused(tmp_path):
    for name, text in [("shapes-tiny", "is preconditioned"), ("nowhere", "no model at 'nowhere'")]:
        with pytest.raises(UsageError, match=text):
            to_torch.write(name, tmp_path / "x.pt")
    from_torch.convert(write_own(tmp_path), tmp_path / "out", pixels, num_heads=2)
    with pytest.raises(UsageError, match="latents of {'rgb': 12"):
        to_torch.write(tmp_path / "out", tmp_path / "x.pt")
    with pytest.raises(UsageError, match="suffix '.npz'; allowed: .pt"):
        to_torch.write("shapes-tiny", tmp_path / "x.npz")


# ---- the command ----


def test_bare_words_and_dashes():
    words = convert.arguments(["convert", "a.pt", "--num-heads=4", "out", "--vae=a-b", "--optimizer", "third"])
    assert words == ["convert", "--source=a.pt", "--num_heads=4", "--out=out", "--vae=a-b", "--optimizer", "third"]


def run(*words):
    command = [sys.executable, "-m", "mmgen_jax.convert", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_command_converts_and_says_so(tmp_path):
    done = run(GOLDEN, tmp_path / "out", "--num-heads=4")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert f"wrote {tmp_path / 'out'}: custom, rgb + depth + normal + mask, 10 classes, 64 pixels" in done.stdout
    again = run(GOLDEN, tmp_path / "out", "--num-heads=4")
    assert again.returncode == 2 and again.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'out'} exists")
    assert len(again.stderr.splitlines()) == 1

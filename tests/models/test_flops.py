"""Counted flops agree with the compiler's and with a published figure."""

import dataclasses
import functools
import types
from collections import OrderedDict

import jax
import numpy as np
import pytest
import tiny_model
from annotations import unchecked

from configs import imagenet256_xl2
from mmgen_jax import settings
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.frozen.autoencoders import identity, kl_names
from mmgen_jax.frozen.autoencoders.kl import AutoencoderKL
from mmgen_jax.frozen.autoencoders.kl_layers import KLConfig
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.models import architectures, flops
from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.models.projectors import PROJECTORS
from mmgen_jax.parallel import chips
from mmgen_jax.sampling import sampler
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import setup
from mmgen_jax.training.architecture import from_settings
from mmgen_jax.training.inputs import TileInputs
from mmgen_jax.training.objective import example_loss, make_example

SMALL_KL = KLConfig(block_out_channels=(32, 64), norm_num_groups=8)


def architecture(model: MMDiTConfig, autoencoder, image_size: int) -> architectures.Architecture:
    return architectures.Architecture(model, autoencoder, "linear", image_size, Facts(class_names=("a",)))


@pytest.fixture(scope="module")
def unrolled():
    """A model large enough that matrix multiplications are nearly all of its arithmetic."""
    names = ("rgb", "depth")
    pixels = identity.Identity(names, 4)
    model = MMDiTConfig(
        tuple((m, pixels.channels[m]) for m in names),
        depth=3,
        width=256,
        heads=4,
        patch=1,
        num_classes=1,
        encoder_depth=2,
        projector_width=192,
        feature_width=96,
        unroll=True,
    )
    return architecture(model, pixels, 64)


def network(a: architectures.Architecture, batch: int):
    """The forward pass, and the shapes of its arguments."""
    x = OrderedDict((m, jax.ShapeDtypeStruct(s, "float32")) for m, s in a.latent_shapes(batch).items())
    t = jax.ShapeDtypeStruct((batch, len(a.modalities)), "float32")
    label = jax.ShapeDtypeStruct((batch,), "int32")
    return a.apply, (jax.eval_shape(a.init, jax.random.key(0)), x, t, Prompt(label, label))


def compiled_flops(function, arguments) -> float:
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("projector", PROJECTORS)
def test_forward_agrees_with_the_compiler(unrolled, projector):
    unrolled = dataclasses.replace(unrolled, model=dataclasses.replace(unrolled.model, projector=projector))
    function, arguments = network(unrolled, 4)
    counted = flops.forward_flops(unrolled, 4)
    # The compiler also counts element-wise arithmetic: never less, and little more.
    assert counted < compiled_flops(function, arguments) < 1.02 * counted


def test_forward_is_every_product_of_the_program(unrolled):
    function, arguments = network(unrolled, 4)
    assert flops.program_flops(function, *arguments) == flops.forward_flops(unrolled, 4)
    scanned = dataclasses.replace(unrolled, model=dataclasses.replace(unrolled.model, unroll=1))
    function, arguments = network(scanned, 4)
    assert flops.program_flops(function, *arguments) == flops.forward_flops(scanned, 4)


def test_the_published_model():
    chosen = settings.parse(imagenet256_xl2.get_config())
    autoencoder = AutoencoderKL(chosen.data.modalities, KLConfig(), None)
    names = tuple(map(str, range(1000)))
    a = from_settings(chosen, autoencoder, Facts(class_names=names))
    assert flops.train_step_flops(a, 256) == pytest.approx(185.5e12, rel=0.002)


@pytest.mark.parametrize("changes", [{"decoupled": 0.5}, {"guided": 4.0}, {"decoupled": 0.5, "guided": 4.0}])
def test_a_step_is_every_product_of_its_loss(changes):
    """Of a flow map, of a network that takes the scale of guidance, and of both."""
    plain, _ = tiny_model.build()
    model = dataclasses.replace(plain.model, width=128, depth=4, **changes)
    a, objective = dataclasses.replace(plain, model=model), setup.make_objective(settings.parse(tiny_model.config()))
    batch = tiny_model.pixels(8, "train") | {"class_id": np.zeros(8, np.int32), "present": np.ones((8, 4), bool)}
    make = functools.partial(make_example, a, objective, TileInputs(a.autoencoder), batch)
    example = jax.eval_shape(make, jax.random.key(0))
    gradient = jax.grad(lambda params, example: example_loss(a.apply, objective, params, example)[0])
    params = jax.eval_shape(a.init, jax.random.key(0))
    assert flops.program_flops(gradient, params, example) == pytest.approx(flops.train_step_flops(a, 8), rel=0.03)


@pytest.mark.parametrize("solver, steps, branches, evaluations", [("heun", 5, 1, 9), ("euler", 5, 2, 10)])
def test_a_sampler_evaluates_the_network_as_often_as_counted(solver, steps, branches, evaluations):
    a, _ = tiny_model.build()
    assert sampler.sampler_flops(a, 3, steps, solver, branches) == evaluations * flops.forward_flops(a, 3)


def test_a_sampler_has_no_use_for_the_projector(unrolled):
    plain = dataclasses.replace(unrolled, model=dataclasses.replace(unrolled.model, feature_width=0))
    assert sampler.sampler_flops(unrolled, 2, 1, "euler", 1) == flops.forward_flops(plain, 2)


def test_unknown_solvers_are_named(unrolled):
    with pytest.raises(UsageError, match="solver is 'rk9'; allowed: euler, heun"):
        sampler.sampler_flops(unrolled, 2, 1, "rk9", 1)


def test_autoencoder_agrees_with_the_compiler(unrolled):
    params = jax.eval_shape(lambda: kl_names.abstract_params(SMALL_KL))
    params = jax.tree.map(lambda p: jax.numpy.zeros(p.shape), params)
    kl = AutoencoderKL(("rgb", "depth"), SMALL_KL, params)
    a = dataclasses.replace(unrolled, autoencoder=kl, image_size=64)
    a = dataclasses.replace(a, model=dataclasses.replace(a.model, modalities=(("rgb", 4), ("depth", 4))))
    latents = {m: jax.ShapeDtypeStruct(s, "float32") for m, s in a.latent_shapes(2).items()}
    counted = flops.decoder_flops(a, 2)
    # Padding makes the compiler's count of a convolution a little smaller, normalisation makes it larger.
    assert compiled_flops(lambda z: kl.decode(z), (latents,)) == pytest.approx(counted, rel=0.04)
    images = {m: jax.ShapeDtypeStruct((2, 64, 64, c), "float32") for m, c in (("rgb", 3), ("depth", 1))}
    assert compiled_flops(lambda x: kl.moments(x), (images,)) == pytest.approx(flops.encoder_flops(a, 2), rel=0.04)


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU7x", 2307e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("cpu", None),
    ],
)
def test_peaks_by_the_kinds_that_jax_reports(kind, peak):
    assert chips.peak_flops(kind) == peak


def test_two_devices_of_one_chip_count_once():
    devices = [types.SimpleNamespace(device_kind="TPU7x", process_index=0, coords=(i // 2, 0, 0)) for i in range(8)]
    with unchecked():  # stand-ins
        assert chips.total_peak(devices) == 4 * 2307e12
    assert chips.total_peak(jax.devices()) is None

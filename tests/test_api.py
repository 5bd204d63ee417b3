"""Tests MMGen, the Python interface, on a model with random weights."""

import dataclasses
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny_model
from annotations import unchecked
from PIL import Image

from mmgen_jax import export
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders, weights
from mmgen_jax.diffusion import keys
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling import requests
from mmgen_jax.show.outputs import file_names
from mmgen_jax.system import sealed
from mmgen_jax.system.errors import UsageError

FAST = {"steps": 2, "solver": "euler"}


@pytest.fixture(scope="module")
def model(model_dir):
    return MMGen.load(model_dir)


@pytest.fixture(scope="module")
def scenes():
    return tiny_model.values(3)


def test_import_is_cheap():
    code = "import sys, mmgen_jax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_outputs_have_the_promised_types_and_ranges(model):
    out = model.generate(class_id=3, n=3, **FAST)
    assert list(out) == ["rgb", "depth", "normal", "mask"]
    assert out["rgb"].shape == (3, 16, 16, 3) and out["rgb"].dtype == np.uint8
    assert out["depth"].shape == (3, 16, 16) and out["depth"].dtype == np.float32
    assert 0 <= out["depth"].min() and out["depth"].max() <= 1
    np.testing.assert_allclose(np.linalg.norm(out["normal"], axis=-1), 1, atol=1e-5)
    assert out["mask"].shape == (3, 16, 16) and set(np.unique(out["mask"])) <= {0, 1, 2, 3}
    assert all(picture.shape == (3, 16, 16, 3) and picture.dtype == np.uint8 for picture in out.pictures().values())


def test_a_sample_does_not_depend_on_how_many_there_are(model):
    many = model.generate(class_id=3, n=5, batch=4, **FAST)
    few = model.generate(class_id=3, n=3, batch=4, **FAST)
    one = model.generate(class_id=3, n=1, **FAST)
    for m in many:
        np.testing.assert_allclose(many[m][:3].astype(float), few[m].astype(float), atol=1)
        np.testing.assert_allclose(many[m][:1].astype(float), one[m].astype(float), atol=1)
    assert np.abs(many["depth"][:1] - one["depth"]).max() < 1e-4
    assert np.abs(many["depth"][3] - many["depth"][4]).max() > 0.05


@pytest.mark.parametrize("numbers", [range(3, 5), [3, 4], (3, 4), np.array([3, 4]), jax.numpy.array([3, 4])])
def test_numbers_of_samples_make_the_same_samples(model, numbers):
    many, told = model.generate(3, n=5, **FAST), []
    some = model.generate(3, n=numbers, progress=told.append, **FAST)
    for m in many:
        np.testing.assert_allclose(many[m][3:].astype(float), some[m].astype(float), atol=1)
    assert np.abs(many["depth"][3:] - some["depth"]).max() < 1e-4
    assert some.rows == ("3", "4") and told == [2]


def test_seed_and_class_matter(model):
    first, again = model.generate(3, n=3, **FAST), model.generate(3, n=3, **FAST)
    np.testing.assert_array_equal(first["rgb"], again["rgb"])
    assert not np.array_equal(first["rgb"], model.generate(3, n=3, seed=1, **FAST)["rgb"])
    assert not np.array_equal(first["depth"], model.generate(4, n=3, **FAST)["depth"])
    name = model.class_names[3]
    np.testing.assert_array_equal(first["rgb"], model.generate(name, n=3, **FAST)["rgb"])
    mixed = model.generate([0, name, 1], n=3, **FAST)
    np.testing.assert_allclose(mixed["depth"][1], first["depth"][1], atol=1e-4)
    assert mixed.rows[1] == f"1 {name}"


def test_given_modalities_are_returned_and_matter(model, scenes):
    given = {"depth": scenes["depth"], "mask": scenes["mask"]}
    out = model.generate(n=3, given=given, **FAST)
    for m, value in given.items():
        np.testing.assert_array_equal(out[m], value)
    assert out.given == ("depth", "mask")
    one = model.generate(n=3, given={m: value[0] for m, value in given.items()}, **FAST)
    np.testing.assert_array_equal(one["depth"], np.stack([scenes["depth"][0]] * 3))
    assert not np.array_equal(one["rgb"][1], out["rgb"][1])
    np.testing.assert_allclose(one["normal"][0], out["normal"][0], atol=1e-3)


def test_guidance_changes_samples_only_with_a_class(model):
    plain = model.generate(3, n=3, **FAST)
    strong = model.generate(3, n=3, guidance=4.0, **FAST)
    assert np.abs(plain["depth"] - strong["depth"]).max() > 1e-3
    np.testing.assert_array_equal(model.generate(n=3, guidance=4.0, **FAST)["rgb"], model.generate(n=3, **FAST)["rgb"])


def test_encode_and_decode_are_inverse_up_to_the_autoencoder(model, scenes):
    again = model.decode(model.encode(scenes))
    assert list(again) == ["rgb", "depth", "normal", "mask"]
    assert np.abs(again["depth"] - scenes["depth"]).mean() < 0.05
    assert (again["mask"] == scenes["mask"]).mean() > 0.8


def test_velocity(model):
    shapes = model.architecture.latent_shapes(2)
    x = {m: np.ones(shape, np.float32) for m, shape in shapes.items()}
    velocity = model.velocity(x, np.full((2, 4), 0.5, np.float32), [0, 1], [0, 0])
    assert {m: v.shape for m, v in velocity.items()} == shapes
    assert all(v.dtype == np.float32 for v in velocity.values())


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"class_id": 8}, "class is 8; allowed: 0 to 7"),
        ({"class_id": "unicorn"}, "class is 'unicorn'"),
        ({"class_id": 2.7}, "class is 2.7; allowed: 0 to 7"),
        ({"class_id": [1, 2], "n": 3}, "class_id has 2 entries; allowed: one, or n = 3"),
        ({"n": 0}, "n is 0; it must be an integer of at least 1"),
        ({"n": []}, "n is (); it must be a number of samples, or a list of their numbers"),
        ({"n": range(0)}, "n is (); it must be a number of samples, or a list of their numbers"),
        ({"n": [0, -1]}, "n is (0, -1); it must be a number of samples, or a list of their numbers"),
        ({"n": [0.5]}, "n is (0.5,); it must be a number of samples, or a list of their numbers"),
        ({"n": [[0]]}, "n is ((0,),); it must be a number of samples, or a list of their numbers"),
        ({"n": np.zeros(2)}, "n is (0.0, 0.0); it must be a number of samples, or a list of their numbers"),
        ({"n": [2**31]}, "n is (2147483648,); it must be a number of samples, or a list of their numbers"),
        ({"n": True}, "n is True; it must be an integer of at least 1"),
        ({"class_id": [1, 2], "n": [4]}, "class_id has 2 entries; allowed: one, or n = 1"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"solver": "magic"}, "solver is 'magic'; it must be one of euler, heun"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"guidance": "strong"}, "guidance is 'strong'"),
        ({"guidance": float("inf")}, "guidance is inf; it must be a number 0 to 10000"),
        ({"guidance_interval": (0.7, 0.1)}, "guidance_interval is (0.7, 0.1); it must be a tuple (low, high) with 0"),
        ({"guidance_interval": (0.7,)}, "guidance_interval is (0.7,); it must be"),
        ({"given_time": 2}, "given_time is 2; it must be a number 0 to 1"),
        ({"given_time": "late"}, "given_time is 'late'; it must be"),
        ({"given": {"flow": "a.png"}}, "given modality is 'flow'; allowed: rgb, depth, normal, mask"),
        (
            {"given": {"depth": np.zeros((3, 16, 16), np.uint8)}, "n": 2},
            "given depth has 3 images; allowed: 1, or n = 2",
        ),
        ({"given": dict.fromkeys(("rgb", "depth", "normal", "mask"))}, "at least one must be left"),
        ({"wanted": "rgb"}, "wanted is 'rgb'; allowed: a list of some of rgb, depth, normal, mask"),
        ({"wanted": []}, "wanted is []; allowed: a list of some of rgb"),
        ({"wanted": ["sound"]}, "wanted modality is 'sound'; allowed: rgb, depth, normal, mask"),
        ({"wanted": ["rgb"], "given": {"rgb": np.zeros((16, 16, 3), np.uint8)}}, "wanted is 'rgb', but rgb is given"),
        ({"strength": {"depth": 0.5}}, "strength of depth is 0.5, but depth is not given; given: nothing"),
        ({"strength": {"flow": 0.5}}, "modality of strength is 'flow'; allowed: rgb"),
        ({"strength": {"depth": "strong"}}, "strength of depth is 'strong'; it must be a number -100 to 100"),
        ({"strength": 0.5}, "strength is 0.5; allowed: a dict of modality -> value"),
        ({"interval": {"depth": (0.7, 0.1)}}, "interval of depth is (0.7, 0.1); it must be a tuple (low, high)"),
        ({"given_time": {"depth": 3}}, "given_times of depth is 3; it must be a number 0 to 1"),
        ({"order": {"depth": 1.5}}, "order of depth is 1.5; it must be a number 0 to 1"),
        ({"compose": True}, "compose is True, but neither a modality nor a class is given"),
        ({"compose": 1}, "compose is 1; it must be True or False"),
        ({"corrector": -1}, "corrector is -1; it must be an integer of at least 0"),
        ({"particles": 0}, "particles is 0; it must be an integer of at least 1"),
        ({"particles": 2, "corrector": 0}, "corrector is 0; 2 particles need at least 1"),
        ({"times": [1.0, 0.5]}, "times is (1.0, 0.5); it must be a tuple of times that fall from 1 to 0"),
        ({"times": [1.0, 0.5, 0.5, 0.0]}, "it must be a tuple of times that fall from 1 to 0"),
        ({"times": [1.0, 0.5, 0.0], "steps": 3}, "steps is 3, but times are given too; allowed: one of them"),
        ({"times": [1.0, 0.5, 0.0], "shift": 3}, "shift is 3; allowed: 1, as times are given"),
        ({"shift": 0}, "shift is 0; it must be a number 0.01 to 100"),
        ({"classes": {}}, "classes is {}; allowed: a dict of class -> weight"),
        ({"classes": {"torus": 1}, "class_id": 0}, "but class_id is given too; allowed: one of them"),
        (
            {"classes": {"torus": 1}, "guidance": 2},
            "guidance is 2; allowed: 1, as each of the classes has",
        ),
    ],
)
def test_bad_requests_are_named(model, request_, message):
    with unchecked(), pytest.raises(UsageError, match=re.escape(message)):
        model.generate(**request_)


def test_numbers_of_numpy_and_jax_are_numbers(model):
    plain = model.generate(class_id=[3, 3], n=2, **FAST)
    for class_id in (np.array([3, 3]), np.array(3), jax.numpy.array([3, 3])):
        out = model.generate(class_id=class_id, n=np.int64(2), **FAST)
        np.testing.assert_array_equal(out["rgb"], plain["rgb"])


def test_a_number_is_an_index_even_where_names_are_numbers(model):
    """Folders 1, 10, 11, 2 are classes 0 to 3 in this order."""
    architecture = dataclasses.replace(model.architecture, facts=Facts(class_names=("1", "10", "11", "2")))
    assert [architecture.class_index(i) for i in (1, np.int64(3), "10", "2")] == [1, 3, 1, 3]
    with pytest.raises(UsageError, match="class is 10; allowed: 0 to 3"):
        architecture.class_index(10)


def test_saved_files_hold_the_values(model, scenes, tmp_path):
    out = model.generate(n=3, given={"depth": scenes["depth"], "mask": scenes["mask"]}, **FAST)
    names = out.save(tmp_path / "a" / "b", sections=[out.comparison(scenes)])
    assert len(names) == 3 * 6 + 3
    assert sorted([*names, "files.txt"]) == sorted(p.name for p in (tmp_path / "a" / "b").iterdir())

    def read(name):
        return np.array(Image.open(tmp_path / "a" / "b" / name))

    np.testing.assert_array_equal(read("rgb_001.png"), out["rgb"][1])
    depth = read("depth_002.png")
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(depth / 65535, out["depth"][2], atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "b" / "normal_000.npy"), out["normal"][0])
    np.testing.assert_array_equal(read("mask_ids_000.png"), out["mask"][0])
    np.testing.assert_array_equal(read("mask_000.png"), PALETTE[out["mask"][0]])
    files = {"depth": tmp_path / "a" / "b" / "depth_002.png", "mask": tmp_path / "a" / "b" / "mask_002.png"}
    again = model.generate(n=3, given=files, **FAST)
    np.testing.assert_array_equal(again["mask"][0], out["mask"][2])
    np.testing.assert_allclose(again["depth"][0], out["depth"][2], atol=1e-5)


def test_files_of_an_earlier_request_do_not_mix_in(model, tmp_path):
    model.generate(n=3, **FAST).save(tmp_path)
    (tmp_path / "rgb_007.png").write_bytes(b"mine")
    names = model.generate(n=1, **FAST).save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*names, "files.txt", "rgb_007.png"}
    assert "rgb_000.png" in names and "rgb_001.png" not in names


def test_weights_round_trip_in_both_precisions(model_dir, tmp_path):
    _, params = tiny_model.build()
    for dtype, tolerance in ((np.float32, 0), (np.float16, 2e-3)):
        weights.save_params(tmp_path / "w.safetensors", params, dtype)
        again = weights.load_params(tmp_path / "w.safetensors")
        for name in ("patch_embed", "heads"):
            a, b = (jax.tree.leaves(p[name]) for p in (params, again))
            for x, y in zip(a, b, strict=True):
                np.testing.assert_allclose(x, y, atol=tolerance)


def test_models_that_cannot_be_loaded_are_named(model_dir, tmp_path):
    with pytest.raises(UsageError, match="no model at"):
        MMGen.load(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"model.json is missing"):
        MMGen.load(tmp_path)
    broken = tiny_model.save(tmp_path / "broken")
    _, params = tiny_model.build()
    weights.save_params(broken / model_folders.WEIGHTS_FILE, {k: v for k, v in params.items() if k != "heads"})
    with pytest.raises(UsageError, match=r"missing heads\..*"):
        MMGen.load(broken)
    (broken / model_folders.WEIGHTS_FILE).write_bytes(b"junk")
    with pytest.raises(UsageError, match="is damaged"):
        MMGen.load(broken)


def test_export_makes_a_folder_that_loads(model_dir, tmp_path):
    line = export.export(model_dir, tmp_path / "out")
    assert "sha256" in line and "bytes" in line and "\n" not in line
    export.export(model_dir, tmp_path / "out")  # the same model may be replaced
    architecture, params = model_folders.load(tmp_path / "out")
    original, wanted = model_folders.load(model_dir)
    assert architecture.to_json() == original.to_json()
    np.testing.assert_array_equal(params["patch_embed"]["kernel"], wanted["patch_embed"]["kernel"])
    stored = (tmp_path / "out" / "model.json").read_text()
    (tmp_path / "out" / "model.json").write_text(stored.replace('"mlp_ratio": 4.0', '"mlp_ratio": 2.0'))
    with pytest.raises(UsageError, match=r"model.json is damaged: its SHA-256"):
        export.export(model_dir, tmp_path / "out")
    (tmp_path / "out" / sealed.FILE).unlink()
    with pytest.raises(UsageError, match=r"already holds another model: model.mlp_ratio is 4.0"):
        export.export(model_dir, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="holds no model; allowed"):
        export.export(model_dir, tmp_path / "full")


def test_a_solver_that_needs_the_score_is_refused_on_another_path(model):
    architecture = dataclasses.replace(model.architecture, path="cosine")
    other = MMGen(architecture, tiny_model.build()[1])
    with pytest.raises(
        UsageError, match="solver is 'euler_maruyama', which needs the linear path; the model's is cosine"
    ):
        other.generate(solver="euler_maruyama")


GIVEN = {"depth": np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16), "mask": np.zeros((16, 16), np.int32)}


def test_only_what_is_wanted_is_made(model):
    out = model.generate(given={"depth": GIVEN["depth"]}, wanted=["normal", "rgb"], **FAST)
    assert list(out) == ["rgb", "depth", "normal"] and out.given == ("depth",)
    assert out.caption.startswith("given depth; rgb + normal alone; no class")
    assert list(model.generate(wanted=["mask"], **FAST)) == ["mask"]


def test_conditions_of_strength_one_are_as_they_are(model):
    plain = model.generate(given=GIVEN, n=2, given_time=0.1, **FAST)
    dialled = model.generate(
        given=GIVEN, n=2, given_time={"depth": 0.1, "mask": 0.1}, strength={"depth": 1.0, "mask": 1}, **FAST
    )
    for m in plain:
        np.testing.assert_allclose(dialled[m], plain[m], atol=1e-5)
    almost = float(np.nextafter(1, 2))  # 1 in float32, but not as a setting: a program with a branch without depth
    leaned = model.generate(given=GIVEN, n=2, given_time=0.1, strength={"depth": almost}, **FAST)
    np.testing.assert_allclose(leaned["normal"], plain["normal"], atol=1e-5)


def test_another_weight_compiles_nothing(model):
    draw = model._sampler._draw
    for compose in (False, True):
        model.generate(given=GIVEN, strength={"depth": 0.5}, compose=compose, corrector=1, **FAST)
        compiled = draw._cache_size()
        for weight in (0.0, -1.0, 2.5):
            model.generate(given=GIVEN, strength={"depth": weight}, compose=compose, corrector=1, seed=3, **FAST)
        assert draw._cache_size() == compiled


def test_grids_of_a_request(model):
    """Those of the user are the solver's own where they say the same, and other ones compile nothing."""
    request = {"n": 2, "solver": "heun"}
    own, shifted = (model.generate(**request, steps=4, shift=s) for s in (1.0, 3.0))
    compiled = model._sampler._draw._cache_size()
    same = model.generate(**request, times=[1, 0.75, 0.5, 0.25, 0])
    moved = model.generate(**request, times=np.array([1, 0.9, 0.75, 0.5, 0]))
    assert model._sampler._draw._cache_size() == compiled
    np.testing.assert_allclose(same["depth"], own["depth"], atol=1e-5)
    np.testing.assert_allclose(moved["depth"], shifted["depth"], atol=1e-4)
    assert np.abs(own["depth"] - shifted["depth"]).max() > 1e-3
    assert "heun, 4 steps; times 1, 0.9, 0.75, 0.5, 0" in moved.caption and "steps; shift 3" in shifted.caption


def test_a_composition_of_a_request_is_the_one_of_the_formula(model):
    """One Euler step from the noise: x0 = noise - v, with v summed from the raw network here."""
    a = model.architecture
    latents = model.encode({m: value[None] for m, value in GIVEN.items()})
    key = keys.of_seed(0, "sample")
    shapes = {m: shape[1:] for m, shape in a.latent_shapes(1).items()}
    noise = requests.noise(key, jax.numpy.arange(1), shapes)

    def velocity(given, class_id):
        task = a.modalities.index(given) + 1 if given else 0
        x = {m: (latents if m == given else noise)[m] for m in a.modalities}
        t = [[0.0 if m == given else 1.0 for m in a.modalities]]
        return model.velocity(x, np.array(t, np.float32), [class_id], [task])

    nothing = velocity(None, a.null_class)
    parts = [(0.6, velocity("depth", a.null_class)), (1.0, velocity("mask", a.null_class)), (2.0, velocity(None, 3))]
    made = {}
    for m in ("rgb", "normal"):
        made[m] = noise[m] - nothing[m] - sum(w * (v[m] - nothing[m]) for w, v in parts)
    expected = model.decode(made)
    options = {"strength": {"depth": 0.6}, "guidance": 2.0, "given_time": 0.0, "steps": 1, "solver": "euler"}
    out = model.generate(class_id=3, given=GIVEN, compose=True, **options)
    assert np.abs(out["rgb"].astype(int) - expected["rgb"]).max() <= 1
    np.testing.assert_allclose(out["normal"], expected["normal"], atol=1e-3)
    assert out.caption.startswith(
        "given depth x 0.6 and, composed, mask; class cone; seed 0; euler, 1 steps; guidance 2"
    )


def test_corrected_compositions_do_not_depend_on_the_batch(model):
    options = {"given": GIVEN, "compose": True, "steps": 2, "solver": "heun", "particles": 2}
    together = model.generate(n=3, **options)
    alone = model.generate(n=[2], **options)
    np.testing.assert_allclose(alone["normal"][0], together["normal"][2], atol=2e-3)


def test_draws_of_a_sample_are_combined_and_the_first_is_the_sample_alone(model, scenes, tmp_path):
    given = {"rgb": scenes["rgb"]}
    one, several = (model.generate(n=3, given=given, draws=k, **FAST) for k in (1, 4))
    other = model.generate(n=range(1, 3), given={"rgb": scenes["rgb"][1:]}, draws=4, batch=8, **FAST)
    assert not one.uncertainty and not one.draws
    for m in ("depth", "normal", "mask"):
        assert several.draws[m].shape == (3, 4, *one[m].shape[1:])
        np.testing.assert_allclose(several.draws[m][:, 0], one[m], atol=1e-4)
        assert all(np.abs(several.draws[m][:, k] - one[m]).max() > 1e-3 for k in (1, 2, 3))
        np.testing.assert_allclose(other.draws[m], several.draws[m][1:], atol=1e-4)
        value, uncertainty = MODALITIES[m].combine(several.draws[m], several.facts)
        np.testing.assert_array_equal(several[m], value)
        np.testing.assert_array_equal(several.uncertainty[m], uncertainty)
    np.testing.assert_array_equal(several["rgb"], scenes["rgb"])
    assert "rgb" not in several.uncertainty and "4 draws combined" in several.caption
    names = several.save(tmp_path, sections=[several.comparison(scenes)])
    assert set(file_names(list(several), several.facts, list(several.draws))) == {
        name.replace("_001", "") for name in names if "_001" in name
    }
    np.testing.assert_array_equal(np.load(tmp_path / "depth_uncertainty_001.npy"), several.uncertainty["depth"][1])
    np.testing.assert_array_equal(np.load(tmp_path / "normal_draws_002.npy"), several.draws["normal"][2])
    assert (tmp_path / "gallery.html").read_text().count('alt="mask uncertainty, ') == 2 * 3


def test_calibration_and_the_range_of_depth_stay_with_the_model(model_dir, tmp_path):
    """Uncertainty is times the factor of the modality, in an exported model too, and depth of a scale keeps it."""
    architecture, params = model_folders.load(model_dir)
    assert architecture.calibration == {} and architecture.facts.depth_range is None  # of a folder without them
    remembered = dataclasses.replace(architecture.facts, depth_range=(1.0, 10.0))
    noted = dataclasses.replace(architecture, calibration={"depth": 2.5}, facts=remembered)
    noted.save(tmp_path / "noted")
    weights.save_params(tmp_path / "noted" / model_folders.WEIGHTS_FILE, params)
    export.export(tmp_path / "noted", tmp_path / "exported")
    made = MMGen.load(tmp_path / "exported").generate(draws=3, **FAST)
    for m, factor in (("depth", 2.5), ("normal", 1.0)):
        plain = MODALITIES[m].combine(made.draws[m], made.facts).uncertainty
        np.testing.assert_allclose(made.uncertainty[m], factor * plain, rtol=1e-6)
    assert made.facts.depth_range == (1.0, 10.0)
    dataclasses.replace(noted, calibration={"depth": -1.0}).save(tmp_path / "wrong")
    with pytest.raises(UsageError, match=r"calibration.depth is -1.0; it must be a finite number above 0"):
        MMGen.load(tmp_path / "wrong")


def test_without_noise_there_is_one_answer(model, scenes):
    given = {"rgb": scenes["rgb"][:1]}
    first, second = (model.generate(given=given, temperature=0, seed=seed, given_time=0, **FAST) for seed in (0, 1))
    for m in first:
        np.testing.assert_array_equal(first[m], second[m])
    with pytest.raises(UsageError, match=r"draws is 4, which needs noise; temperature is 0: all would be the same"):
        model.generate(given=given, temperature=0.0, draws=4, **FAST)

"""Outputs at hand: one line that tells them, their pictures as Pillow's, and scores against a truth."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import Outputs
from mmgen_jax.metrics import dense
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE, REGIONS
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

FACTS = Facts(PALETTE, REGIONS)


def outputs(seed: int, given=("rgb",)) -> Outputs:
    random = np.random.default_rng(seed)
    normal = random.normal(size=(2, 16, 16, 3)).astype(np.float32)
    values = {
        "rgb": random.integers(0, 256, (2, 16, 16, 3), np.uint8),
        "depth": random.random((2, 16, 16), np.float32),
        "normal": normal / np.linalg.norm(normal, axis=-1, keepdims=True),
        "mask": random.integers(0, len(PALETTE), (2, 16, 16), np.int32),
    }
    return Outputs(values, given, FACTS)


def test_one_line_tells_what_there_is():
    shapes = (
        "rgb uint8 [2, 16, 16, 3], depth float32 [2, 16, 16], normal float32 [2, 16, 16, 3], mask int32 [2, 16, 16]"
    )
    assert repr(outputs(0)) == f"Outputs({shapes}; given: rgb)"
    assert repr(outputs(0, given=())) == f"Outputs({shapes})" == str(outputs(0, given=()))


@pytest.mark.parametrize("m", list(MODALITIES))
def test_pictures_are_those_of_the_modality(m):
    out = outputs(0)
    images = out.images(m)
    assert [image.mode for image in images] == ["RGB", "RGB"]
    assert np.array_equal(np.stack(images), MODALITIES[m].picture(out[m], FACTS))
    if m == "rgb":
        assert np.array_equal(np.stack(images), out["rgb"])


def test_a_picture_of_what_is_not_there_is_refused():
    with pytest.raises(UsageError, match="^modality is 'albedo'; allowed: rgb, depth, normal, mask$"):
        outputs(0).images("albedo")


def test_scores_are_those_of_evaluate():
    out, truth = outputs(0), dict(outputs(1))
    truth["depth"][0, :4] = np.nan
    wanted = dense.summary({m: out[m] for m in ("depth", "normal", "mask")}, truth, FACTS)
    wanted = {key: value for key, value in wanted.items() if "/objects/" not in key}
    assert out.scores(truth) == pytest.approx(wanted, nan_ok=True) and "depth/l1" in wanted and "mask/miou" in wanted
    assert out.scores(out)["normal/mean"] == pytest.approx(0, abs=0.1)
    assert set(out.scores({"depth": truth["depth"]})) == {key for key in wanted if key.startswith("depth/")}


def test_a_truth_that_does_not_fit_is_refused():
    out = outputs(0)
    with pytest.raises(UsageError, match="^the truth has rgb; allowed: some of depth, normal, mask$"):
        out.scores({"rgb": out["rgb"]})
    with pytest.raises(UsageError, match=r"^depth of the truth is float32 \[1, 16, 16\]; allowed: float32 \[2, 16, 16"):
        out.scores({"depth": out["depth"][:1]})
    with pytest.raises(UsageError, match=r"^mask of the truth is float32 \[2, 16, 16\]; allowed: int32 \[2, 16, 16\]"):
        out.scores({"mask": out["depth"]})
    with pytest.raises(UsageError, match="^mask: truth has region ids 99 to 102: must be 0 to 3$"):
        out.scores({"mask": out["mask"] + 99})


def images() -> dict[str, Image.Image]:
    """A picture in each mode that Pillow's users meet, of 16 x 16 pixels."""
    colours = PALETTE[np.random.default_rng(0).integers(0, len(PALETTE), (16, 16))].astype(np.uint8)
    rgb, ramp = Image.fromarray(colours), np.arange(256, dtype=np.uint8).reshape(16, 16)
    clear = rgb.copy()
    clear.putalpha(Image.fromarray(ramp))
    return {
        "RGB": rgb,
        "RGBA": clear,
        "P": rgb.quantize(),
        "L": Image.fromarray(ramp),
        "LA": Image.fromarray(ramp).convert("LA"),
        "I;16": Image.fromarray(ramp.astype(np.uint16) * 257),
        "I": Image.fromarray(ramp.astype(np.int32) * 257),
        "1": Image.fromarray(ramp > 99),
    }


def answer(m, given):
    try:
        return MODALITIES[m].condition(given, 16, FACTS)
    except UsageError as error:
        return str(error).partition(") ")[2]


@pytest.mark.parametrize("mode", list(images()))
@pytest.mark.parametrize("m", list(MODALITIES))
def test_an_image_of_pillow_is_read_as_a_file_of_it(m, mode, tmp_path):
    """Where the file is refused, the image is too, by the same words."""
    image, path = images()[mode], tmp_path / "image.png"
    assert image.mode == mode
    image.save(path)
    by_file, by_image, opened = answer(m, path), answer(m, image), answer(m, Image.open(path))
    assert type(by_file) is type(by_image) and np.array_equal(by_file, by_image) and np.array_equal(by_file, opened)
    if m == "rgb" or (m == "depth" and mode not in ("RGB", "RGBA", "P")):
        assert isinstance(by_file, np.ndarray)


def test_an_image_with_an_orientation_is_upright(tmp_path):
    image = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    exif = Image.Exif()
    exif[274] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    path = tmp_path / "turned.png"
    assert np.array_equal(answer("rgb", Image.open(path)), answer("rgb", path))
    assert not np.array_equal(answer("rgb", path), answer("rgb", image))


def test_what_was_saved_is_loaded(tmp_path):
    out = outputs(0)
    out.save(tmp_path)
    back = Outputs.load(tmp_path, FACTS)
    assert list(back) == list(out) and back.rows == out.rows and back.given == ()
    assert back["depth"] == pytest.approx(out["depth"], abs=0.6 / 65535)
    assert back["normal"] == pytest.approx(out["normal"], abs=1e-6)  # vectors that are read get length one again
    for m in ("rgb", "mask"):
        assert back[m].dtype == out[m].dtype and np.array_equal(back[m], out[m]), m
    colours = Outputs.load(tmp_path)["mask"]
    assert np.array_equal(colours, PALETTE[out["mask"]])
    back.save(tmp_path / "again")
    for path in tmp_path.glob("*_00?.png"):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_several_draws_are_loaded(tmp_path):
    depth = outputs(0)["depth"]
    draws = {"depth": np.stack([depth, depth], 1)}
    Outputs({"depth": depth}, (), Facts(), uncertainty={"depth": depth / 2}, draws=draws).save(tmp_path)
    back = Outputs.load(str(tmp_path))
    assert np.array_equal(back.uncertainty["depth"], depth / 2)
    assert np.array_equal(back.draws["depth"], draws["depth"])


def test_folders_that_cannot_be_loaded(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(UsageError, match=message):
            Outputs.load(tmp_path / "out")

    refused("which is not one; allowed: a folder with rgb_000.png and the like")
    (tmp_path / "out").mkdir()
    refused("has no samples; allowed: one with rgb_000.png and the like")
    outputs(0).save(tmp_path / "out")
    (tmp_path / "out" / "depth_001.png").rename(tmp_path / "depth_001.png")
    refused("has no depth of sample 001; allowed: all samples have the same")
    Image.new("L", (8, 16)).save(tmp_path / "out" / "depth_001.png")
    refused(r"depth_001.png\) has 8x16 pixels; allowed: 16x16, as the first sample")
    (tmp_path / "out" / "depth_001.png").write_text("no image")
    refused(r"depth_001.png\) cannot be read")

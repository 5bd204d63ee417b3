"""A part of a modality is kept, and the rest made: from Python and from the command line, with bad requests."""

import numpy as np
import pytest
from annotations import unchecked
from PIL import Image

from mmgen_jax import MMGen, sample
from mmgen_jax.system.errors import UsageError


@pytest.fixture(scope="module")
def model(model_dir):
    return MMGen.load(str(model_dir))


@pytest.fixture(scope="module")
def before(model):
    return model.generate(n=2, steps=2, solver="euler")


def keep(model):
    pixels = np.zeros((model.architecture.image_size,) * 2, bool)
    pixels[:, : len(pixels) // 2] = True
    return pixels


def test_what_is_kept_is_as_it_was_given_and_the_rest_is_made(model, before):
    where = keep(model)
    options = {"steps": 2, "solver": "euler", "seed": 3}
    out = model.generate(n=2, given={"rgb": before["rgb"]}, keep={"rgb": where}, draws=2, **options)
    assert set(out) == set(before) and out.given == ()
    np.testing.assert_array_equal(out["rgb"][:, where], before["rgb"][:, where])
    assert (out["rgb"][:, ~where] != before["rgb"][:, ~where]).any()
    assert not out.uncertainty["rgb"][:, where].any() and out.uncertainty["rgb"][:, ~where].any()
    assert "all modalities together, and a part of rgb" in out.caption
    # As bytes, as numbers and as one for each sample it is the same mask; nothing beyond it is looked at.
    other = np.where(where[..., None], before["rgb"], 255 - before["rgb"])
    for mask in (np.uint8(255) * where, 1.0 * where, np.stack([where] * 2)):
        same = model.generate(n=2, given={"rgb": other}, keep={"rgb": mask}, draws=2, **options)
        for m in out:
            np.testing.assert_array_equal(same[m], out[m])


def test_all_may_be_given_if_a_part_is_made(model, before):
    where = keep(model)
    out = model.generate(n=2, given=dict(before), keep={"depth": where}, steps=2, solver="euler")
    assert out.given == ("rgb", "normal", "mask")
    np.testing.assert_array_equal(out["depth"][:, where], before["depth"][:, where])


@pytest.mark.parametrize(
    "given, request_, message",
    [
        ((), {"keep": {"rgb": np.ones((4, 4))}}, "keep of rgb is .*, but rgb is not given; given: nothing"),
        (("rgb",), {"keep": np.ones((4, 4))}, "keep is of type ndarray; allowed: a dict of modality -> file or array"),
        (("rgb",), {"keep": {"red": np.ones((4, 4))}}, "modality of keep is 'red'; allowed: "),
        (
            ("rgb",),
            {"keep": {"rgb": np.full((4, 4), 0.5)}},
            r"keep of rgb \(array\) has values from 0.5 to 0.5; allowed: ",
        ),
        (("rgb",), {"keep": {"rgb": np.full((4, 4), np.nan)}}, r"keep of rgb \(array\) has values from nan"),
        (("rgb",), {"keep": {"rgb": np.array(["a"])}}, r"keep of rgb \(array\) has type <U1; allowed: "),
        (("rgb",), {"keep": {"rgb": np.ones((5, 8, 8))}}, "keep of rgb has 5 images; allowed: 1, or n = 2"),
        (("rgb",), {"keep": {"rgb": "nowhere.png"}}, r"keep of rgb \(nowhere.png\)"),
        (("rgb",), {"keep": {"rgb": np.ones((4, 4))}, "wanted": ("depth",)}, "wanted is 'depth'; it must have rgb"),
        (("rgb",), {"keep": {"rgb": np.ones((4, 4))}, "particles": 2}, "particles is 2; allowed: 1, as a part of rgb"),
        (("rgb",), {"keep": {"rgb": np.ones((4, 4))}, "strength": {"rgb": 2}}, "strength of rgb is 2, but rgb is not"),
    ],
    ids=str,
)
def test_bad_requests_are_named_in_one_line(model, before, given, request_, message):
    with unchecked(), pytest.raises(UsageError, match=message) as caught:
        model.generate(n=2, given={m: before[m] for m in given}, **request_)
    assert "\n" not in str(caught.value)


def test_command(model, model_dir, model_config, before, tmp_path):
    where, section = keep(model), model_config.sample
    Image.fromarray(before["rgb"][0]).save(tmp_path / "photo.png")
    Image.fromarray(np.uint8(255) * where).save(tmp_path / "keep.png")
    section.steps, section.n, section.keep.rgb = 2, 2, str(tmp_path / "keep.png")
    with pytest.raises(UsageError, match="keep of rgb is .*keep.png', but rgb is not given; given: nothing"):
        sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    section.given.rgb = str(tmp_path / "photo.png")
    sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    made = np.stack([np.asarray(Image.open(tmp_path / "out" / f"rgb_{i:03d}.png")) for i in range(2)])
    np.testing.assert_array_equal(made[:, where], np.stack([before["rgb"][0]] * 2)[:, where])
    assert (made[0] != made[1]).any()
    section.n = 3  # one mask for all samples: there may be more of them
    sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    again = np.stack([np.asarray(Image.open(tmp_path / "out" / f"rgb_{i:03d}.png")) for i in range(3)])
    np.testing.assert_array_equal(again[:2], made)
    Image.fromarray(np.uint8(255) * ~where).save(tmp_path / "keep.png")
    with pytest.raises(UsageError, match="the pixels of rgb that are kept"):
        sample.run(model_config, str(model_dir), str(tmp_path / "out"))

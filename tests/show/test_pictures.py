"""Tests sheets, grids, galleries and their files."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.modalities.modality import Scalar
from mmgen_jax.modalities.pixels import nearest_color, to_pixels, turbo
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import gallery, pictures
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.system.errors import NotFinite


def columns(rng, n=3, size=16):
    return {m: rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8) for m in ("rgb", "depth")}


def test_sheet_holds_every_picture_and_frames_what_was_given(rng):
    shown = columns(rng)
    plain, framed = pictures.sheet(shown, scale=1), pictures.sheet(shown, given=("depth",), scale=1)
    assert plain.dtype == np.uint8 and plain.ndim == 3
    assert not (plain == pictures.GIVEN).all(-1).any() and (framed == pictures.GIVEN).all(-1).any()
    for images in shown.values():
        for image in images:
            rows, cols = np.where((framed[..., :] == image[0, 0]).all(-1))
            assert any(np.array_equal(framed[y : y + 16, x : x + 16], image) for y, x in zip(rows, cols, strict=True))


def test_notebooks_show_the_first_samples(rng):
    rgb = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    depth = rng.random((20, 16, 16)).astype(np.float32)
    doubt = {"depth": np.zeros((20, 16, 16), np.float32)}
    out = Outputs({"rgb": rgb, "depth": depth}, ("rgb",), Facts(), "class <a>", uncertainty=doubt)
    text = out._repr_html_()
    assert text.count("<img") == 1 and "<figcaption>Samples; class &lt;a&gt;; the first 8 of 20</figcaption>" in text
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)"', text)[1]))))
    labels = out.pictures(8)
    assert list(labels) == ["rgb", "depth", "depth uncertainty"] and len(labels["depth"]) == 8
    np.testing.assert_array_equal(shown, pictures.sheet(labels, ("rgb",), names=tuple(map(str, range(8)))))
    one = Outputs({"rgb": rgb[:1]}, (), Facts())
    assert "<figcaption>Samples</figcaption>" in one._repr_html_()
    assert "<figcaption>Few; of two</figcaption>" in gallery.Section("Few", {"a": rgb[:2]}, "of two")._repr_html_()


def test_sheet_rejects_columns_of_different_length(rng):
    with pytest.raises(ValueError, match=r"columns have \[2, 3\] pictures"):
        pictures.sheet(columns(rng) | {"mask": np.zeros((2, 16, 16, 3), np.uint8)})


def test_small_images_are_enlarged():
    assert [pictures.shown_scale(s) for s in (16, 32, 64, 65, 256)] == [8, 4, 2, 1, 1]


def test_grid(rng):
    images = rng.integers(0, 200, (5, 8, 8, 3), dtype=np.uint8)
    picture = pictures.grid(images, scale=1)
    assert picture.shape == (2 * 12 + 4, 3 * 12 + 4, 3)
    np.testing.assert_array_equal(picture[16:24, 16:24], images[4])


def test_error_maps_are_black_where_there_is_no_error(rng):
    normal = np.zeros((1, 4, 4, 3), np.float32)
    normal[..., 2] = 1
    truth = {
        "rgb": rng.integers(0, 256, (1, 4, 4, 3), dtype=np.uint8),
        "depth": rng.random((1, 4, 4)),
        "normal": normal,
        "mask": rng.integers(0, 4, (1, 4, 4)),
    }

    def error_map(name, value, other, palette=PALETTE):
        return pictures.heat(MODALITIES[name].error(value, other, Facts(palette)))

    for name, value in truth.items():
        assert error_map(name, value, value).shape == (1, 4, 4, 3) and error_map(name, value, value).max() == 0
    assert (error_map("mask", truth["mask"], truth["mask"] + 1) == 255).all()
    assert (error_map("normal", normal, -normal) == 255).all()
    np.testing.assert_array_equal(error_map("depth", np.float32([[0.25]]), np.float32([[0]])), [[[255] * 3]])
    colours, other = truth["rgb"], truth["rgb"][:, ::-1]  # of a mask without a palette
    np.testing.assert_array_equal(
        error_map("mask", colours, other, PALETTE[:0])[..., 0], 255 * (colours != other).any(-1)
    )


def test_interrupted_writing_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    pictures.save_png(path, np.zeros((4, 4, 3), np.uint8))
    before = path.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        pictures.save_png(path, np.ones((4, 4, 3), np.uint8))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_gallery_is_self_contained(rng, tmp_path):
    shown = columns(rng)
    sections = [
        gallery.Section("A & <b>", shown, 'class "x"', given=("depth",), rows=("one", "two", "three")),
        gallery.Section("Grid", {"rgb": shown["rgb"]}),
    ]
    gallery.write_gallery(tmp_path / "g.html", sections, title="T")
    text = (tmp_path / "g.html").read_text()
    assert len(re.findall(r'<img [^>]*src="data:image/png;base64,', text)) == 9
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)[^"]+"', text)
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert "A &amp; &lt;b&gt;" in text and "<b>" not in text
    assert text.count('class="pixels given"') == 3


def test_a_new_modality_is_saved_and_compared_by_its_row(rng, tmp_path, monkeypatch):
    class Heat(Scalar):
        def picture(self, value, facts):
            return pictures.heat(value)

        def files(self, value, facts):
            return {"heat.png": np.uint8(255 * value), "heat_exact.npy": value}

    monkeypatch.setitem(MODALITIES, "heat", Heat("heat", loss_weight=1.0))
    value = rng.random((2, 8, 8))
    out = Outputs({"heat": value}, (), Facts(PALETTE))
    names = out.save(tmp_path, sections=[out.comparison({"heat": value[::-1]})])
    assert names[:4] == ["heat_000.png", "heat_exact_000.npy", "heat_001.png", "heat_exact_001.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "heat_exact_001.npy"), value[1])
    assert "heat error, 1" in (tmp_path / "gallery.html").read_text()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: to_pixels(x, np.uint8),
        lambda x: to_pixels(x, np.uint16),
        turbo,
        lambda x: nearest_color(x, PALETTE),
        lambda x: MODALITIES["rgb"].value(x, Facts(PALETTE)),
        lambda x: MODALITIES["mask"].value(x, Facts(PALETTE)),
        lambda x: MODALITIES["mask"].value(x, Facts()),
        lambda x: MODALITIES["normal"].picture(x, Facts(PALETTE)),
        lambda x: MODALITIES["normal"].files(x, Facts(PALETTE)),
        lambda x: MODALITIES["depth"].picture(x[..., 0], Facts(PALETTE)),
        lambda x: MODALITIES["depth"].files(x[..., 0], Facts(PALETTE)),
        lambda x: Outputs({"depth": x[None, ..., 0]}, (), Facts(PALETTE)).sheet(),
        lambda x: Outputs({"normal": x[None]}, (), Facts(PALETTE)).sheet(),
    ],
)
def test_numbers_that_are_not_finite_are_no_picture(make, number):
    x = np.full((4, 4, 3), 0.5, np.float32)
    make(x)
    x[2, 1] = number
    with pytest.raises(NotFinite, match=r"^[13] of \d+ numbers are NaN or infinite, which no pixel can be$"):
        make(x)


def test_errors_that_are_not_known_are_grey():
    np.testing.assert_array_equal(pictures.heat(np.array([[0, np.nan, 1]])), [[[0] * 3, pictures.MUTED, [255] * 3]])


@pytest.mark.parametrize(("regions", "dtype"), [(4, np.uint8), (256, np.uint8), (257, np.uint16), (1000, np.uint16)])
def test_region_ids_are_written_as_they_are(tmp_path, rng, regions, dtype):
    palette = np.stack([np.arange(regions) % 256, np.arange(regions) // 256, np.full(regions, 9)], 1).astype(np.uint8)
    ids = np.append(rng.integers(0, regions, 63), regions - 1).reshape(1, 8, 8).astype(np.int32)
    out = Outputs({"mask": ids}, (), Facts(palette))
    out.save(tmp_path)
    with Image.open(tmp_path / "mask_ids_000.png") as image:
        written = np.array(image)
    np.testing.assert_array_equal(written, ids[0])
    assert written.dtype == dtype
    again = MODALITIES["mask"].condition(tmp_path / "mask_ids_000.png", 8, Facts(palette))
    np.testing.assert_array_equal(again, ids)
    colours = MODALITIES["mask"].condition(tmp_path / "mask_000.png", 8, Facts(palette))
    np.testing.assert_array_equal(colours, ids)


def test_more_regions_than_a_png_can_name_are_numbers():
    facts = Facts(np.zeros((70000, 3), np.uint8))
    files = MODALITIES["mask"].files(np.array([[69999, 3]]), facts)
    np.testing.assert_array_equal(files["mask_ids.npy"], [[69999, 3]])

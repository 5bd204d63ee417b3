"""The sheet of a data set: a row for each tile, a column for each modality that is there."""

import numpy as np
import pytest

from mmgen_jax.data import sheet, tiles
from mmgen_jax.data.shapes.solids import KINDS
from mmgen_jax.show import pictures
from mmgen_jax.system.errors import UsageError


@pytest.fixture
def drawn(monkeypatch):
    """What was asked of `pictures.sheet`: columns and names of rows, in the order of the calls."""
    asked, draw = [], pictures.sheet

    def spy(columns, **options):
        asked.append((columns, options["names"]))
        return draw(columns, **options)

    monkeypatch.setattr(pictures, "sheet", spy)
    return asked


def test_images_are_as_they_are_stored(tiles_dir, drawn):
    made = sheet.sheet(tiles_dir, "test", 3)
    ((columns, names),) = drawn
    assert made.dtype == np.uint8 and list(columns) == ["rgb", "depth", "normal", "mask"]
    source = tiles.read_tiles(tiles_dir, "test")
    for i in range(3):
        tile = tiles.decode_tile(source[i])
        assert names[i] == KINDS[tile["class_id"]]
        for name in ("rgb", "mask"):
            np.testing.assert_array_equal(columns[name][i], tile[name])
        assert np.abs(columns["normal"][i].astype(int) - tile["normal"]).max() <= 1


def test_what_a_tile_lacks_is_grey_and_what_all_lack_has_no_column(tiles_dir, drawn, monkeypatch):
    decode, calls = tiles.decode_tile, []

    def without(record):
        tile = decode(record)
        calls.append(record)
        tile["present"][1], tile["present"][2] = False, len(calls) == 1
        return tile

    monkeypatch.setattr(tiles, "decode_tile", without)
    sheet.sheet(tiles_dir, "test", 2)
    ((columns, _),) = drawn
    assert list(columns) == ["rgb", "normal", "mask"]
    assert len(np.unique(columns["normal"][1])) == 1 < len(np.unique(columns["normal"][0]))


def test_more_rows_than_tiles_are_all_tiles(tiles_dir, drawn):
    sheet.sheet(tiles_dir, "test", 100)
    assert len(drawn[0][1]) == len(tiles.read_tiles(tiles_dir, "test"))
    with pytest.raises(UsageError, match="split 'none'"):
        sheet.sheet(tiles_dir, "none", 1)

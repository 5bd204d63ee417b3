"""The study of seams."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.studies import inpainting


def test_holes_are_of_whole_cells_and_across_them():
    square, disc = inpainting.holes(32, 4).values()
    cells = square.reshape(8, 4, 8, 4).all((1, 3))
    assert (square == np.kron(cells, np.ones((4, 4), bool))).all() and (~cells).sum() == 16
    mixed = disc.reshape(8, 4, 8, 4)
    assert (mixed.any((1, 3)) & ~mixed.all((1, 3))).any() and not disc[16, 16] and disc[0, 0]


def test_energies_are_told_apart():
    """A step of 2 across the seam, of 3 across the border of cells inside, and of 1 within cells."""
    kept = np.ones((8, 16), bool)
    kept[:, 4:12] = False
    row = np.cumsum([0, 0, 0, 0, 2, 1, 1, 1, 3, 1, 1, 1, 2, 0, 0, 0]).astype(float)
    images = np.broadcast_to(row, (3, 8, 16))
    seam, across, within = inpainting.energies(images, kept, 4)
    # Vertical neighbours do not differ: of 8 x 8 made pixels 8 pairs are across a border in rows, and 8 in columns.
    assert seam == 4 and across == pytest.approx(9 * 8 / 16) and within == pytest.approx(48 / (48 + 48))


@pytest.mark.slow
def test_table_and_sheet(model_config, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(inpainting, "CORRECTORS", (0, 3))
    model_config.evaluate.n, model_config.sample.steps = 2, 2
    rows = inpainting.run(settings.parse(model_config), str(model_dir), tmp_path / "sheet.png")
    assert len(rows) == 8 and all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert Image.open(tmp_path / "sheet.png").width > 300

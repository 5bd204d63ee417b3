"""The notebook in the guides: every cell runs, in order, and shows what its text promises."""

import ast
import json
import re
from pathlib import Path

TOUR = Path(__file__).parents[1] / "docs" / "use" / "tour.ipynb"
MAKES = re.compile(r"\b(generate|comparison|to_3d)\(")  # of cells that end with something to look at


def run(source, names):
    """Runs a cell as a notebook does, and returns the value of its last line."""
    *before, last = ast.parse(source).body
    assert isinstance(last, ast.Expr), source
    exec(compile(ast.Module(before, []), TOUR.name, "exec"), names)
    return eval(compile(ast.Expression(last.value), TOUR.name, "eval"), names)


def test_every_cell_runs_and_shows_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sources = ["".join(cell["source"]) for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict = {}
    for source in sources:
        value = run(source, names)
        assert value is not None, source
        if MAKES.search(source):
            shown = value._repr_html_()
            assert re.fullmatch(r"<figure[^>]*><img[^>]* src=\"data:image/(png|gif);base64,[^\"]+\"><fig.*", shown), (
                source
            )
    assert sum(MAKES.search(source) is not None for source in sources) == 8
    assert set(names["scenes"]) == {"rgb", "depth", "normal", "mask"} and names["read"].given == ("rgb",)
    assert "'ground'" in capsys.readouterr().out
    assert {"gallery.html", "torus.glb"} <= {path.name for path in (tmp_path / "out" / "tour").iterdir()}


def test_it_is_stored_without_results():
    text = TOUR.read_text()
    notebook = json.loads(text)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5) and len(text) < 16_000
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None

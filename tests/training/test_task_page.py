"""docs/inside/add-a-task.md does what it says: its config, its commands, and its call."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import test_docs

from mmgen_jax.data.shapes import builder

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_page_on_adding_one_is_all_there_is_to_do(tmp_path):
    page = (ROOT / "docs" / "inside" / "add-a-task.md").read_text()
    recipe, call = re.findall(r"^```py\n(.*?)^```$", page, re.M | re.S)
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "configs" / "colour.py").write_text(recipe)
    builder.build(str(tmp_path / "data" / "shapes32"), builder.Recipe(size=32, train=48, test=16))
    (block,) = re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S)
    for words in test_docs.commands(block):  # the network is as large as the bundled one, from which it starts
        test_docs.run([sys.executable, *words[1:], *test_docs.SMALLER[words[2]]], tmp_path)
    found = json.loads((tmp_path / "runs" / "colour" / "metrics.json").read_text())
    assert "depth+mask -> rgb" in json.dumps(found)
    made = tmp_path / "out" / "colour"
    assert (made / "rgb_001.png").exists() and not (made / "normal_001.png").exists()
    given = call.replace('"depth.png"', repr(str(made / "depth_000.png")))
    given = given.replace('"mask.png"', repr(str(made / "mask_000.png")))
    assert given != call
    check = "assert set(out) == {'rgb', 'depth', 'mask'}, set(out)"
    test_docs.run([sys.executable, "-c", f"from mmgen_jax import MMGen\n{given}\n{check}"], tmp_path)

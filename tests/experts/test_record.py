"""Labels remember all options of every expert, of whatever type they are."""

import json

import pytest

from mmgen_jax.experts import record
from mmgen_jax.experts.registry import EXPERTS, parse
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError


def begin(tmp_path, modality, description):
    (tmp_path / "out" / modality).mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / modality / "a.png").touch()
    chosen = {modality: parse(modality, description)}
    record.begin(tmp_path / "out", chosen, 0, tmp_path, ["a"])
    return json.loads((tmp_path / "out" / f"{modality}.json").read_text())


@pytest.mark.parametrize("modality, name", [(m, name) for m in NAMES if m in EXPERTS for name in EXPERTS[m]])
def test_every_expert_is_remembered_and_goes_on(tmp_path, modality, name):
    entry = EXPERTS[modality][name]
    description = f"{name}:org/weights" if entry.path else name
    first = begin(tmp_path, modality, description)
    assert begin(tmp_path, modality, description) == first
    assert first["expert"] == name and set(entry.options) <= set(first)


@pytest.mark.parametrize(
    "modality, one, other, option",
    [
        ("depth", "depth-anything:a/b,kind=v2-relative", "depth-anything:a/b,kind=v1-relative", "kind"),
        ("depth", "depth-anything:a/b", "depth-anything:a/b,kind=v2-relative", "kind"),
        ("depth", "precomputed:a", "precomputed:a,invalid=0", "invalid"),
        ("normal", "from-depth", "from-depth:fov=70", "fov"),
        ("mask", "sam:a/b", "sam:a/b,points=16", "points"),
    ],
)
def test_another_option_is_refused(tmp_path, modality, one, other, option):
    begin(tmp_path, modality, one)
    with pytest.raises(UsageError, match=f"was made with {option} "):
        begin(tmp_path, modality, other)

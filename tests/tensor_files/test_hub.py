"""Tests paths and hub ids, without a network."""

import huggingface_hub.constants
import pytest

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import hub


def test_paths_are_taken_as_they_are(tmp_path):
    assert hub.resolve(tmp_path, ["*"]) == tmp_path


def test_ids_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text("0123")
    monkeypatch.setattr(hub, "snapshot_download", _in_cache(tmp_path))
    assert (hub.resolve("org/name", ["config.json"]) / "config.json").read_text() == "{}"
    with pytest.raises(
        UsageError, match="'org/other' is not a local path and cannot be fetched from the hub"
    ) as caught:
        hub.resolve("org/other", ["config.json"])
    assert "\n" not in str(caught.value)


def _in_cache(folder):
    """The default cache is fixed when the library is imported."""
    real = hub.snapshot_download
    return lambda name, allow_patterns: real(name, allow_patterns=allow_patterns, cache_dir=folder)


def test_what_is_neither_is_refused():
    with pytest.raises(UsageError, match="'nowhere' does not exist; allowed: a folder, a file, or a hub id"):
        hub.resolve("nowhere", ["*"])

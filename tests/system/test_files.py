"""Files that are whole or not there, and places for them."""

import os

import pytest
from annotations import unchecked

from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.json"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    with unchecked(), pytest.raises(TypeError):
        files.write(path, "no bytes")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_nothing_or_an_empty_one_and_leaves_nothing_after_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new", tmp_path / "empty", tmp_path / "a" / "b"):
        with pytest.raises(ZeroDivisionError), files.replacing(path) as part:
            files.write(part / "inner" / "half", b"half")
            raise ZeroDivisionError
        assert not any(path.parent.glob(".*"))
        with files.replacing(path) as part:
            files.write(part / "inner" / "whole", b"whole")
        assert (path / "inner" / "whole").read_bytes() == b"whole" and not any(path.parent.glob(".*"))
    with pytest.raises(OSError), files.replacing(tmp_path / "new") as part:
        part.mkdir()
    assert (tmp_path / "new" / "inner" / "whole").exists() and not any(tmp_path.glob(".*"))


def test_places_are_checked_without_a_trace(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    for place in ("new", "a/b/new", tmp_path / "c" / "new", "file", ".", "gs://bucket/new"):
        files.check_place(place, "--out", folder=place == ".")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("place", "folder", "message"),
    [
        (".", False, "--out . is a folder; allowed: a file"),
        ("file", True, "--out file is a file; allowed: a folder"),
        ("file/x", False, "--out file/x cannot be written: file is a file"),
        ("locked/a/x", True, "--out locked/a/x cannot be written: locked is not writable"),
    ],
)
def test_places_that_cannot_be_written_are_named(tmp_path, monkeypatch, place, folder, message):
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "locked")  # root may write anywhere
    with pytest.raises(UsageError) as caught:
        files.check_place(place, "--out", folder=folder)
    assert str(caught.value) == message


def test_only_files_of_the_set_before_are_removed(tmp_path):
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    for path in (outside, folder / "mine", folder / "a", folder / "b"):
        path.write_text("x")
    files.claim(folder, ["a", "b"])
    files.claim(folder, ["b", "c"])
    assert {p.name for p in folder.iterdir()} == {"b", "mine", files.LIST}
    (folder / files.LIST).write_text("../outside\nb\ngone\n")
    files.claim(folder, [])
    assert {p.name for p in folder.iterdir()} == {"mine", files.LIST} and outside.exists()

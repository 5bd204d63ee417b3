"""Files that are whole or not there, and places for them."""

import functools
import os
import sys
import types

import pytest
from annotations import unchecked

from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import RunError, UsageError


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


@pytest.mark.parametrize("url", ["s3://b/c", "az://b/c", "hf://b/c", "gs://b/c", "/s3/b/c", "/gs/b/c"])
def test_storage_that_nothing_here_reads_is_refused_at_once(url, monkeypatch):
    """gs:// without its package, and others always. To etils local folders /gs and /s3 are storage too."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    reason = (
        "which needs gcsfs; .* after ./launch/setup.sh --gcs, or outside a checkout pip install 'mmgen_jax\\[gcs\\]'"
        if "gs" in url
        else "allowed: a path on this"
    )
    for refused in (files.check_path, functools.partial(files.check_place, folder=True), reading.regular):
        with pytest.raises(UsageError, match=f"^workdir is '{url}'.*{reason}"):
            refused(url, "workdir")
    with pytest.raises(
        UsageError, match=f"^--images (is '{url}', which is taken for|{url} is not on this machine; copy)"
    ):
        files.here(url, "--images")


def test_places_are_checked_without_a_trace(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", types.ModuleType("gcsfs"))
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
        ("fifo", False, "--out fifo is a FIFO; allowed: a file"),
        ("fifo", True, "--out fifo is a FIFO; allowed: a folder"),
        ("fifo/x", True, "--out fifo/x cannot be written: fifo is a FIFO"),
        ("null", False, "--out null is a device; allowed: a file"),
        ("dangling", False, "--out dangling is a link that leads nowhere; allowed: a file"),
        ("dangling/x", True, "--out dangling/x cannot be written: dangling is a link that leads nowhere"),
        ("/proc/a/x", True, "--out /proc/a/x cannot be written: /proc: No such file or directory"),
        ("/proc/x.json", False, "--out /proc/x.json cannot be written: /proc: No such file or directory"),
        ("n" * 250, False, f"--out {'n' * 250} cannot be written: .: File name too long"),
        ("n" * 300 + "/x", True, f"--out {'n' * 300}/x cannot be written: .: File name too long"),
        ("", False, "--out is ''; allowed: a path on this machine or in gs://"),
        ("http://a.b/c", True, "--out is 'http://a.b/c'; allowed: a path on this machine or in gs://"),
        (None, False, "--out is None; allowed: a path on this machine or in gs://"),
    ],
)
def test_places_that_cannot_be_written_are_named(tmp_path, monkeypatch, place, folder, message):
    """Root may write anywhere by the rights of files, so they are not looked at: a file is written."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "dangling").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with unchecked(), pytest.raises(UsageError) as caught:
        files.check_place(place, "--out", folder=folder)
    assert str(caught.value) == message and sorted(tmp_path.iterdir()) == before


def test_a_disk_that_fills_while_a_file_is_written_names_the_file(mounted, tmp_path):
    with mounted(tmp_path / "small", "size=64k") as small:
        with pytest.raises(OSError, match="No space left") as caught:
            files.write(small / "sub" / "a.png", b"x" * 200_000)
        assert caught.value.filename == str(small / "sub" / "a.png")
        assert list((small / "sub").iterdir()) == []


def test_a_disk_that_is_read_only_or_full_is_told_before_work(mounted, tmp_path):
    with mounted(tmp_path / "locked", "ro") as locked, mounted(tmp_path / "full", "size=4k") as full:
        (full / "x").write_bytes(b"x" * 4096)
        for place, cause in ((locked, "Read-only file system"), (full, "No space left on device")):
            for path in (place, place / "a" / "b"):
                with pytest.raises(RunError, match=f"^--out {path} cannot be written: {place}: {cause}$"):
                    files.check_place(path, "--out", folder=True)
            with pytest.raises(RunError, match=f"^--out {place / 'a'} cannot be written: {place}: {cause}$"):
                files.check_place(place / "a", "--out", folder=False)


def test_root_does_not_replace_devices(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    for name, found in (("fifo", "a FIFO"), ("null", "a device")):
        with pytest.raises(UsageError, match=f"{name} is {found}; allowed: a file or a folder"):
            files.write(tmp_path / name, b"x")
    assert (tmp_path / "null").is_symlink() and (tmp_path / "fifo").is_fifo()


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


def test_processes_with_other_names_may_be_in_a_folder_together_and_none_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0)
    place = tmp_path / "out"
    with files.among(place, "a"), files.among(place, "b"):
        for other in (files.alone(place), files.among(place, "a")):
            with pytest.raises(UsageError, match=r"out(/.a)? is in use by another run"), other:
                pass
        (place / "kept").touch()
    with files.alone(place), pytest.raises(UsageError, match="in use by another run"), files.among(place, "a"):
        pass
    assert [path.name for path in place.iterdir()] == ["kept"]

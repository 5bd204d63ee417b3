"""Tests logs that lines are appended to, on a disk and in a bucket."""

import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from mmgen_jax.system import files
from mmgen_jax.telemetry.lines import Lines


class Bucket(MemoryFileSystem):
    """Google Cloud Storage in memory: opening to append empties the object, as gcsfs has it."""

    protocol, store, pseudo_dirs = "gcs", {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").strip("/")

    def _open(self, path, mode="rb", **options):
        return super()._open(path, mode.replace("a", "w"), **options)

    def mv(self, *paths, **options):
        raise AssertionError("renaming in a bucket is a copy")


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(backend._FileSystemSpecBackend, "_get_filesystem", lambda self, name: Bucket())
    return epath.Path("gs://bucket/run")


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_lines_are_added_to_those_of_the_run_before(place, tmp_path, bucket):
    path = (bucket if place == "bucket" else epath.Path(tmp_path)) / "log"
    for number in range(3):
        log = Lines(path)
        log.write(f"line {number}")
        log.close()
    assert path.read_text() == "line 0\nline 1\nline 2\n"


@pytest.mark.parametrize("found, rest", [('{"a": 1}\n{"b', '{"a": 1}\n'), ('{"a', ""), ("", ""), ("a\n", "a\n")])
def test_half_a_line_that_a_crash_has_left_is_removed(found, rest, tmp_path):
    (tmp_path / "log").write_text(found)
    log = Lines(tmp_path / "log")
    log.write("next")
    log.close()
    assert (tmp_path / "log").read_text() == rest + "next\n"


def test_a_line_is_on_disk_at_once_and_in_a_bucket_after_a_while(tmp_path, bucket):
    log = Lines(tmp_path / "log")
    log.write("a")
    assert (tmp_path / "log").read_text() == "a\n"
    log.close()
    slow, fast = Lines(bucket / "slow"), Lines(bucket / "fast", seconds=0)
    for log in (slow, fast):
        log.write("a")
    assert (bucket / "fast").read_text() == "a\n" and not (bucket / "slow").exists()
    slow.close()
    assert (bucket / "slow").read_text() == "a\n"


def test_files_of_a_bucket_are_written_without_renaming(bucket):
    files.write(bucket / "model.json", b"{}")
    assert (bucket / "model.json").read_text() == "{}"
    assert str(files.absolute(bucket)) == "gs://bucket/run"

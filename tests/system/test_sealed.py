"""Checksums beside files: any flipped bit is named, and sha256sum agrees with them."""

import shutil
import subprocess

import damage
import pytest

from mmgen_jax.system import files, sealed
from mmgen_jax.system.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    with sealed.sealing(tmp_path, ("a.json", "b c.bin", "absent")):
        files.write(tmp_path / "a.json", b"{}")
        files.write(tmp_path / "b c.bin", bytes(range(256)))
    return tmp_path


def test_sha256sum_reads_it_and_writes_it(folder):
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum here")
    done = subprocess.run(["sha256sum", "--check", sealed.FILE], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "a.json: OK\nb c.bin: OK\n"
    files.write(folder / "a.json", b"[]")
    done = subprocess.run(["sha256sum", "a.json", "b c.bin"], cwd=folder, capture_output=True, check=True)
    (folder / sealed.FILE).write_bytes(done.stdout)
    assert sealed.read(folder / "a.json") == b"[]"


@pytest.mark.parametrize("name", ["a.json", "b c.bin", sealed.FILE])
def test_a_flipped_bit_is_named(folder, name):
    for which in damage.flips(folder / name):
        with pytest.raises(UsageError, match=name) as caught:
            for wanted in ("a.json", "b c.bin"):
                sealed.read(folder / wanted)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400, which


def test_files_that_come_and_go(folder, capsys):
    assert sealed.expects(folder / "a.json") and not sealed.expects(folder / "absent")
    (folder / "a.json").unlink()
    assert sealed.expects(folder / "a.json")
    with pytest.raises(UsageError, match="a.json: no such file"):
        sealed.read(folder / "a.json")
    files.write(folder / "new", b"")
    with pytest.raises(UsageError, match="SHA256SUMS does not list new; .* or remove SHA256SUMS"):
        sealed.read(folder / "new")
    with sealed.sealing(folder, ("new",)):
        files.write(folder / "new", b"1")
    assert sealed.read(folder / "new") == b"1" and sealed.read(folder / "b c.bin")  # others keep their line
    assert capsys.readouterr().out == ""


def test_a_folder_without_them_is_read_and_told_once(folder, capsys):
    with pytest.raises(ZeroDivisionError), sealed.sealing(folder, ("a.json",)):
        files.write(folder / "a.json", b"other")
        raise ZeroDivisionError
    for name in ("a.json", "b c.bin", "a.json"):
        sealed.read(folder / name)
    assert capsys.readouterr().out == f"{folder} has no SHA256SUMS: damage to its files would not be noticed\n"

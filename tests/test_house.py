"""The plan of the house: every import goes down, and each library has one door (contracts in pyproject.toml)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_FILES, MOST_LINES = 18, 400


def test_contracts_of_imports_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_entrance_is_small_and_no_file_is_long():
    files = sorted((ROOT / "mmgen_jax").glob("*.py"))
    assert len(files) <= MOST_FILES, [file.name for file in files]
    lengths = {file: len(file.read_text().splitlines()) for file in (ROOT / "mmgen_jax").rglob("*.py")}
    assert not {str(file): count for file, count in lengths.items() if count > MOST_LINES}


def test_folders_of_tests_mirror_those_of_the_package():
    rooms = {folder.name for folder in (ROOT / "mmgen_jax").iterdir() if (folder / "__init__.py").exists()}
    others = {"golden", "gcloud", "launch"}  # arrays, a stand-in for the command gcloud, and the shell scripts
    found = {folder.name for folder in (ROOT / "tests").iterdir() if folder.is_dir() and any(folder.glob("*.py"))}
    assert found - others <= rooms

"""Paths that start with "~" are in the home folder, or refused; they never become a folder of that name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmgen_jax import settings
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.home import expanded

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "text, meant",
    [
        ("~", "HOME"),
        ("~/x", "HOME/x"),
        ("--out=~/x", "--out=HOME/x"),
        ("--out=~", "--out=HOME"),
        ("--depth=precomputed:~/x", "--depth=precomputed:HOME/x"),
        ("--a=~/x,~/y", "--a=HOME/x,HOME/y"),
        ("./~/x", "./~/x"),
        ("a~", "a~"),
        ("a/~/b", "a/~/b"),
        ("x~/y", "x~/y"),
        ("gs://a/~/b", "gs://a/~/b"),
        ("--n=3", "--n=3"),
    ],
)
def test_the_home_folder_stands_where_a_path_starts(text, meant, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded(text) == meant.replace("HOME", "/home/me")


@pytest.mark.parametrize("text", ["~nobody-of-this-name/x", "--out=~nobody-of-this-name", "a:~nobody-of-this-name/x"])
def test_the_home_of_nobody_is_refused(text):
    with pytest.raises(UsageError, match="'~nobody-of-this-name', which is not a home folder; .* is ./~nobody"):
        expanded(text)


TEXTS = [name for name, _, value in settings.declared(settings.Settings()) if isinstance(value, str)]


@pytest.mark.parametrize("name", TEXTS)
def test_settings_are_expanded_wherever_they_come_from(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = settings.defaults()
    config.data.flip = False  # latents cannot be mirrored
    section, _, key = name.rpartition(".")
    place = config
    for part in section.split("."):
        place = place[part]
    place[key] = "~/x"
    try:
        chosen = settings.parse(config)
    except UsageError as error:  # no path
        assert "/home/me/x" in str(error)
        return
    assert dict((n, v) for n, _, v in settings.declared(chosen))[name] == "/home/me/x"


def test_commands_write_into_the_home_folder(tmp_path):
    words = ["mmgen_jax.data.shapes", "--data_dir=~/x", "--size=8", "--train=4", "--test=2"]
    paths = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path / "work", env=os.environ | paths, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "home" / "x").rglob("dataset_info.json")) and not list((tmp_path / "work").iterdir())

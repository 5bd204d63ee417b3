"""Commands answer --help and misspelt options at once, before they import anything heavy."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmgen_jax.data.shapes.builder import Recipe

ROOT = Path(__file__).parents[2]
HEAVY = {"flax", "grain", "optax", "orbax", "tensorboardX", "tensorflow_datasets", "torch", "transformers"}
REGISTRY = {  # choices that a command's help spells out -> where they come from
    "mmgen_jax.benchmark": "from mmgen_jax.benchmark.cases import CASES as choices",
    "mmgen_jax.compile": "from mmgen_jax.compiler.programs import LOWER as choices",
    "mmgen_jax.convert": "from mmgen_jax.official.from_torch import CONVENTIONS as choices",
    "mmgen_jax.data.latents.hdf5": "from mmgen_jax.data.latents.record import DTYPES as choices",
}


def commands() -> list[str]:
    """Every module that can be run as a command with flags."""
    package = ROOT / "mmgen_jax"
    files = [
        path for path in package.rglob("*.py") if "command.run(" in path.read_text() and path.parent.name != "system"
    ]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in files]
    return sorted(names)


def started(name: str, *options: str) -> tuple[int, str, str, set[str]]:
    """Exit code, standard output, standard error and imported packages of a command."""
    lines = (
        "import atexit, runpy, sys",
        "atexit.register(lambda: print('imported', *sorted({name.split('.')[0] for name in sys.modules})))",
        f"sys.argv = [{name!r}, *{options!r}]",
        f"runpy.run_module({name!r}, run_name='__main__', alter_sys=True)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    text, _, imported = done.stdout.rpartition("imported ")
    return done.returncode, text, done.stderr, set(imported.split())


def test_there_are_commands():
    assert {"mmgen_jax.train", "mmgen_jax.sample", "mmgen_jax.data.shapes"} <= set(commands())


@pytest.mark.parametrize("name", commands())
def test_help_and_wrong_options_need_nothing_heavy(name):
    code, out, error, imported = started(name, "--help")
    assert code == 0 and error == "" and f"python -m {name}" in out, error
    assert not imported & HEAVY
    code, out, error, imported = started(name, "--no_such_option=1")
    assert code == 2 and out == "" and error.startswith("error: Unknown command line flag 'no_such_option'"), error
    assert error.count("\n") == 1 and not imported & HEAVY


@pytest.mark.parametrize("name", REGISTRY)
def test_choices_that_help_names_are_those_that_there_are(name):
    _, out, _, _ = started(name, "--help")
    scope: dict = {}
    exec(REGISTRY[name], scope)
    for choice in scope["choices"]:
        assert re.search(rf"\b{choice}\b", out), choice


def test_defaults_of_rendered_scenes_are_those_of_the_recipe():
    _, out, _, _ = started("mmgen_jax.data.shapes", "--help")
    for field in dataclasses.fields(Recipe):
        found = re.search(rf"--{field.name}: .*?default: '(\d+)'", out, re.S)
        assert found and int(found[1]) == field.default, field.name

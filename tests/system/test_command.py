"""Commands answer --help and misspelt options at once, before they import anything heavy."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmgen_jax.__main__ import COMMANDS, STUDY, about, module, studies
from mmgen_jax.data.shapes.builder import Recipe

ROOT = Path(__file__).parents[2]
HEAVY = {"flax", "grain", "jax", "optax", "orbax", "scipy", "tensorboardX", "tensorflow", "tensorflow_datasets"} | {
    "diffusers",
    "torch",
    "transformers",
}
REGISTRY = {  # choices that a command's help spells out -> where they come from
    "mmgen_jax.benchmark": "from mmgen_jax.benchmark.cases import CASES as choices",
    "mmgen_jax.compile": "from mmgen_jax.compiler.programs import LOWER as choices",
    "mmgen_jax.convert": "from mmgen_jax.official.from_torch import CONVENTIONS as choices",
    "mmgen_jax.data.latents.hdf5": "from mmgen_jax.data.latents.record import DTYPES as choices",
    "mmgen_jax.data.shapes": "from mmgen_jax.data.shapes.worlds import WORLDS as choices",
}


def runnable() -> dict[str, str]:
    """Every module of the package with lines under `if __name__ == "__main__"` -> these lines."""
    found = {}
    for path in (ROOT / "mmgen_jax").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        parts = [part for part in ast.parse(path.read_text()).body if isinstance(part, ast.If)]
        mains = [ast.unparse(part.body) for part in parts if ast.unparse(part.test) == "__name__ == '__main__'"]
        if mains:
            found[name] = "\n".join(mains)
    return found


def commands() -> list[str]:
    """Every module that can be run as a command with flags."""
    return sorted(name for name, lines in runnable().items() if "command.parse()" in lines)


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


def test_all_that_can_be_run_are_commands_with_flags_but_the_starter_completion_and_a_part_of_compile():
    assert set(runnable()) - set(commands()) == {
        *("mmgen_jax", "mmgen_jax.completion", "mmgen_jax.compiler.kernel_cycles")
    }
    assert {"mmgen_jax.train", "mmgen_jax.data.shapes", "mmgen_jax.studies.frozen"} <= set(commands())


def test_the_starter_has_every_command_under_a_short_name():
    names = [*COMMANDS, *(f"{STUDY} {name}" for name in studies())]
    found = {f"mmgen_jax.{module(name)}" for name in names if name != STUDY}
    others = {"mmgen_jax", "mmgen_jax.completion.renew", "mmgen_jax.compiler.kernel_cycles"}  # of no use to users
    assert found == set(runnable()) - others and all(about(name) for name in names)


@pytest.mark.parametrize("name", commands())
def test_help_and_wrong_options_need_nothing_heavy(name):
    code, out, error, imported = started(name, "--help")
    assert code == 0 and error == "" and f"python -m {name}" in out, error
    assert not imported & HEAVY
    code, out, error, imported = started(name, "--no_such_option=1")
    assert code == 2 and out == "" and error.startswith("error: Unknown command line flag 'no_such_option'"), error
    assert error.count("\n") == 1 and not imported & HEAVY


def test_wrong_options_beside_a_config_are_told_before_it_is_loaded():
    """The config files import the settings, and with them JAX."""
    config = ("--config=configs/shapes_tiny.py", "--config.train.steps=3")
    code, _, error, imported = started("mmgen_jax.train", *config, "--workdir=w", "--no_such_option=1")
    assert code == 2 and error.startswith("error: Unknown command line flag 'no_such_option'"), error
    assert not imported & HEAVY
    code, _, error, imported = started("mmgen_jax.train", *config)
    assert code == 2 and "--workdir must have a value" in error.replace("'", ""), error
    assert not imported & HEAVY
    code, out, _, imported = started("mmgen_jax.train", *config, "--help")
    assert code == 0 and "python -m mmgen_jax.train" in out and not imported & HEAVY
    _, _, error, imported = started("mmgen_jax.train", *config, "--workdir=w", "--config.train.step=3")
    assert "step" in error and "jax" in imported  # the config says which keys there are


def test_help_names_the_flags_that_commands_share():
    _, out, _, _ = started("mmgen_jax.train", "--help")
    text = " ".join(out.split())
    assert "--config: Recipe, by its name or its file. --config.NAME=VALUE changes a setting of it. " in text
    assert "changes a setting of it. Required." in text and "--profile: " in text
    assert "--workdir: Folder of the run, which is begun or continued. Required." in text and "None" not in text
    assert out.endswith("All settings behind --config: python -m mmgen_jax.settings, or mmgen settings.\n")
    assert "workdir: Folder of one run, or the name of a bundled model. Req" in " ".join(
        started("mmgen_jax.sample", "--help")[1].split()
    )
    assert "All settings" not in started("mmgen_jax.label", "--help")[1]
    assert "All settings" not in started("mmgen_jax.train", "--helpxml")[1]
    assert "serve" not in started("mmgen_jax.benchmark", "--help")[1]


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


@pytest.mark.parametrize("words", [["settings"], ["train", "--help"], ["train", "--helpfull"]])
def test_output_that_is_read_no_more_ends_a_command_quietly(words):
    """As in `python -m mmgen_jax.settings | head -1`."""
    command = [sys.executable, "-m", f"mmgen_jax.{words[0]}", *words[1:]]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.close()  # at once, long before there is output
    assert running.stderr.read() == b"" and running.wait(timeout=120) == 141

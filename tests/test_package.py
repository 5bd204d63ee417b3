"""What is installed: the wheel, its requirements, the `mmgen` command, and how little an import costs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

import mmgen_jax
from mmgen_jax.__main__ import COMMANDS, GROUPS, studies

ROOT = Path(__file__).parents[1]
HEAVY = ("jax", "flax", "orbax", "tensorflow_datasets", "grain", "tensorboardX", "torch", "numpy")


def run(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def requirements(name: str) -> set[str]:
    """Reads lower bounds from the pinned versions in a requirements file."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {line.replace("==", ">=") for line in lines if line}


def test_requirements_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) == requirements("requirements.txt")
    extras = project["optional-dependencies"]
    assert {f"requirements-{name}.txt" for name in extras} == {file.name for file in ROOT.glob("requirements-*.txt")}
    for name, packages in extras.items():
        assert set(packages) == requirements(f"requirements-{name}.txt"), name


def test_license_and_version_are_told_alike():
    """pyproject.toml, LICENSE, CITATION.cff and the changelog."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == mmgen_jax.__version__
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert [ROOT / name for name in project["license-files"]] == [ROOT / "LICENSE"]
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    assert re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == mmgen_jax.__version__


def test_commits_are_checked_by_the_tools_of_the_environment():
    """Hooks of pre-commit fetch nothing: each is a module that .venv has."""
    done = run(sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        interpreter, _, module, *_ = hook["entry"].split()
        assert hook["language"] == "system" and interpreter == ".venv/bin/python"
        assert run(sys.executable, "-m", module, "--version").returncode == 0


@pytest.mark.parametrize(
    "module", ["mmgen_jax", "mmgen_jax.__main__", "mmgen_jax.system.console", "mmgen_jax.system.errors"]
)
def test_imports_nothing_heavy(module):
    loaded = run(sys.executable, "-c", f"import {module}, sys; print(*sys.modules)", cwd=ROOT).stdout.split()
    assert module in loaded
    assert not set(HEAVY) & set(loaded)


def test_lists_the_commands():
    found = run(sys.executable, "-m", "mmgen_jax", "--help", cwd=ROOT)
    assert found.returncode == 0
    listed = re.findall(r"^  (\w+) +(\S.*)$", found.stdout, re.M)
    assert [name for name, _ in listed] == list(COMMANDS)
    assert re.findall(r"^(\S.*):$", found.stdout, re.M) == list(GROUPS)
    assert run(sys.executable, "-m", "mmgen_jax", cwd=ROOT).stdout == found.stdout


def test_unknown_command():
    found = run(sys.executable, "-m", "mmgen_jax", "paint", cwd=ROOT)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == f"error: command is 'paint'; allowed: {', '.join(COMMANDS)}\n"


def test_studies_are_commands_of_two_words():
    found = run(sys.executable, "-m", "mmgen_jax", "study", cwd=ROOT)
    assert found.returncode == 0
    assert [name for name, _ in re.findall(r"^  (\w+) +(\S.*)$", found.stdout, re.M)] == list(studies())
    assert run(sys.executable, "-m", "mmgen_jax", "study", "--help", cwd=ROOT).stdout == found.stdout
    told = run(sys.executable, "-m", "mmgen_jax", "study", "solvers", "--help", cwd=ROOT)
    assert told.stdout == run(sys.executable, "-m", "mmgen_jax.studies.solvers", "--help", cwd=ROOT).stdout != ""
    wrong = run(sys.executable, "-m", "mmgen_jax", "study", "paint", cwd=ROOT)
    assert (wrong.returncode, wrong.stderr) == (2, f"error: study is 'paint'; allowed: {', '.join(studies())}\n")


@pytest.mark.parametrize("words", ["--help", "study"])
def test_a_list_that_is_read_no_more_ends_quietly(words):
    listing = subprocess.Popen(
        [sys.executable, "-m", "mmgen_jax", words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    listing.stdout.close()
    assert listing.stderr.read() == b"" and listing.wait(timeout=60) == 141


def test_runs_a_command(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "loss": 0.5}\n')
    found = run(sys.executable, "-m", "mmgen_jax", "summary", f"--log={log}", cwd=ROOT)
    assert found.returncode == 0, found.stderr
    assert found.stdout == run(sys.executable, "-m", "mmgen_jax.summary", f"--log={log}", cwd=ROOT).stdout


# What the page does with a form, up to the ZIP file that it offers; its files are put where this runs.
ARCHIVE = """
import io, zipfile
from mmgen_jax import MMGen
from mmgen_jax.app import form
from mmgen_jax.app.__main__ import anywhere
from mmgen_jax.app.result import result

workdir, config = anywhere("shapes-tiny", "shapes_tiny")
model = MMGen.load(workdir)
parts = {m: form.Part() for m in model.modalities}
request = form.parse(form.Form(parts, "torus", steps=2), model.architecture)
out = model.generate(**request.arguments(model.architecture))
made = result(out, request, request.command(workdir, config), request.snippet(workdir))
zipfile.ZipFile(io.BytesIO(made.archive)).extractall()
"""


@pytest.mark.slow
def test_wheel_works_elsewhere(tmp_path):
    """A wheel, installed into another environment, does its work where no checkout is: samples, and again as the app.

    Its recipes come with it, whatever else is called `configs` there.
    """
    source, elsewhere, environment = tmp_path / "source", tmp_path / "elsewhere", tmp_path / "venv"
    sources = "pyproject.toml", "README.md", "LICENSE", "mmgen_jax", "configs"
    tracked = run("git", "ls-files", *sources, cwd=ROOT).stdout.splitlines()
    for name in tracked:  # a copy, as building leaves files in the sources
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name, follow_symlinks=False)
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    build = [sys.executable, "-m", "pip", "wheel", *options, "--no-build-isolation", "-w", str(tmp_path), str(source)]
    built = run(*build)
    assert built.returncode == 0, built.stderr

    assert run(sys.executable, "-m", "venv", str(environment)).returncode == 0
    python = environment / "bin" / "python"
    [wheel] = tmp_path.glob("*.whl")
    installed = run(str(python), "-m", "pip", "install", *options, str(wheel))
    assert installed.returncode == 0, installed.stderr
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # JAX and the rest, as they are here

    (elsewhere / "configs").mkdir(parents=True)
    (elsewhere / "configs" / "__init__.py").touch()
    (elsewhere / "mine.py").write_text("from mmgen_jax.configs.shapes_any import get_config\n")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    facts = "import mmgen_jax, importlib.metadata as m; print(mmgen_jax.__file__, m.version('mmgen_jax'))"
    where, version = run(str(python), "-c", facts, cwd=elsewhere, env=clean).stdout.split()
    assert Path(where).is_relative_to(environment)
    assert version == mmgen_jax.__version__
    assert (Path(where).parent / "py.typed").exists()
    mmgen = str(environment / "bin" / "mmgen")
    small = ["--config.sample.n=1", "--config.sample.steps=2", "--config.sample.class_id=torus"]
    sampled = run(
        mmgen, "sample", "--config=shapes_tiny", "--workdir=shapes-tiny", "--out=out", *small,
        cwd=elsewhere, env=clean,
    )  # fmt: skip
    assert sampled.returncode == 0, sampled.stderr
    assert (elsewhere / "out" / "sheet.png").exists()
    for config, message in (("mine.py", "no model at 'nowhere'"), ("shapes_any", "no model at 'nowhere'")):
        found = run(mmgen, "export", f"--config={config}", "--workdir=nowhere", "--out=x", cwd=elsewhere, env=clean)
        assert found.returncode == 2 and found.stderr.startswith(f"error: {message}"), found.stderr
    unknown = run(mmgen, "export", "--config=tiny", "--workdir=nowhere", "--out=x", cwd=elsewhere, env=clean)
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert f"no recipe or file 'tiny'; allowed: a file, or one of {', '.join(names)}\n" in unknown.stderr
    assert run(mmgen, "paint", cwd=elsewhere, env=clean).returncode == 2
    assert run(mmgen, "completion", "bash", cwd=elsewhere, env=clean).stdout.endswith("_mmgen mmgen\n")
    assert run(mmgen, "completion", "answer", "", "enc", cwd=elsewhere, env=clean).stdout.startswith("encode\t")

    (tmp_path / "app").mkdir()
    told = run(str(python), "-c", ARCHIVE, cwd=tmp_path / "app", env=clean)
    assert told.returncode == 0, told.stderr
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for words in (["sh", "again.sh"], ["python", "again.py"]):
        made = run(*words, cwd=tmp_path / "app", env=clean | {"PATH": path})
        assert made.returncode == 0, made.stderr
        for name in ("depth_000.png", "rgb_000.png"):
            wanted = tmp_path / "app" / "samples" / name
            assert (tmp_path / "app" / "out" / "again" / name).read_bytes() == wanted.read_bytes()
        shutil.rmtree(tmp_path / "app" / "out")

"""The scripts in launch/: what they say, how they end, and the comparison that the quickstart ends with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("setup.sh", "test.sh", "quickstart.sh", "tpu.sh")
WORKER = "tpu_worker.sh"  # runs on another machine
SOURCED = ("tpu_commands.sh", "tpu_watch.sh")


def bash(*arguments, **options):
    return subprocess.run(
        ["bash", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def repo(tmp_path):
    """A copy of the scripts in a folder with a space, and in bin/ the few programs that they need."""
    folder = tmp_path / "a repo"
    shutil.copytree(ROOT / "launch", folder / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-experts.txt", "requirements-gcs.txt"):
        shutil.copy(ROOT / name, folder)
    for name in ("bash", "dirname", "cat", "cksum", "sed", "mkdir"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    return folder


def setup(repo, *arguments, **variables):
    environment = {"PATH": str(repo.parent / "bin")} | variables
    return bash(repo / "launch" / "setup.sh", *arguments, env=environment, cwd="/")


FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >>"{log}"
case "$*" in
  *ensurepip*) exit {no_venv} ;;
  "-m venv"*) mkdir -p .venv/bin && cat "$0" >.venv/bin/python && {chmod} 755 .venv/bin/python ;;
  "-m pip"*) exit {no_pip} ;;
  -V) echo "Python 3.12.9" ;;
esac
"""


def fake_python(repo, name="python3.12", no_venv=0, no_pip=0):
    """A command that claims to be a suitable Python, and the log of how it was called."""
    log = repo.parent / "log"
    text = FAKE_PYTHON.format(log=log, no_venv=no_venv, no_pip=no_pip, chmod=shutil.which("chmod"))
    write(repo.parent / "bin" / name, text)
    return log


@pytest.mark.parametrize("script", [*(ROOT / "launch" / n for n in (*SCRIPTS, WORKER)), ROOT / ".ci" / "run"])
def test_scripts_are_valid_and_executable(script):
    assert bash("-n", script).returncode == 0
    assert os.access(script, os.X_OK)


def test_scripts_are_clean():
    scripts = sorted((ROOT / "launch").glob("*.sh"))
    assert {script.name for script in scripts} == {*SCRIPTS, WORKER, *SOURCED}
    command = ["shellcheck", "--external-sources", *scripts, ROOT / ".ci" / "run"]
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # requirements-dev.txt brings it
    environment = os.environ | {"PATH": tools}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    done = bash(ROOT / "launch" / script, "--help", cwd="/")
    assert done.returncode == 0 and done.stdout.startswith("Usage: ./launch/") and done.stderr == ""


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("setup.sh", ["--fast"], "unknown option '--fast'; allowed: --cpu, --tpu, --gpu"),
        ("quickstart.sh", ["--fast"], "unknown option '--fast'; allowed: --cpu"),
        ("quickstart.sh", ["--minutes"], "--minutes needs a value"),
        ("quickstart.sh", ["--minutes=0"], "--minutes is '0'; allowed: 1 to 600"),
        ("quickstart.sh", ["--minutes", "soon"], "--minutes is 'soon'"),
        ("quickstart.sh", ["--out", "x", "--minutes", "601"], "--minutes is '601'"),
    ],
)
def test_bad_options_end_with_one_line(script, arguments, message):
    done = bash(ROOT / "launch" / script, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {message}") and len(done.stderr.splitlines()) == 1


def test_setup_without_python(repo):
    done = setup(repo)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: no Python 3.11 to 3.13 found; install") and done.stderr.count("\n") == 1
    assert "error: PYTHON=/no/python is no Python" in setup(repo, PYTHON="/no/python").stderr
    assert not (repo / ".venv").exists()


@pytest.mark.parametrize("version", ["3.10.14", "3.14.0"])
def test_setup_skips_and_names_pythons_without_packages(repo, version):
    """Tests the script's own condition on a version that the test chooses."""
    major, minor, micro = version.split(".")
    text = f"""#!/usr/bin/env bash
[ "$*" != -V ] || {{ echo "Python {version}"; exit 0; }}
code="${{2//sys.version_info/(({major}, {minor}, {micro}))}}"
exec {sys.executable} -c "$code"
"""
    write(repo.parent / "bin" / "python3", text)
    done = setup(repo)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: no Python 3.11 to 3.13 found (python3 is Python {version}); install one")
    assert f"error: PYTHON=python3 is Python {version}; allowed: 3.11 to 3.13" in setup(repo, PYTHON="python3").stderr
    fake_python(repo, "python")  # a good one comes later
    assert setup(repo).returncode == 0


def test_setup_without_venv_module(repo):
    fake_python(repo, no_venv=1)
    assert setup(repo).stderr.startswith("error: python3.12 has no venv module (Debian, Ubuntu: apt install python3.12")
    fake_python(repo, "python3.11")  # the next one has it
    assert setup(repo).returncode == 0


def test_setup_installs_once(repo):
    log = fake_python(repo)
    done = setup(repo)
    assert done.returncode == 0, done.stderr
    assert "installing requirements.txt with jax==" in done.stdout and (repo / ".venv" / "stamp").exists()
    assert log.read_text().count("-m pip install") == 1
    again = setup(repo)
    assert again.stdout.splitlines() == ["setup: .venv is ready (cpu, Python 3.12.9)"]
    assert log.read_text().count("-m pip install") == 1
    setup(repo, "--dev")
    assert log.read_text().count("-m pip install") == 2 and "requirements-dev.txt" in log.read_text()
    for _ in range(2):  # each has a stamp of its own
        setup(repo, "--dev", "--experts")
    assert log.read_text().count("-m pip install") == 3 and "requirements-experts.txt" in log.read_text()
    with (repo / "requirements.txt").open("a") as file:
        file.write("more==1\n")
    setup(repo)
    assert log.read_text().count("-m pip install") == 4


@pytest.mark.parametrize(("option", "package"), [("--tpu", "jax[tpu]=="), ("--gpu", "jax[cuda12]==")])
def test_setup_of_another_variant_starts_anew_and_is_kept(repo, option, package):
    log = fake_python(repo)
    setup(repo)
    done = setup(repo, option)
    assert log.read_text().count("-m venv --clear") == 2 and package in log.read_text()
    assert f"({option[2:]}, " in done.stdout and f"({option[2:]}, " in setup(repo).stdout


def test_setup_tells_when_pip_fails_and_tries_again(repo):
    fake_python(repo, no_pip=1)
    done = setup(repo)
    assert done.returncode == 1 and done.stderr.startswith("error: pip could not install the packages")
    assert "installing requirements.txt" in setup(repo).stdout


def test_quickstart_begins_with_samples_of_the_bundled_model(repo):
    log = fake_python(repo)
    for name in ("tail", "sleep"):
        (repo.parent / "bin" / name).symlink_to(shutil.which(name))
    environment = {"PATH": str(repo.parent / "bin")}
    done = bash(repo / "launch" / "quickstart.sh", "--out", repo.parent / "out", env=environment)
    assert done.returncode == 0, done.stderr
    calls = [line for line in log.read_text().splitlines() if line.startswith("-m mmgen_jax")]
    modules = [line.split()[1].removeprefix("mmgen_jax.") for line in calls]
    assert "--workdir=shapes-tiny" in calls[0] and "data" not in calls[0]
    shown = ["sample", "data.shapes", "demo", "train", "evaluate", "train", "train", "evaluate", "demo"]
    assert modules == [*shown, "studies.learned"]


def learned(folder):
    """The outcome of the study of this name for the reports in the files `before` and `after` of a folder."""
    options = [f"--{name}={folder / name}" for name in ("before", "after")]
    command = [sys.executable, "-m", "mmgen_jax.studies.learned", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def compare(folder, before, after, guess=(0.08, 20.0, 0.57)):
    for name, values in (("before", before), ("after", after)):
        columns = {"model": values, "mean_image": guess}
        keys = ("depth/absrel", "normal/mean", "mask/miou")
        report = {"understanding": {c: dict(zip(keys, v, strict=True)) for c, v in columns.items()}}
        (folder / name).write_text(json.dumps(report))
    return learned(folder)


def test_comparison_passes_only_what_is_clearly_better(tmp_path):
    before = (0.2, 50.0, 0.15)
    done = compare(tmp_path, before, (0.05, 18.0, 0.73))
    assert done.returncode == 0 and done.stderr == "" and "mIoU" in done.stdout
    # Hardly better than before; better, but not than an average picture; no number at all.
    done = compare(tmp_path, before, (0.19, 21.0, None))
    assert done.returncode == 1
    assert done.stderr == (
        "error: training did not clearly improve depth AbsRel, normals, mean degrees, regions, mIoU\n"
    )
    (tmp_path / "after").write_text("{}")
    done = learned(tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1

"""launch/tpu.sh on a stand-in for gcloud that knows the flags of the real one and plays the workers."""

import os
import shlex
import shutil
import signal

import pytest
from gcloud import fake_gcloud
from gcloud.cloud import ARGUMENTS, standing, until

ODD = ["--a=$HOME `id` \\ !", "--b=é  two", "", "--c='"]


@pytest.fixture
def cloud(tmp_path):
    with standing(tmp_path) as cloud:
        yield cloud


GCLOUD = "gcloud compute tpus"
ALIVE = "--{0}-flag=-oConnectTimeout=30 --{0}-flag=-oServerAliveInterval=30"
SSH = f"tpu-vm ssh a --worker=all {ALIVE.format('ssh')}"
PACK = "git archive --format=tar.gz --output=.tpu/a/mmgen_jax.tar.gz HEAD"
COPY = "tpu-vm scp .tpu/a/mmgen_jax.tar.gz launch/tpu_worker.sh a: --worker=all"
COPY = f"{GCLOUD} {COPY} {ALIVE.format('scp')} --zone=z --quiet"
STATE = f"{GCLOUD} queued-resources describe a '--format=value(state.state)' --zone=z --quiet"
SETUP = f"{GCLOUD} {SSH} '--command=bash tpu_worker.sh setup' --zone=z --quiet"
ASK = "if [ -f tpu_worker.sh ]; then bash tpu_worker.sh status; else echo mmgen-status new none - -; fi"
ASK = f"{GCLOUD} {SSH} {shlex.quote('--command=' + ASK)} --zone=z --quiet"
STOP = "if [ -f tpu_worker.sh ]; then bash tpu_worker.sh stop; fi"
STOP = f"{GCLOUD} {SSH} {shlex.quote('--command=' + STOP)} --zone=z --quiet"
DELETE = f"{GCLOUD} queued-resources delete a --force --zone=z --quiet"


def create(*flags):
    return f"{GCLOUD} queued-resources create a {' '.join(flags)} --quiet"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "create a --zone=z --accelerator=v5litepod-16 --spot",
            create(
                "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --node-id=a --spot", "--zone=z"
            ),
        ),
        (
            "create a --zone z --accelerator v6e-8 --project my-project -- --network=tpu --labels=a=b",
            create(
                "--accelerator-type=v6e-8 --runtime-version=v2-alpha-tpuv6e --node-id=a --network=tpu --labels=a=b",
                "--zone=z --project=my-project",
            ),
        ),
        (
            "create a --zone=z --accelerator=v5p-8 --slices=2",
            create(
                "--accelerator-type=v5p-8 --runtime-version=v2-alpha-tpuv5 --node-count=2 --node-prefix=a", "--zone=z"
            ),
        ),
        (
            "create a --zone=z --accelerator=v4-8",
            create("--accelerator-type=v4-8 --runtime-version=tpu-ubuntu2204-base --node-id=a --zone=z"),
        ),
        (
            "create a --zone=z --accelerator=new-8 --runtime=v9",
            create("--accelerator-type=new-8 --runtime-version=v9 --node-id=a --zone=z"),
        ),
        ("setup a --zone=z", [STATE, PACK, COPY, SETUP]),
        (
            "setup a --zone=z --slices=2",
            [
                STATE,
                PACK,
                COPY.replace("a: ", "a-0: "),
                COPY.replace("a: ", "a-1: "),
                SETUP.replace("ssh a", "ssh a-0"),
                SETUP.replace("ssh a", "ssh a-1"),
            ],
        ),
        (
            "run a --zone=z -- --config=c.py --workdir=gs://b/a",
            [ASK, SETUP.replace("setup", "start --config=c.py --workdir=gs://b/a")],
        ),
        ("logs a --zone=z", SETUP.replace("setup", "log").replace("=all", "=0")),
        (
            "logs a --zone=z --slices=2 --slice=1 --worker=1",
            SETUP.replace("setup", "log").replace("=all", "=1").replace("ssh a", "ssh a-1"),
        ),
        ("status a --zone=z", [STATE, ASK]),
        ("stop a --zone=z", STOP),
        ("delete a --zone=z", DELETE),
    ],
)
def test_dry_run_prints_the_commands_and_runs_nothing(cloud, words, expected):
    cloud.environment["PATH"] = "/usr/bin:/bin"  # the stand-in is not there
    out, error = cloud.tpu(
        *words.split(" -- ")[0].split(),
        "--dry-run",
        *words.partition(" -- ")[1].split(),
        *words.partition(" -- ")[2].split(),
    )
    lines = [expected] if isinstance(expected, str) else expected
    assert out.splitlines() == lines and error == ""
    for line in lines:  # the real gcloud knows all of it
        if line.startswith("gcloud "):
            fake_gcloud.parse(shlex.split(line)[1:])
    assert not (cloud.root / "calls.jsonl").exists() and not (cloud.repo / ".tpu").exists()


def test_dry_run_of_watch_prints_what_a_preemption_takes(cloud):
    cloud.begin("1 0")
    before = len(cloud.calls())
    out, _ = cloud.tpu("watch", "a", "--dry-run")
    request = create(
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --node-id=a --spot", "--zone=z"
    )
    begin = (
        f"{GCLOUD} {SSH} {shlex.quote('--command=bash tpu_worker.sh start ' + shlex.join(ARGUMENTS))} --zone=z --quiet"
    )
    assert out.splitlines() == [STATE, ASK, DELETE, request, STATE, ASK, STOP, COPY, SETUP, begin]
    assert len(cloud.calls()) == before


def test_arguments_reach_every_worker_as_they_were_typed(cloud):
    cloud.plan("1 0")
    cloud.tpu("create", "a", "--zone=z", "--accelerator=v5litepod-16", "--", "--network=b c")
    assert "--network=b c" in cloud.calls()[-1]
    cloud.tpu("setup", "a")
    cloud.tpu("run", "a", "--", *ARGUMENTS, *ODD)
    for worker in (0, 1):
        until((cloud.home(worker) / "mmgen_run" / "exit").exists)
        assert cloud.starts(f"a-w-{worker}") == [[*ARGUMENTS, *ODD]]
        assert (cloud.home(worker) / "mmgen_run" / "exit").read_text() == "0\n"
        assert "jax[tpu]==" in (cloud.home(worker) / "pip").read_text()
        assert "requirements-gcs.txt" in (cloud.home(worker) / "pip").read_text()
        assert (cloud.home(worker) / "mmgen_jax" / "launch" / "tpu.sh").exists()
    out, _ = cloud.tpu("status", "a")
    lines = sorted(out.splitlines())
    assert lines == ["a: ACTIVE", "mmgen-status a-w-0 exited 0 1", "mmgen-status a-w-1 exited 0 1"]
    cloud.tpu("delete", "a")
    assert not (cloud.repo / ".tpu" / "a").exists() and cloud.tpu("status", "a", "--zone=z")[0] == "a: NONE\n"


def test_what_is_called_is_what_a_dry_run_prints(cloud):
    words = ("create", "a", "--zone=z", "--accelerator=v5litepod-16", "--project=p", "--spot", "--", "--network=b c")
    printed = cloud.tpu(*words[:6], "--dry-run", *words[6:])[0]
    cloud.tpu(*words)
    for command in (["setup"], ["run", "--", *ARGUMENTS, *ODD], ["stop"], ["delete"]):
        printed += cloud.tpu(command[0], "a", "--dry-run", *command[1:])[0]
        cloud.plan("1 0")
        cloud.tpu(command[0], "a", *command[1:])
    printed = [shlex.split(line) for line in printed.replace("\\\n", "").splitlines()]
    first = ["compute", "tpus", "queued-resources", "describe"]  # create looks whether there is one already
    assert [words[1:] for words in printed if words[0] == "gcloud"] == cloud.calls()[1:]
    assert cloud.calls()[0][:4] == first


def test_training_runs_once_and_ends_when_told(cloud):
    cloud.begin("7 hang")
    until(lambda: cloud.tpu("status", "a")[0].count("running - 7") == 2)
    _, error = cloud.tpu("run", "a", "--", *ARGUMENTS, code=1)
    assert error == "error: training runs already on 'a'; ./launch/tpu.sh stop a first\n"
    _, error = cloud.tpu("setup", "a", code=1)
    assert "error: a-w-1: training runs on this worker; stop it first" in error
    out, _ = cloud.tpu("stop", "a")
    assert sorted(out.splitlines()) == [f"a-w-{i}: ended with exit code 75" for i in (0, 1)]
    assert sorted(cloud.tpu("stop", "a")[0].splitlines()) == [f"a-w-{i}: nothing runs" for i in (0, 1)]
    cloud.plan("1 hang", "9 stuck")  # the next start hears no signal
    cloud.environment["GRACE"] = "1"
    cloud.tpu("run", "a", "--", *ARGUMENTS)
    assert next((cloud.home() / "mmgen_run").glob("log-until-*")).read_text().count("step 7") == 1  # of the first start
    until(lambda: all("step 9" in (cloud.home(i) / "mmgen_run" / "log").read_text() for i in (0, 1)))
    out, _ = cloud.tpu("stop", "a")
    assert sorted(out.splitlines()) == [f"a-w-{i}: ended with exit code 137" for i in (0, 1)]


def test_logs_follow_one_worker(cloud):
    cloud.begin("3 hang")
    process = cloud.popen("logs", "a", "--worker=1")
    try:
        lines = [process.stdout.readline() for _ in range(2)]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
    assert "a-w-1: python -m mmgen_jax.train --config=configs/a.py" in lines[0] and lines[1].startswith("step 3/100")


def test_setup_waits_and_keeps_data(cloud):
    (cloud.root / "states").write_text("NONE WAITING_FOR_RESOURCES PROVISIONING PROVISIONING ACTIVE")
    cloud.tpu("create", "a", "--zone=z", "--accelerator=v5litepod-16")
    out, _ = cloud.tpu("setup", "a", "--poll=0")
    assert [line.split(";")[0] for line in out.splitlines() if "waiting" in line] == [
        "tpu: a is WAITING_FOR_RESOURCES",
        "tpu: a is PROVISIONING",
    ]
    folder = cloud.home() / "mmgen_jax"
    for name in ("data", "runs", "old"):
        (folder / name).mkdir()
    (cloud.repo / "launch" / "new").touch()  # not committed: stays here
    cloud.tpu("setup", "a")
    assert not (folder / "old").exists() and (folder / "data").exists() and (folder / "runs").exists()
    assert (folder / ".venv").exists() and not (folder / "launch" / "new").exists()
    assert (cloud.home() / "pip").read_text().count("-r requirements.txt jax[tpu]") == 1
    (cloud.root / "states").write_text("FAILED")
    (cloud.root / "message").write_text("no quota\nmore")
    _, error = cloud.tpu("setup", "a", code=1)
    assert error == "error: 'a' is FAILED: no quota; delete and create it again\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "command is ''; allowed: create, setup, run, logs"),
        ("make a", "command is 'make'; allowed: create"),
        ("create", "name is ''; allowed: a lower-case letter"),
        ("create A", "name is 'A'; allowed"),
        ("create a-", "name is 'a-'; allowed"),
        ("create a_b", "name is 'a_b'; allowed"),
        ("create a --zone", "--zone needs a value"),
        ("create a --zone=", "--zone is ''; allowed: letters"),
        ("create a --zone=z", "--accelerator is missing"),
        ("create a --accelerator=v5litepod-16", "--zone is not known: .tpu/a/options is missing"),
        ("create a --zone=z --accelerator=v5e-16", "--accelerator is 'v5e-16'; allowed: v5litepod-N (v5e), v6e-N"),
        ("create a --zone=z --slices=0", "--slices is '0'; allowed: whole numbers from 1"),
        ("create a --zone=z --slices=x", "--slices is 'x'; allowed: whole numbers from 1"),
        ("create a --zone=z --fast", "unknown argument '--fast'; see ./launch/tpu.sh --help"),
        ("setup a", "--zone is not known"),
        ("setup a --zone=z -- b", "setup takes no arguments after --; allowed for create and run"),
        ("run a --zone=z", "no arguments of training; they follow a --"),
        ("logs a --zone=z --slice=1", "--slice is '1'; allowed: 0 to 0"),
        ("watch a --zone=z --accelerator=v4-8 --poll=08", "--poll is '08'; allowed: whole numbers from 0"),
        ("watch a --zone=z --accelerator=v4-8", ".tpu/a/command is missing; ./launch/tpu.sh run a starts"),
    ],
)
def test_bad_input_ends_with_one_line(cloud, words, message):
    out, error = cloud.tpu(*words.split(), code=2)
    assert error.startswith(f"error: {message}") and error.count("\n") == 1 and out == ""
    assert not (cloud.root / "calls.jsonl").exists()


def test_what_gcloud_refuses_is_said(cloud):
    cloud.begin("1 0")
    _, error = cloud.tpu("create", "a", "--zone=z", "--accelerator=v5litepod-16", code=2)
    assert error == "error: 'a' is there already, in state ACTIVE; delete it or take another name\n"
    (cloud.root / "states").write_text("NONE")
    _, error = cloud.tpu("create", "b", "--zone=z", "--accelerator=v5litepod-16", "--", "--spott", code=1)
    assert "unrecognized arguments: --spott" in error and error.splitlines()[-1].startswith("error: gcloud did not")
    (cloud.root / "unreachable").touch()
    _, error = cloud.tpu("run", "a", "--", *ARGUMENTS, code=1)
    assert error == "error: no answer from the workers of 'a': (gcloud) [255] no connection to worker all of a\n"
    tools = cloud.root / "bin"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    cloud.environment["PATH"] = str(tools)
    assert cloud.tpu("setup", "a", code=1)[1].startswith("error: no gcloud on PATH; install the Google Cloud CLI")


def test_an_old_python_on_the_machine_is_no_hindrance(cloud):
    """On images with Python 3.10, pip installs uv, which installs a newer Python."""
    programs = cloud.root.parent / "bin"
    uv = f"""#!/usr/bin/env bash
echo "uv $*" >>"$HOME/log"
[ "$2" != find ] || echo "{programs}/new-python"
"""
    old = f"""#!/usr/bin/env bash
case "$*" in
  *ensurepip*) exit 1 ;;
  "-m pip install"*) echo "$*" >>"$HOME/log"; mkdir -p "$HOME/.local/bin"; cp "{programs}/uv" "$HOME/.local/bin" ;;
esac
"""
    (programs / "python3.13").rename(programs / "new-python")
    for name, text in {"uv": uv, **dict.fromkeys(("python3.13", "python3.12", "python3.11", "python3"), old)}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    cloud.tpu("create", "a", "--zone=z", "--accelerator=v5litepod-16")
    out, _ = cloud.tpu("setup", "a")
    pip, install, find = (cloud.home() / "log").read_text().splitlines()
    assert pip.startswith("-m pip install --quiet --user uv==") and install == "uv python install --quiet 3.12"
    assert find == "uv python find 3.12" and out.count("setup: .venv is ready (tpu, Python 3.13.0)") == 2

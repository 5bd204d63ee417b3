"""`launch/tpu.sh watch`: what it does when training ends, fails, or loses its TPU VMs."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from gcloud.cloud import ARGUMENTS, standing, until


@pytest.fixture
def cloud(tmp_path):
    with standing(tmp_path) as cloud:
        yield cloud


def states(cloud, *names):
    (cloud.root / "states").write_text(" ".join(names))


def test_done(cloud):
    cloud.begin("100 0")
    lines = cloud.watch().splitlines()
    assert lines[-2] == "tpu: training is done, step 100" and "still there and cost money" in lines[-1]
    assert "delete" not in cloud.verbs() and len(cloud.starts()) == 1
    cloud.watch("--delete")
    assert cloud.verbs()[-1] == "delete" and not (cloud.repo / ".tpu" / "a").exists()


@pytest.mark.parametrize("code", [2, 3])
def test_an_error_that_would_come_again_is_shown_and_ends_it(cloud, code):
    cloud.begin(f"5 {code} 1")  # on worker 1; the other one hangs
    out = cloud.watch(code=code)
    assert f"error: a-w-1 ended with exit code {code}: error: ended with {code} (as planned)\n" in out
    until((cloud.home(0) / "mmgen_run" / "exit").exists)  # the others were stopped
    assert len(cloud.starts()) == 1


def test_a_crash_or_a_stop_starts_it_again_on_the_same_machines(cloud):
    cloud.begin("5 75", "9 134", "100 0")
    out = cloud.watch()
    assert "a-w-0 ended with exit code 134: error: ended with 134 (as planned); start 1 of at most 5" in out
    assert "training is done, step 100" in out
    assert cloud.starts() == cloud.starts("a-w-1") == [ARGUMENTS] * 3
    assert not {"delete"} & set(cloud.verbs()) and cloud.verbs().count("scp") == 1


def test_workers_that_hang_when_one_has_crashed_are_stopped(cloud):
    cloud.begin("5 1 1", "100 0")
    out = cloud.watch()
    assert "a-w-1 ended with exit code 1: " in out and "training is done" in out
    assert len(cloud.starts()) == len(cloud.starts("a-w-1")) == 2


def test_a_preemption_brings_new_machines_and_the_same_command_on_the_same_code(cloud):
    cloud.begin("40 hang", "100 0")
    until(lambda: (cloud.home() / "mmgen_run" / "log").read_text().count("step 40"))
    (cloud.repo / "launch" / "later").touch()  # committed after the start
    for words in ("add .", "-c user.name=a -c user.email=a@b commit -qm b"):
        subprocess.run(["git", *words.split()], cwd=cloud.repo, check=True)
    states(cloud, "ACTIVE", "SUSPENDING", "SUSPENDED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    before = len(cloud.calls())
    out = cloud.watch("--starts=1")
    lines = [line for line in out.splitlines() if line.startswith("tpu: ")]
    assert lines[:5] == [
        "tpu: step 40",
        "tpu: a is SUSPENDING",
        "tpu: preempted or failed: SUSPENDED; start 1 of at most 1 without a new step",
        "tpu: a is WAITING_FOR_RESOURCES",
        "tpu: a is PROVISIONING",
    ]
    assert lines[-2] == "tpu: training is done, step 100"
    verbs = cloud.verbs()[before:]
    assert verbs[:8] == ["describe", "ssh", "describe", "describe", "describe", "delete", "create", "describe"]
    creates = [call for call in cloud.calls() if "create" in call]
    assert len(creates) == 2 and creates[0] == creates[1]
    assert cloud.starts() == cloud.starts("a-w-1") == [ARGUMENTS] * 2
    assert not (cloud.home() / "mmgen_jax" / "launch" / "later").exists()


def test_it_gives_up_without_new_steps(cloud):
    cloud.begin("5 1")
    out = cloud.watch("--starts=2", code=1)
    assert "error: gave up after 2 starts without a step beyond 5: a-w-" in out
    assert len(cloud.starts()) == 3


def test_it_does_not_give_up_while_steps_are_made(cloud):
    cloud.begin("1 1", "2 1", "100 0")
    assert "training is done, step 100" in cloud.watch("--starts=1")


def test_machines_that_went_down_and_came_back(cloud):
    cloud.begin("5 hang", "100 0")
    for worker in (0, 1):
        file = cloud.home(worker) / "mmgen_run" / "pid"
        until(lambda worker=worker: "step 5" in (cloud.home(worker) / "mmgen_run" / "log").read_text())
        pid = int(file.read_text())
        supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    assert "a-w-0 went down after: step 5/100" in cloud.watch()
    assert len(cloud.starts()) == 2


def test_machines_that_do_not_answer_are_replaced(cloud):
    cloud.begin("5 hang")
    (cloud.root / "unreachable").touch()
    out = cloud.watch("--starts=1", code=1)
    assert "no answer from the workers: (gcloud) [255] no connection" in out
    assert "no answer from the workers in 5 rounds; start 1 of at most 1" in out and "error: gave up after 1 s" in out
    assert cloud.verbs().count("delete") == 1 and cloud.verbs().count("create") == 2


def test_a_silent_gcloud_is_waited_for_but_not_at_the_beginning(cloud):
    cloud.begin("100 0")
    states(cloud, "OFFLINE")
    out = cloud.watch(code=1)
    assert (
        out == "error: gcloud cannot tell about 'a': (gcloud) There was a problem refreshing your current auth tokens\n"
    )
    states(cloud, "PROVISIONING", "OFFLINE", "OFFLINE", "ACTIVE")
    out = cloud.watch()
    assert out.count("tpu: gcloud cannot tell about a: (gcloud) There was a problem") == 1 and "is done" in out


def test_a_request_that_fails_is_made_again_a_few_times(cloud):
    cloud.begin("100 0")
    states(cloud, "FAILED")
    (cloud.root / "message").write_text("no more capacity")
    out = cloud.watch("--starts=2", code=1)
    assert "error: gave up after 2 starts without a step beyond 0: preempted or failed: FAILED: no more capacity" in out

"""The same command on several hosts: processes of virtual CPU devices that find each other on this machine."""

import json
import re
import signal

import hosts
import numpy as np
import pytest

from mmgen_jax.checkpoints import restore, seal

pytestmark = pytest.mark.slow


def finish(processes, code=0):
    """Waits for all processes, which must end with `code`; returns their output."""
    try:
        texts = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, texts, strict=True):
        assert process.returncode == code, err[-3000:]
    return [out for out, _ in texts], [err for _, err in texts]


def spoken(out):
    """The lines of this package. The collectives' library prints on every host, in several threads at once."""
    return [line for line in out.splitlines() if line and not re.search(r"Gloo|Rank|connected|peer ranks", line)]


def read_until(process, start):
    for line in process.stdout:
        if line.startswith(start):
            return
    raise AssertionError(f"no line {start}: {process.stderr.read()[-3000:]}")


@pytest.fixture(scope="module")
def reference(tiles_dir, tmp_path_factory):
    """The losses of four steps of one process with four devices."""
    folder = tmp_path_factory.mktemp("one")
    finish([hosts.start(folder, {"data.dir": tiles_dir}, devices=4)])
    return hosts.losses(folder)


@pytest.fixture(scope="module", autouse=True)
def dying(tiles_dir, tmp_path_factory):
    """Workdir and first process of a run whose second one was killed."""
    folder = tmp_path_factory.mktemp("dying")
    settings = {"data.dir": tiles_dir, "train.steps": 100_000, "train.save_every": 2}
    first, second = hosts.start_hosts(folder, 2, settings, 2)
    read_until(first, "step 5/")
    second.kill()
    yield folder, first
    first.kill()
    second.communicate()


def test_any_number_of_hosts_makes_the_same_run(reference, tiles_dir, tmp_path):
    """Two steps on two hosts and two more on four give the losses of one host; lines are written and printed once."""
    settings = {"data.dir": tiles_dir, "train.sample_every": 2}
    split = {"data.workers": 1, "mesh.data": 1, "mesh.fsdp": 4, "train.steps": 2}
    split |= {"train.evaluate_every": 2, "train.evaluate_n": 4}
    out, _ = finish(hosts.start_hosts(tmp_path, 2, settings | split, 4))
    assert any(line.startswith("step 2/2") for line in spoken(out[0])) and spoken(out[1]) == []
    path = restore.folder_of(tmp_path) / "2"
    assert sorted(p.name for p in path.glob("sha256-*")) == [f"sha256-0000{i}-of-00002.json" for i in (0, 1)]
    parts = [set(json.loads(p.read_text())["files"]) for p in sorted(path.glob("sha256-*"))]
    assert not parts[0] & parts[1] and set(seal.read_seal(path).files) == parts[0] | parts[1]
    out, _ = finish(hosts.start_hosts(tmp_path, 4, settings, 4))
    assert any(line.startswith("resuming from step 2") for line in spoken(out[0]))
    assert [spoken(text) for text in out[1:]] == [[], [], []]
    found = hosts.losses(tmp_path)
    np.testing.assert_allclose([found[s] for s in range(1, 5)], [reference[s] for s in range(1, 5)], rtol=1e-5)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "scores"] == [2]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["00000002.png", "00000004.png"]
    assert restore.steps_in(restore.folder_of(tmp_path)) == [2, 4]
    assert json.loads((tmp_path / "config.json").read_text())["distributed"]["process"] == 0


def test_all_hosts_stop_at_the_same_step_when_one_is_told_to(tiles_dir, tmp_path):
    settings = {"data.dir": tiles_dir, "train.steps": 100_000, "train.save_every": 100_000}
    processes = hosts.start_hosts(tmp_path, 2, settings, 4)
    read_until(processes[0], "step 3/")
    processes[1].send_signal(signal.SIGTERM)
    out, _ = finish(processes, 75)
    stopped = next(line for line in spoken(out[0]) if line.startswith("stopped at step "))
    step = int(stopped.split()[3])
    assert restore.steps_in(restore.folder_of(tmp_path)) == [step]
    assert seal.is_sealed(restore.folder_of(tmp_path) / str(step))


def test_interrupting_one_of_one_saves_too(tiles_dir, tmp_path):
    """With a coordinator, JAX's service takes the place of our handler of SIGTERM; Ctrl-C must go through it.

    Checkpoints are written all the time, and the second signal comes before the first step.
    """
    settings = {"data.dir": tiles_dir, "train.steps": 100_000}
    steps = []
    for line, number, code in (("step 20/", signal.SIGINT, 130), ("resuming", signal.SIGTERM, 75)):
        process = hosts.start(tmp_path, settings | {"distributed.coordinator": f"localhost:{hosts.free_port()}"})
        read_until(process, line)
        process.send_signal(number)
        out, _ = finish([process], code)
        steps.append(int(out[0].split("stopped at step ")[1].split()[0]))
    assert 20 <= steps[0] < 100 and steps[1] == steps[0] + 1


def test_what_all_hosts_find_wrong_is_one_line_of_each(tiles_dir, tmp_path):
    processes = hosts.start_hosts(tmp_path, 2, {"data.dir": tiles_dir, "train.batch": 9}, 2)
    _, err = finish(processes, 2)
    for text in err:
        (line,) = [line for line in text.splitlines() if "error: " in line]
        assert line.startswith("error: train.batch") and "is 9; it must be" in line and "Traceback" not in text


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"coordinator": "here"}, "distributed.coordinator is 'here'; allowed: host:port"),
        ({"coordinator": "here:65536"}, "distributed.coordinator is 'here:65536'; allowed: host:port"),
        ({"coordinator": "localhost:1", "processes": 2, "process": 2}, "distributed.process is 2; allowed: 0 to 1"),
        ({"coordinator": "auto"}, "distributed.coordinator is 'auto', but JAX finds no cluster here"),
        ({"processes": 0}, "distributed.processes is 0; it must be an integer of at least 1"),
    ],
)
def test_wrong_addresses_are_one_clear_line(settings, message, tmp_path):
    process = hosts.start(tmp_path / "run", {f"distributed.{key}": value for key, value in settings.items()})
    _, (err,) = finish([process], 2)
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_host_that_waits_for_others_says_so(tmp_path):
    address = f"localhost:{hosts.free_port()}"
    settings = {"distributed.coordinator": address, "distributed.processes": 2, "distributed.process": 1}
    process = hosts.start(tmp_path, settings)
    line = process.stderr.readline()
    process.kill()
    process.communicate()
    assert line == f"waiting for all 2 processes at {address}; this is process 1 (gives up after 300 s)\n"


def test_a_host_that_dies_does_not_leave_the_others_waiting(dying):
    folder, first = dying
    _, err = first.communicate(timeout=200)
    assert first.returncode == 75  # asks to be started again
    (line,) = [line for line in err.splitlines() if "error: " in line]
    assert line.startswith("error: another host has ended, or cannot be reached (") and "Traceback" not in err
    steps = restore.steps_in(restore.folder_of(folder))
    assert any(seal.is_sealed(restore.folder_of(folder) / str(step)) for step in steps)

"""Training is killed, its files are damaged, its disk is full: it goes on, or says in one line why it cannot."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import hosts
import pytest

from mmgen_jax.checkpoints import restore, seal

pytestmark = pytest.mark.slow
KILLS = 20
FOREVER = {"train.steps": 1_000_000, "train.save_every": 2, "train.keep": 2}


def sealed(workdir) -> list[int]:
    folder = restore.folder_of(workdir)
    return [step for step in restore.steps_in(folder) if seal.is_sealed(folder / str(step))]


def assert_sound(workdir) -> None:
    """Every sealed checkpoint is as it was written."""
    folder = restore.folder_of(workdir)
    for step in sealed(workdir):
        seal.check(folder / str(step), seal.read_seal(folder / str(step)))


def until_some_time(rng, process, workdir) -> None:
    """Waits for a random moment of starting, restoring and compiling."""
    time.sleep(rng.uniform(0, 8))


def until_step(rng, process, workdir) -> None:
    """Waits for a random moment of stepping, when saves, checksums and deletions overlap."""
    for line in process.stdout:
        if line.startswith("step "):
            break
    time.sleep(rng.uniform(0, 1.5))


def until_saving(rng, process, workdir) -> None:
    """Waits until a checkpoint is being written."""
    folder = restore.folder_of(workdir)
    until_step(random.Random(0), process, workdir)
    while process.poll() is None:
        if folder.exists() and any("tmp" in name for name in os.listdir(folder)):
            time.sleep(rng.uniform(0, 0.05))
            return


def run(workdir, settings: dict) -> tuple[int, str, str]:
    process = hosts.start(workdir, settings)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def survivor(tiles_dir, tmp_path_factory):
    """Workdir of a run that was killed again and again, and the steps it was found to resume from."""
    workdir = tmp_path_factory.mktemp("survivor") / "run"
    rng = random.Random(0)
    moments = itertools.cycle([until_step, until_saving, until_some_time])
    found = []
    for moment in itertools.islice(moments, KILLS):
        process = hosts.start(workdir, FOREVER | {"data.dir": tiles_dir}, stderr=subprocess.DEVNULL)
        moment(rng, process, workdir)
        assert process.poll() is None, f"training ended by itself with {process.returncode}"
        process.kill()
        process.communicate()
        assert_sound(workdir)
        found.append(max(sealed(workdir), default=0))
    return workdir, found


def test_no_moment_to_be_killed_at_loses_what_was_finished(survivor, tiles_dir, tmp_path):
    """Sealed checkpoints never get fewer steps, and the losses are bit for bit those of a run that nobody disturbed."""
    workdir, found = survivor
    assert len(found) == KILLS >= 20 and found == sorted(found) and found[-1] > found[0]
    settings = FOREVER | {"data.dir": tiles_dir, "train.steps": max(hosts.losses(workdir))}
    code, out, err = run(workdir, settings)  # the last word on each step
    assert code == 0, err
    assert int(out.split("resuming from step ")[1].split()[0]) >= found[-1]
    code, _, err = run(tmp_path / "calm", settings | {"train.save_every": 1_000_000})
    assert code == 0, err
    assert hosts.losses(workdir) == hosts.losses(tmp_path / "calm")
    every = [line for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len(every) > len(hosts.losses(workdir))  # some steps were made twice, and logged twice


def largest(folder: Path) -> Path:
    return max((Path(root, name) for root, _, names in os.walk(folder) for name in names), key=os.path.getsize)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("hurt", [flip, cut])
def test_damaged_checkpoints_are_skipped_and_training_goes_on(survivor, tiles_dir, tmp_path, hurt):
    shutil.copytree(survivor[0], tmp_path / "run")
    *_, older, newest = sealed(tmp_path / "run")
    hurt(largest(Path(restore.folder_of(tmp_path / "run"), str(newest))))
    code, out, err = run(tmp_path / "run", FOREVER | {"data.dir": tiles_dir, "train.steps": newest + 2})
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith(f"checkpoint of step {newest} skipped, it is damaged: state/")
    assert lines[1].startswith(f"resuming from step {older} ")
    assert sealed(tmp_path / "run")[-1] == newest + 2  # the damaged step is sealed anew only where it is one to save at
    assert_sound(tmp_path / "run")


def test_if_no_checkpoint_is_sound_nothing_is_touched(survivor, tiles_dir, tmp_path):
    shutil.copytree(survivor[0], tmp_path / "run")
    folder = Path(restore.folder_of(tmp_path / "run"))
    steps = restore.steps_in(restore.folder_of(tmp_path / "run"))
    for step in steps:
        cut(largest(folder / str(step)))
    before = sorted(folder.rglob("*"))
    code, out, err = run(tmp_path / "run", FOREVER | {"data.dir": tiles_dir})
    assert code == 2 and err.count("\n") == 1 and err.startswith(f"error: no checkpoint in {folder} can be read; all")
    assert out.count("skipped, it is damaged") == len(steps) and sorted(folder.rglob("*")) == before


def test_data_that_are_cut_off_stop_the_run_in_one_line(survivor, tiles_dir, tmp_path):
    shutil.copytree(survivor[0], tmp_path / "run")
    shutil.copytree(tiles_dir, tmp_path / "tiles")
    (shard,) = (tmp_path / "tiles").rglob("*train.array_record*")
    cut(shard)
    before = sealed(tmp_path / "run")
    code, _, err = run(tmp_path / "run", FOREVER | {"data.dir": tmp_path / "tiles"})
    assert code in (2, 3) and err.count("\n") == 1 and err.startswith("error: ") and str(shard) in err
    assert sealed(tmp_path / "run") == before


@pytest.fixture
def small_disk(mounted, tmp_path):
    """A folder on a file system of 6 MB of its own, and a function that makes it larger."""
    with mounted(tmp_path / "disk", "size=6m") as folder:
        yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


def test_a_full_disk_ends_in_one_line_and_older_checkpoints_stay(small_disk, tiles_dir):
    folder, enlarge = small_disk
    settings = FOREVER | {"data.dir": tiles_dir, "train.keep": 1000}
    code, _, err = run(folder / "run", settings)
    assert code == 3 and err.count("\n") == 1 and err.startswith("error: ") and "No space left on device" in err, err
    assert_sound(folder / "run")
    newest = sealed(folder / "run")[-1]
    enlarge()
    code, out, err = run(folder / "run", settings | {"train.steps": newest + 4})
    assert code == 0, err
    assert int(out.split("resuming from step ")[1].split()[0]) >= newest
    assert newest + 4 in sealed(folder / "run")


def group_of(process) -> dict[int, str]:
    """Number and command line of each process in the group that `process` leads."""
    listed = subprocess.run(["ps", "-ewwo", "pid=,pgid=,args="], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in listed.splitlines())
    return {int(pid): args for pid, group, args in rows if int(group) == process.pid}


def test_ctrl_c_in_a_terminal_leaves_workers_reading_until_training_has_saved(tiles_dir, tmp_path):
    """Ctrl-C goes to all processes of the group; the first one comes while workers are starting."""
    settings = FOREVER | {"data.dir": tiles_dir, "data.workers": 2}
    for start in ("  all", "step "):
        process = hosts.start(tmp_path, settings, start_new_session=True)
        for line in process.stdout:
            if line.startswith(start):
                break
        while not (tmp_path / "tensorboard").exists():  # the last that is opened before the loop
            time.sleep(0.1)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 130 and err == "" and "by SIGINT; the same command continues" in out


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
def test_what_schedulers_and_lost_terminals_send_is_a_request_to_stop(number, tiles_dir, tmp_path):
    process = begun(tmp_path, {"data.dir": tiles_dir})
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75 and err == "" and f"by {number.name}; the same command continues" in out
    stopped = int(out.rpartition("stopped at step ")[2].split()[0])
    assert sealed(tmp_path)[-1] == stopped


def test_a_run_under_nohup_outlives_its_terminal(tiles_dir, tmp_path):
    process = begun(tmp_path, {"data.dir": tiles_dir}, signal.SIG_IGN)
    process.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_many_signals_do_what_one_does(tiles_dir, tmp_path):
    process = begun(tmp_path, {"data.dir": tiles_dir})
    while process.poll() is None:  # also while it saves, closes its files and ends
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    out, err = process.communicate()
    assert process.returncode == 75 and err == "" and "by SIGTERM" in out
    assert sealed(tmp_path)[-1] == int(out.rpartition("stopped at step ")[2].split()[0])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_reading_process_that_is_killed_ends_the_run_in_one_line_after_saving(number, tiles_dir, tmp_path):
    """SIGKILL is what comes when memory is short; other signals do nothing to a reading process."""
    process = begun(tmp_path, {"data.dir": tiles_dir, "data.workers": 2, "train.save_every": 1_000_000})
    os.kill(readers(process)[0], number)
    if number == signal.SIGTERM:
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    told = "error: a reading process (data.workers) was ended by SIGKILL, which the system sends when memory is short; "
    assert err == ("" if number == signal.SIGTERM else f"{told}the same command continues\n")
    assert sealed(tmp_path)[-1] == max(hosts.losses(tmp_path)) > 0


def test_sigterm_is_obeyed_while_a_reading_process_hangs(tiles_dir, tmp_path):
    process = begun(tmp_path, {"data.dir": tiles_dir, "data.workers": 2, "train.save_every": 1_000_000})
    for reader in readers(process):
        os.kill(reader, signal.SIGSTOP)
    time.sleep(3)  # what was read before is used up
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75 and err == "" and "by SIGTERM" in out
    assert sealed(tmp_path)[-1] == max(hosts.losses(tmp_path)) > 0


def test_reading_that_hangs_for_good_ends_the_run_in_one_line_after_saving(tiles_dir, tmp_path):
    settings = {"data.dir": tiles_dir, "data.workers": 1, "data.timeout": 20, "train.save_every": 1_000_000}
    process = begun(tmp_path, settings)
    os.kill(readers(process)[0], signal.SIGSTOP)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 75
    assert err.startswith("error: no batch came for 20 s, which config key data.timeout allows: ")
    assert err.count("\n") == 1 and sealed(tmp_path)[-1] == max(hosts.losses(tmp_path)) > 0


def test_a_restart_waits_for_the_run_before_it_and_continues_from_its_last_step(tiles_dir, tmp_path):
    """It must not look for the newest checkpoint while another run may still write one."""
    first = begun(tmp_path, {"data.dir": tiles_dir})
    second = hosts.start(tmp_path, FOREVER | {"data.dir": tiles_dir, "train.steps": 1})
    assert next(second.stdout).startswith(f"workdir {tmp_path} is in use by another run; waiting up to")
    first.send_signal(signal.SIGTERM)
    out, _ = first.communicate(timeout=60)
    stopped = out.rpartition("stopped at step ")[2].split()[0]
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0 and f"resuming from step {stopped} " in out, err
    assert not (tmp_path / "checkpoints" / "damaged").exists()


def begun(workdir, settings: dict, hangup=signal.SIG_DFL) -> subprocess.Popen:
    """A run that makes steps, in a group of its own; `hangup`: what it does by itself at SIGHUP."""
    begin = lambda: signal.signal(signal.SIGHUP, hangup)  # noqa: E731
    process = hosts.start(workdir, FOREVER | settings, start_new_session=True, preexec_fn=begin)
    until_step(random.Random(0), process, workdir)
    return process


def readers(process) -> list[int]:
    """The reading processes of a run."""
    found = [pid for pid, args in group_of(process).items() if "spawn_main" in args]
    assert found
    return found


def test_workers_end_with_a_run_that_is_killed(tiles_dir, tmp_path):
    process = hosts.start(tmp_path, FOREVER | {"data.dir": tiles_dir, "data.workers": 2}, start_new_session=True)
    until_step(random.Random(0), process, tmp_path)
    assert len(group_of(process)) >= 3
    process.kill()
    process.wait()
    for _ in range(100):
        if not group_of(process):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {group_of(process)}")

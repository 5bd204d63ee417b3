"""Tests the sample command."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import sample
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders, weights
from mmgen_jax.models import architectures
from mmgen_jax.show import sample_folder
from mmgen_jax.system.errors import NotFinite, UsageError
from mmgen_jax.system.shares import Share


def read(path):
    with Image.open(path) as image:
        return np.array(image)


def contents(folder):
    """Name -> content of all files."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_category_files(model_config, model_dir):
    model_config.sample.class_id = "torus"
    target = sample.run(model_config, str(model_dir))
    assert target == model_dir / "samples" / "category"
    names = {p.name for p in target.iterdir()}
    assert {"rgb_002.png", "depth_000.png", "normal_001.npy", "mask_ids_002.png"} <= names
    assert {"sheet.png", "grid.png", "gallery.html", "samples.json"} <= names
    assert "class torus" in (target / "gallery.html").read_text()


def test_conditions_come_from_the_test_split(model_config, model_dir, tmp_path):
    model_config.sample.task, model_config.sample.index = "rgb+mask", 5
    target = sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    assert target == tmp_path / "out"
    for i in range(3):
        np.testing.assert_array_equal(read(target / f"rgb_{i:03d}.png"), tiny_model.pixels(8)["rgb"][5 + i])
    text = (target / "gallery.html").read_text()
    assert "depth truth" in text and "given rgb + mask" in text


def test_files_that_are_given_are_the_task(model_config, model_dir, tmp_path):
    """Depth and regions are given, composed with their strengths; rgb alone is wanted."""
    for m, pixels in tiny_model.pixels(1).items():
        Image.fromarray(pixels[0].squeeze()).save(tmp_path / f"{m}.png")
    c = model_config.sample
    c.given.depth, c.given.mask, c.wanted = str(tmp_path / "depth.png"), str(tmp_path / "mask.png"), "rgb"
    c.strength.depth, c.compose, c.corrector, model_config.data.dir = 0.6, True, 1, "nowhere"
    target = sample.run(model_config, str(model_dir))
    assert target == model_dir / "samples" / "depth+mask to rgb"
    names = {p.name for p in target.iterdir()}
    assert {"rgb_000.png", "depth_000.png", "mask_000.png"} <= names and "normal_000.png" not in names
    assert "given depth x 0.6 and, composed, mask; rgb alone" in (target / "gallery.html").read_text()
    before = contents(target)
    sample.run(model_config, str(model_dir))
    assert contents(target) == before
    c.strength.depth = 0.7
    with pytest.raises(UsageError, match=r"was begun with sample.strength.depth 0.6 instead of 0.7"):
        sample.run(model_config, str(model_dir))


def test_conditions_come_from_files(model_config, model_dir, tmp_path):
    pixels = tiny_model.pixels(1)["depth"][0, ..., 0]
    Image.fromarray(pixels).save(tmp_path / "depth.png")
    model_config.sample.task, model_config.sample.images.depth = "depth", str(tmp_path / "depth.png")
    model_config.data.dir = "nowhere"
    target = sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    np.testing.assert_array_equal(read(target / "depth_001.png"), pixels)


def test_an_array_of_conditions_has_one_for_each_sample(model_config, model_dir, tmp_path):
    rgb = tiny_model.pixels(3)["rgb"]
    np.save(tmp_path / "rgb.npy", rgb)
    model_config.sample.update({"task": "rgb", "n": 3, "batch": 2})
    model_config.sample.images.rgb = str(tmp_path / "rgb.npy")
    target = sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    for i in range(3):
        np.testing.assert_array_equal(read(target / f"rgb_{i:03d}.png"), rgb[i])
    model_config.sample.n = 2
    with pytest.raises(UsageError, match=r"given rgb \(.*rgb.npy\) has 3 images; allowed: 1, or n = 2"):
        sample.run(model_config, str(model_dir), str(tmp_path / "other"))


@pytest.fixture
def many(model_config):
    """Seven samples in batches of four."""
    model_config.sample.update({"n": 7, "batch": 4, "steps": 1})
    return model_config


def test_what_is_there_is_not_made_again_and_what_is_missing_is_made_as_before(many, model_dir, tmp_path, capsys):
    target = sample.run(many, str(model_dir), str(tmp_path / "out"))
    before, times = contents(target), {p.name: os.stat(p).st_mtime_ns for p in target.iterdir()}
    assert len(before) == 7 * 6 + 4
    sample.run(many, str(model_dir), str(tmp_path / "out"))
    assert {p.name: os.stat(p).st_mtime_ns for p in target.iterdir()} == times
    assert "7 of 7 samples are there already" in capsys.readouterr().out
    for name in ("rgb_003.png", "normal_005.npy", "mask_ids_006.png"):
        (target / name).unlink()
    (target / ".rgb_003.png.77.part").write_bytes(b"half")  # of a process that was killed
    many.sample.batch = 2  # computed in another batch, it is the same sample
    sample.run(many, str(model_dir), str(tmp_path / "out"))
    assert "4 of 7 samples are there already" in capsys.readouterr().out
    after = contents(target)
    assert after.keys() == before.keys() and after["gallery.html"] == before["gallery.html"]
    a, b = (np.load(io.BytesIO(files["normal_005.npy"])) for files in (before, after))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_each_class_in_turn_is_that_class_alone(many, model_dir, tmp_path):
    """Sample 5 of all classes in turn is sample 5 of the class that its number tells, bit for bit."""
    many.sample.class_id = "each"
    mixed = sample.run(many, str(model_dir), str(tmp_path / "each"))
    count = len(architectures.load(model_dir).facts.class_names)
    many.sample.class_id = str(5 % count)
    alone = sample.run(many, str(model_dir), str(tmp_path / "one"))
    same = [(mixed / f"rgb_00{i}.png").read_bytes() == (alone / f"rgb_00{i}.png").read_bytes() for i in range(7)]
    assert same == [i % count == 5 % count for i in range(7)]
    assert json.loads((mixed / "samples.json").read_text())["made_by"]["sample.class_id"] == "each"


def test_files_of_some_modalities_alone_are_written(many, model_dir, tmp_path):
    every = sample.run(many, str(model_dir), str(tmp_path / "every"))
    many.sample.save = "rgb"
    target = sample.run(many, str(model_dir), str(tmp_path / "some"), npz=True)
    images = {f"rgb_00{i}.png" for i in range(7)}
    assert set(contents(target)) == images | {"sheet.png", "grid.png", "gallery.html", "samples.json", "rgb.npz"}
    assert all((target / name).read_bytes() == (every / name).read_bytes() for name in images | {"sheet.png"})
    many.sample.update({"save": "depth+rgb", "draws": 2, "task": "rgb", "n": 1})
    drawn = set(contents(sample.run(many, str(model_dir), str(tmp_path / "drawn"))))
    uncertain = {
        f"depth_{what}_000.{kind}" for what, kind in (("uncertainty", "npy"), ("uncertainty", "png"), ("draws", "npy"))
    }
    assert {name for name in drawn if "_000" in name} == {"rgb_000.png", "depth_000.png"} | uncertain
    many.sample.save = "mask"
    with pytest.raises(UsageError, match="--npz is of rgb; files are written of mask"):
        sample.run(many, str(model_dir), str(tmp_path / "drawn"), npz=True)


def test_workers_make_together_what_one_makes(many, model_dir, tmp_path, monkeypatch, capsys):
    """The first one has those that are shown; what a killed process left is removed by the one that has its samples."""
    monkeypatch.setattr(sample_folder, "SHOWN", 2)
    one = sample.run(many, str(model_dir), str(tmp_path / "one"), npz=True)
    two = tmp_path / "two"
    sample.run(many, str(model_dir), str(two), share=Share(2, 3))
    assert sorted(p.name for p in two.glob("rgb*")) == ["rgb_004.png", "rgb_005.png", "rgb_006.png"]
    for part in (".rgb_000.png.7.part", ".rgb_006.png.7.part"):
        (two / part).write_bytes(b"half")
    sample.run(many, str(model_dir), str(two), share=Share(1, 3))
    assert not (two / "gallery.html").exists() and len(list(two.glob("*.part"))) == 2
    sample.run(many, str(model_dir), str(two), share=Share(0, 3))
    assert [p.name for p in two.glob("*.part")] == [".rgb_006.png.7.part"]
    capsys.readouterr()
    sample.run(many, str(model_dir), str(two), npz=True)
    assert "7 of 7 samples are there already" in capsys.readouterr().out
    assert contents(two).keys() == contents(one).keys()
    for path in one.glob("*.png"):
        np.testing.assert_allclose(read(path).astype(int), read(two / path.name), atol=1, err_msg=path.name)


def test_shares_so_small_that_none_shows_the_samples_leave_it_to_the_whole(many, model_dir, tmp_path):
    for worker in range(2):
        sample.run(many, str(model_dir), str(tmp_path / "out"), share=Share(worker, 2))
    assert not (tmp_path / "out" / "gallery.html").exists()
    assert (sample.run(many, str(model_dir), str(tmp_path / "out")) / "gallery.html").exists()


def test_shares_that_make_no_sense_are_named(many, model_dir, tmp_path):
    with pytest.raises(UsageError, match="--worker is 2 of --workers=2; allowed: 0 to workers - 1"):
        sample.run(many, str(model_dir), str(tmp_path / "out"), share=Share(2, 2))
    with pytest.raises(UsageError, match="--npz is of all samples; give it without --worker=0, when all are there"):
        sample.run(many, str(model_dir), str(tmp_path / "out"), npz=True, share=Share(0, 2))
    assert not (tmp_path / "out").exists()


def test_other_samples_are_not_saved_into_its_folder(many, model_dir, tmp_path):
    target = sample.run(many, str(model_dir), str(tmp_path / "out"))
    before = contents(target)
    with pytest.raises(UsageError, match=r"out holds samples that samples.json describes; give another folder"):
        MMGen.load(model_dir).generate(n=2, steps=1, solver="euler").save(target)
    assert contents(target) == before


def test_more_samples_are_added_and_shown(many, model_dir, tmp_path):
    many.sample.n = 3
    target = sample.run(many, str(model_dir), str(tmp_path / "out"))
    sheet, first = read(target / "sheet.png"), read(target / "rgb_000.png")
    many.sample.n = 7
    sample.run(many, str(model_dir), str(tmp_path / "out"))
    assert read(target / "sheet.png").shape[0] > 2 * sheet.shape[0]
    np.testing.assert_allclose(read(target / "rgb_000.png").astype(int), first, atol=1)
    many.sample.n = 2
    sample.run(many, str(model_dir), str(tmp_path / "out"))  # fewer than there are: nothing is removed
    assert (target / "rgb_006.png").exists()


def test_only_the_first_samples_are_shown(many, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_folder, "SHOWN", 5)
    many.sample.update({"n": 11, "task": "rgb"})
    target = sample.run(many, str(model_dir), str(tmp_path / "out"))
    text = (target / "gallery.html").read_text()
    assert text.count('alt="depth, ') == 2 * 5 and text.count('alt="depth truth, ') == 5
    np.testing.assert_array_equal(read(target / "rgb_010.png"), tiny_model.pixels(11)["rgb"][10])


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"sample.seed": 1}, "sample.seed 0 instead of 1"),
        ({"sample.steps": 3}, "sample.steps 1 instead of 3"),
        ({"sample.solver": "heun"}, 'sample.solver "euler" instead of "heun"'),
        ({"sample.guidance": 2.0}, "sample.guidance 1.0 instead of 2.0"),
        ({"sample.guidance_interval": (0.1, 0.9)}, r"sample.guidance_interval \[0.0, 1.0\] instead of \[0.1, 0.9\]"),
        ({"sample.class_id": "torus"}, 'sample.class_id "" instead of "torus"'),
        ({"sample.given_time": 0.0}, "sample.given_time 0.005 instead of 0.0"),
        ({"sample.task": "depth"}, 'sample.task "rgb" instead of "depth"'),
        ({"sample.index": 2}, "the first scene 0 instead of 2"),
        ({"data.test_split": "train"}, 'the scenes "24:.*" instead of "96:.*"'),
        ({"sample.images.rgb": "FILE"}, 'the scenes "24:.*" instead of null'),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(many, model_dir, tmp_path, changes, difference):
    many.sample.task = "rgb"
    target = sample.run(many, str(model_dir), str(tmp_path / "out"))
    before = contents(target)
    Image.fromarray(tiny_model.pixels(1)["rgb"][0]).save(tmp_path / "a.png")
    for key, value in changes.items():
        many.update_from_flattened_dict({key: str(tmp_path / "a.png") if value == "FILE" else value})
    with pytest.raises(UsageError, match=f"out was begun with {difference}; give another --out, or the same") as caught:
        sample.run(many, str(model_dir), str(tmp_path / "out"))
    assert "\n" not in str(caught.value) and contents(target) == before


def test_other_weights_and_other_files_in_the_same_folder_are_refused(many, model_dir, tmp_path):
    Image.fromarray(tiny_model.pixels(1)["rgb"][0]).save(tmp_path / "a.png")
    many.sample.task, many.sample.images.rgb = "rgb", str(tmp_path / "a.png")
    sample.run(many, str(model_dir), str(tmp_path / "out"))
    with pytest.raises(UsageError, match='was begun with the weights "[0-9a-f]{16}" instead of "[0-9a-f]{16}"; give'):
        sample.run(many, str(changed(tmp_path / "other", 2)), str(tmp_path / "out"))
    Image.fromarray(tiny_model.pixels(2)["rgb"][1]).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match='was begun with the rgb that is given "[0-9a-f]{16}" instead of'):
        sample.run(many, str(model_dir), str(tmp_path / "out"))


def test_draws_with_other_factors_of_uncertainty_are_refused(many, tmp_path):
    folder = tmp_path / "model"
    tiny_model.save(folder)
    many.sample.draws = 2
    for factor in (2.0, 3.0):
        dataclasses.replace(architectures.load(folder), calibration={"depth": factor}).save(folder)
        if factor == 2:
            sample.run(many, str(folder), str(tmp_path / "out"))
    with pytest.raises(UsageError, match="was begun with the calibration .*2.0.* instead of .*3.0"):
        sample.run(many, str(folder), str(tmp_path / "out"))


def changed(folder, factor):
    """A model folder like `model_dir`, with all weights times a factor."""
    tiny_model.save(folder)
    params = jax.tree.map(lambda x: x * np.float32(factor), tiny_model.build()[1])
    weights.save_params(folder / model_folders.WEIGHTS_FILE, params)
    return folder


def test_weights_that_are_not_finite_end_the_command_and_leave_no_picture(many, tmp_path):
    with pytest.raises((NotFinite, UsageError), match="finite|NaN"):
        sample.run(many, str(changed(tmp_path / "broken", np.nan)), str(tmp_path / "out"))
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rgb_002.png", "mine", "out has rgb_002.png, but no samples.json that says how; give another --out"),
        ("samples.json", "{", "samples.json is damaged or not JSON"),
        ("samples.json", "[]", "samples.json is JSON of the type list; allowed: dict"),
        ("samples.json", '{"n": "x", "made_by": {}}', r"samples.json is damaged \(ValueError\); give another --out"),
        ("samples.json", '{"n": 3}', r"samples.json is damaged \(KeyError\); give another --out"),
        ("samples.json", "[" * 100000, "samples.json is damaged or not JSON"),
    ],
)
def test_folders_of_unknown_samples_are_refused(many, model_dir, tmp_path, name, text, message):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        sample.run(many, str(model_dir), str(tmp_path / "out"))
    assert contents(tmp_path / "out") == {name: text.encode()}


def test_other_files_in_the_folder_are_left_alone(many, model_dir, tmp_path):
    (tmp_path / "out" / "notes").mkdir(parents=True)
    (tmp_path / "out" / "rgb_999.png").write_bytes(b"mine")
    sample.run(many, str(model_dir), str(tmp_path / "out"))
    assert (tmp_path / "out" / "rgb_999.png").read_bytes() == b"mine" and (tmp_path / "out" / "notes").is_dir()


def test_all_images_in_one_file(many, model_dir, tmp_path):
    target = sample.run(many, str(model_dir), str(tmp_path / "out"), npz=True)
    with np.load(target / "rgb.npz") as file:
        images = file["arr_0"]
    assert images.dtype == np.uint8 and images.shape == (7, 16, 16, 3)
    for i in range(7):
        np.testing.assert_array_equal(images[i], read(target / f"rgb_{i:03d}.png"))
    (target / "rgb_004.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"rgb .*rgb_004.png cannot be read"):
        sample.run(many, str(model_dir), str(tmp_path / "out"), npz=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample.task": "sound"}, r"sample.task is 'sound'; allowed: category, or some of rgb, depth, normal, mask"),
        ({"sample.task": "rgb+depth+normal+mask"}, "one must be left"),
        ({"sample.class_id": "unicorn"}, "class is 'unicorn'"),
        ({"sample.save": "sound"}, "sample.save is 'sound'; allowed: some of rgb, depth, normal, mask joined by +"),
        (
            {"sample.task": "rgb", "sample.index": 23},
            r"config key sample.index is 23 and sample.n is 3, but split 'test' has 24",
        ),
        ({"sample.task": "rgb", "data.dir": "nowhere"}, "data directory 'nowhere' does not exist"),
        ({"sample.images.rgb": "a.png"}, r"sample.images.rgb is 'a.png'; allowed: empty"),
        ({"sample.task": "rgb+mask", "sample.images.rgb": "a.png"}, "sample.images.mask is empty"),
        ({"sample.task": "rgb", "sample.images.rgb": "a.png"}, r"given rgb \(a.png\): no such file"),
        ({"model.depth": 3}, "config key model.depth is 3, the model in .* has 2"),
        ({"data.image_size": 32}, "config key image_size is 32|config key data.image_size is 32"),
        ({"data.modalities": ("rgb", "depth")}, "has 2|data.modalities is"),
        ({"autoencoder.components": (6, 4, 6, 7)}, r"autoencoder.components is \(6, 4, 6, 7\)"),
        ({"sample.checkpoint": 7}, "no checkpoint"),
        ({"sample.solver": "magic"}, "sample.solver is 'magic'"),
        ({"sample.given.rgb": "a.png"}, r"given rgb \(a.png\): no such file; allowed"),
        ({"sample.given.rgb": "a.png", "sample.images.rgb": "b.png"}, r"images.rgb is 'b.png'; allowed: empty, as"),
        ({"sample.given.rgb": "a.png", "sample.task": "depth"}, r"sample.given.rgb is 'a.png'; allowed: empty"),
        ({"sample.wanted": "sound"}, "modality is 'sound'; allowed: rgb, depth, normal, mask"),
        ({"sample.wanted": "rgb", "sample.task": "rgb"}, "wanted is 'rgb', but rgb is given"),
        ({"sample.strength.depth": 0.5}, "strength of depth is 0.5, but depth is not given"),
        ({"sample.strength.depth": 1e9}, "config key sample.strength.depth is 1000000000.0; it must be a number"),
        ({"sample.compose": True}, "compose is True, but neither a modality nor a class is given"),
    ],
)
def test_bad_configs_are_named(model_config, model_dir, changes, message):
    for key, value in changes.items():
        model_config.update_from_flattened_dict({key: value})
    with pytest.raises(UsageError, match=message) as caught:
        sample.run(model_config, str(model_dir))
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_written_are_named_before_sampling(model_config, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folders, "load", None)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out .*/file is a file; allowed: a folder"):
        sample.run(model_config, str(model_dir), str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"--out .*/file/out cannot be written: .*/file is a file"):
        sample.run(model_config, str(model_dir), str(tmp_path / "file" / "out"))


def words(*args):
    return [sys.executable, "-m", "mmgen_jax.sample", "--config=configs/shapes_tiny.py", *args]


def command(*args):
    return subprocess.run(words(*args), capture_output=True, text=True, check=False)


SIZES = (
    "--config.data.image_size=16",
    "--config.autoencoder.components=(6,4,6,6)",
    "--config.model.depth=2",
    "--config.model.width=16",
    "--config.model.heads=2",
    "--config.sample.steps=1",
    "--config.sample.solver=euler",
)


def test_command_ends_with_one_line_on_bad_input(tmp_path):
    done = command(f"--workdir={tmp_path / 'none'}")
    assert done.returncode == 2 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: no model at")


def test_command_writes_files(model_dir, tmp_path):
    done = command(f"--workdir={model_dir}", f"--out={tmp_path / 'out'}", *SIZES, "--config.sample.n=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "gallery.html").exists() and "gallery.html" in done.stdout


PEAK = """
import json, resource, sys
sys.path.insert(0, "tests")
import tiny_model
from mmgen_jax import sample
config, model_dir, out = tiny_model.config(), *sys.argv[1:3]
config.sample.update({"steps": 1, "solver": "euler", "batch": 32})
peaks = []
for n in map(int, sys.argv[3:]):
    config.sample.n = n
    sample.run(config, model_dir, f"{out}/{n}", npz=True)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps(peaks))
"""


def test_ten_times_as_many_samples_take_no_more_memory(model_dir, tmp_path):
    """A sheet of 1500 samples alone would take 0.9 GB, the values of them 9 MB."""
    process = [sys.executable, "-c", PEAK, model_dir, tmp_path, "150", "1500"]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    few, many = json.loads(done.stdout.splitlines()[-1])
    assert many < few + 8  # MB
    assert len(list((tmp_path / "1500").glob("rgb_*.png"))) == 1500


SLOW = [pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, *SLOW])
def test_a_stopped_command_leaves_whole_files_and_goes_on(model_dir, tmp_path, number):
    folder = tmp_path / "out"
    call = words(f"--workdir={model_dir}", f"--out={folder}", *SIZES, "--config.sample.n=90", "--config.sample.batch=2")
    begin = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731  # which nohup has taught to ignore it
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(call, preexec_fn=begin, **pipes)
    while process.poll() is None and not (folder / "gallery.html").exists():
        time.sleep(0.01)
    process.send_signal(number)
    printed, errors = process.communicate()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}.get(number, 75), errors
    if number != signal.SIGKILL:
        assert "stopped; the same command goes on from here, in " in printed and "Traceback" not in errors
        assert not list(folder.glob(".*"))
    there = {path: os.stat(path).st_mtime_ns for path in folder.glob("*.png")}
    assert 32 * 5 < len(there) < 90 * 5
    for path in there:
        read(path)  # all of it
    again = subprocess.run(call, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and " of 90 samples are there already" in again.stdout, again.stderr
    assert len(list(folder.glob("rgb_*.png"))) == 90 and not list(folder.glob(".*"))
    made_again = [path for path, time_ in there.items() if os.stat(path).st_mtime_ns != time_]
    assert len(made_again) <= (5 if number == signal.SIGKILL else 0)  # the files of the sample that was being written

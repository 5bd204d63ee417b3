"""Official HDF5 files, written by h5py as the official code writes them, are imported number for number."""

import json
import os
import pathlib
import subprocess
import sys

import h5py
import ml_dtypes
import numpy as np
import pytest

from mmgen_jax.data import pipeline
from mmgen_jax.data.latents import dataset, hdf5
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError

ROOT = pathlib.Path(__file__).parents[2]
KEYS = [f"n0144{i % 3}/image_{i}.png" for i in range(7)]


def official(folder: pathlib.Path, keys=KEYS, without=(), classes=None) -> dict:
    """Writes a file per modality ([4, 8, 8, 2]: mean and std) and one of features ([6, 5]); arguments of `convert`."""
    folder.mkdir(exist_ok=True)
    for name in (*NAMES, "features"):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for i, key in enumerate(keys):
                if (name, key) not in without:
                    file.create_dataset(key, data=stored(name, i))
    with (folder / "train.jsonl").open("w") as file:
        for i, key in enumerate(keys):
            cat, number = classes[i] if classes else (key.split("/")[0], i % 3)
            paths = {f"path_{m}": f"/nowhere/{m}/{key}" for m in NAMES}
            file.write(json.dumps({"cat": cat, "idx_cat": number, "path_rel_rgb": key} | paths) + "\n\n")
    paths = {name: str(folder / f"{name}.h5") for name in (*NAMES, "features")}
    return {"index": str(folder / "train.jsonl"), "paths": paths}


def stored(name: str, i: int) -> np.ndarray:
    rng = np.random.default_rng([i, len(name)])
    if name == "features":
        return rng.normal(size=(6, 5)).astype(np.float32)
    return np.stack([5 * rng.normal(size=(4, 8, 8)), np.exp(rng.normal(-5, 2, (4, 8, 8)))], -1).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_number_is_the_official_one_rounded(tmp_path, dtype):
    hdf5.convert(**official(tmp_path / "official"), out=tmp_path / "latents", dtype=np.dtype(dtype).name, shard=3)
    source, info = dataset.read(tmp_path / "latents", "train"), dataset.read_info(tmp_path / "latents")
    assert len(source) == len(KEYS) and len(info.shards["train"]) == 3
    assert info.class_names == ("n01440", "n01441", "n01442") and info.image_size == 64
    assert info.modalities == NAMES and info.layout.features == (6, 5)
    for i, key in enumerate(KEYS):
        found = source[i]
        assert found["key"] == key and found["class_id"] == i % 3 and found["present"].all()
        for m in NAMES:
            mean, std = (stored(m, i)[..., part].transpose(1, 2, 0).astype(dtype) for part in (0, 1))
            assert found[m][..., :4].tobytes() == mean.tobytes() and found[m][..., 4:].tobytes() == std.tobytes()
        assert found["features"].tobytes() == stored("features", i).astype(dtype).tobytes()


def test_it_feeds_the_pipeline_and_only_what_is_given_is_imported(tmp_path):
    arguments = official(tmp_path / "official")
    arguments["paths"] = {m: arguments["paths"][m] for m in ("mask", "rgb")}
    hdf5.convert(**arguments, out=tmp_path / "latents")
    info = dataset.read_info(tmp_path / "latents")
    assert info.modalities == ("rgb", "mask") and info.layout.features is None
    select = dataset.Select(info.layout, ("rgb", "mask"))
    batch = next(pipeline.batches(dataset.read(tmp_path / "latents", "train"), (select,), 7, seed=0))
    assert batch["rgb"].shape == (7, 8, 8, 8) and sorted(batch["class_id"]) == [0, 0, 0, 1, 1, 2, 2]


def test_missing_keys_are_counted_or_stop(tmp_path, capsys):
    nothing = {(name, KEYS[6]) for name in (*NAMES, "features")}
    arguments = official(tmp_path / "official", without={("depth", KEYS[1]), ("depth", KEYS[4])} | nothing)
    with pytest.raises(UsageError, match=f"rgb of 1 of 7 samples is missing, first of '{KEYS[6]}' in .*rgb.h5"):
        hdf5.convert(**arguments, out=tmp_path / "latents", strict=True)
    assert not (tmp_path / "latents").exists()
    hdf5.convert(**arguments, out=tmp_path / "latents")
    said = capsys.readouterr().out
    assert f"depth of 3 of 7 samples is missing, first of '{KEYS[1]}': absent there" in said
    assert "features of 1 of 7 samples is missing" in said and "1 samples have no modality at all" in said
    found = list(dataset.read(tmp_path / "latents", "train"))
    assert [x["key"] for x in found] == KEYS[:6]
    assert [x["present"].tolist() for x in found[:2]] == [[True] * 4, [True, False, True, True]]
    assert not found[1]["depth"].any()


def test_samples_without_a_class(tmp_path):
    keys = [f"ai_001/cam_00/frame.{i}.png" for i in range(2)]  # as for Hypersim
    arguments = official(tmp_path / "official", keys, classes=[("indoor", 1000)] * 2)
    hdf5.convert(**arguments, out=tmp_path / "latents")
    assert dataset.read_info(tmp_path / "latents").class_names == ()
    assert [x["class_id"] for x in dataset.read(tmp_path / "latents", "train")] == [-1, -1]


def test_classes_of_one_name_are_told_apart(tmp_path):
    """ImageNet has two cranes: a bird, and a machine."""
    classes = [("crane", 134), ("crane", 517), ("tench", 0)]
    hdf5.convert(**official(tmp_path / "official", keys=KEYS[:3], classes=classes), out=tmp_path / "latents")
    names = dataset.read_info(tmp_path / "latents").class_names
    assert (names[134], names[517], names[0], names[1]) == ("crane 134", "crane 517", "tench", "class_1")
    assert len(set(names)) == len(names) == 518


def test_it_goes_on_and_refuses_other_settings(tmp_path):
    arguments = official(tmp_path / "official")
    hdf5.convert(**arguments, out=tmp_path / "latents", shard=3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "latents").iterdir()}
    (tmp_path / "latents" / "train-00001-of-00003.array_record").unlink()
    hdf5.convert(**arguments, out=tmp_path / "latents", shard=3)
    assert {path.name: path.read_bytes() for path in (tmp_path / "latents").iterdir()} == before
    with pytest.raises(UsageError, match='was begun with dtype "float16" instead of "bfloat16"'):
        hdf5.convert(**arguments, out=tmp_path / "latents", shard=3, dtype="bfloat16")


@pytest.mark.parametrize(
    "line,message",
    [
        ("{", "line 2 of .*train.jsonl is not a sample"),
        ('{"cat": "a", "idx_cat": 1}', "line 2 of .*not a sample with path_rel_rgb, cat and idx_cat .KeyError"),
        ('{"cat": "a", "idx_cat": 1001, "path_rel_rgb": "x"}', "has idx_cat 1001; allowed: 0 to 1000"),
        ('{"cat": "b", "idx_cat": 0, "path_rel_rgb": "y"}', "names class 0 'b'; an earlier line, 'a'"),
        ('{"cat": "a", "idx_cat": 0, "path_rel_rgb": "x"}', "line 2 of .* is sample 'x' again, as line 1"),
        *(
            (f'{{"cat": "a", "idx_cat": {number}, "path_rel_rgb": "y"}}', "line 2 of .*train.jsonl is not a sample")
            for number in ("0.7", "-0.5", "true", "null", "NaN", "Infinity", '"0.7"', '"a"', "[0]", "1e400", "{}")
        ),
    ],
)
def test_a_wrong_index(tmp_path, line, message):
    (tmp_path / "train.jsonl").write_text('{"cat": "a", "idx_cat": 0, "path_rel_rgb": "x"}\n' + line + "\n")
    with pytest.raises(UsageError, match=message):
        hdf5.read_index(str(tmp_path / "train.jsonl"), 1000)


@pytest.mark.parametrize("number", ["1", "1.0", '"1"', "1e0"])
def test_whole_numbers_may_be_written_in_any_way(tmp_path, number):
    (tmp_path / "train.jsonl").write_text(f'{{"cat": "a", "idx_cat": {number}, "path_rel_rgb": "x"}}\n')
    entries, names = hdf5.read_index(str(tmp_path / "train.jsonl"), 1000)
    assert entries == [hdf5.Entry("x", 1)] and names == ("class_0", "a")


@pytest.mark.parametrize("value", [-1.0, -1e-6, -np.inf])
def test_negative_standard_deviations_are_refused(tmp_path, value):
    arguments = official(tmp_path / "official")
    with h5py.File(tmp_path / "official" / "depth.h5", "a") as file:
        file[KEYS[3]][2, 1, 1, 1] = value
    with pytest.raises(UsageError, match=f"depth of '{KEYS[3]}' in .*depth.h5 has negative standard deviations"):
        hdf5.convert(**arguments, out=tmp_path / "latents")


def test_wrong_files(tmp_path, monkeypatch):
    arguments = official(tmp_path / "official")
    out, folder = tmp_path / "latents", tmp_path / "official"

    def refused(message, **changes):
        with pytest.raises(UsageError, match=message):
            hdf5.convert(**(arguments | {"out": out} | changes))
        assert not list(tmp_path.glob("latents/*.array_record"))

    refused("no latents are given; at least one of --rgb, --depth", paths={"features": arguments["paths"]["features"]})
    refused("--index .*none.jsonl does not exist", index=str(tmp_path / "none.jsonl"))
    os.mkfifo(tmp_path / "pipe")
    refused("pipe is a FIFO; allowed: a file", index=str(tmp_path / "pipe"))
    refused("--rgb .* is a FIFO; allowed: a file", paths={"rgb": str(tmp_path / "pipe")})
    refused("--rgb .*none.h5 cannot be read as HDF5", paths={"rgb": str(tmp_path / "none.h5")})
    refused("--rgb .*jsonl cannot be read as HDF5", paths={"rgb": arguments["index"]})
    refused("--dtype is 'float64'; allowed: float16, bfloat16", dtype="float64")
    refused("rgb of .* is float32 .6, 5.; allowed: .C, h, h, 2.", paths={"rgb": arguments["paths"]["features"]})
    with h5py.File(folder / "rgb.h5", "a") as file:
        file[KEYS[5]][0, 0, 0, 0] = 1e6
    refused(f"rgb of '{KEYS[5]}' reaches 1e\\+06, which float16 cannot hold; bfloat16 can")
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    refused("none of the 7 keys of the index is in the files", paths={"rgb": str(folder / "other.h5")})
    refused(
        "--depth .*has none of the keys",
        paths={m: arguments["paths"]["rgb"] for m in ("rgb",)} | {"depth": str(folder / "other.h5")},
    )
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused("needs h5py, which is not installed: pip install h5py")


def test_the_command(tmp_path):
    arguments = official(tmp_path / "official")
    command = [
        sys.executable,
        "-m",
        "mmgen_jax.data.latents.hdf5",
        f"--index={arguments['index']}",
        f"--out={tmp_path / 'out'}",
    ]
    command += [f"--{name}={path}" for name, path in arguments["paths"].items()]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"done: latents in {tmp_path / 'out'}"
    assert len(dataset.read(tmp_path / "out", "train")) == 7

"""Latents on disk: exact round trips, whole shards or none, the same order as tiles, and damage that is named."""

import dataclasses
import itertools
import json
import os
import pickle
import struct
import types
import zlib

import damage
import ml_dtypes
import numpy as np
import pytest
from annotations import unchecked

from mmgen_jax.data import pipeline
from mmgen_jax.data.latents import dataset, shards
from mmgen_jax.data.latents.record import Layout, check_range
from mmgen_jax.system import sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import ALL, Share

LAYOUT = Layout((("rgb", 4), ("depth", 2), ("mask", 1)), size=3, dtype="float16", features=(9, 7), pixels=24)


def sample(seed: int, layout: Layout = LAYOUT) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else (3 * rng.normal(size=shape)).astype(dtype)
        for name, (dtype, shape) in layout.fields.items()
    }


def record(i: int, layout: Layout = LAYOUT, present=(True, True, True)) -> bytes:
    return layout.encode(sample(i, layout), present, i % 4 - 1, f"folder/{i}.png")


def make_info(layout: Layout = LAYOUT, train: int = 10, per_shard: int = 4, **settings) -> dataset.Info:
    planned = {"train": shards.plan("train", train, per_shard), "test": shards.plan("test", 3, per_shard)}
    autoencoder = {"name": "identity", "factor": 8}
    return dataset.Info(
        layout, 24, ("a", "b", "c"), {"palette": [[0, 0, 0]], "regions": ["all"]}, autoencoder, settings, planned
    )


def write(folder, info: dataset.Info, share: Share = ALL) -> list[str]:
    """Writes what is missing; record i of a split is `record(i)`."""
    shards.begin(folder, info)
    done = shards.remaining(folder, info, share)
    for shard in done:
        start = 4 * shard.index
        shards.write(folder, shard, (record(i, info.layout) for i in range(start, start + shard.count)))
    shards.finish(folder, info)
    return [shard.name for shard in done]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "latents", make_info())
    return tmp_path / "latents"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_records_are_decoded_bit_for_bit_without_a_copy(dtype):
    layout = dataclasses.replace(LAYOUT, dtype=dtype)
    data = record(2, layout)
    found = layout.decode(data)
    for name, value in sample(2, layout).items():
        assert found[name].dtype == value.dtype and found[name].tobytes() == value.tobytes()
        assert found[name].shape == value.shape and not found[name].flags.owndata
    assert found["rgb"].dtype == {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    assert found["class_id"] == 1 and found["class_id"].dtype == np.int32 and found["key"] == "folder/2.png"
    assert found["present"].dtype == bool and found["present"].tolist() == [True, True, True]


def test_the_bytes_are_those_of_the_description():
    values = sample(0)
    crc, class_id, bits, length = struct.unpack_from("<IiIH", data := record(0))
    assert (class_id, bits, length) == (-1, 0b111, len("folder/0.png")) and crc == zlib.crc32(data[4:])
    assert data[16:] == b"".join(value.tobytes() for value in values.values()) + b"folder/0.png"
    assert LAYOUT.sample_bytes == {"rgb": 144, "depth": 72, "mask": 36, "features": 126, "rgb_pixels": 1728}


def test_absent_modalities_are_zeros():
    found = LAYOUT.decode(record(1, present=(True, False, True)))
    assert found["present"].tolist() == [True, False, True] and not found["depth"].any() and found["mask"].any()
    found = LAYOUT.decode(LAYOUT.encode({"mask": sample(1)["mask"]}, (False, False, True), 0, "x"))
    assert not (found["rgb"].any() or found["features"].any() or found["rgb_pixels"].any())  # what belongs to rgb


def test_values_that_do_not_fit_the_layout():
    with pytest.raises(UsageError, match=r"mask of 'k' is float32 \(3, 3, 2\); allowed: float16 \(3, 3, 2\)"):
        LAYOUT.encode(sample(0) | {"mask": np.zeros((3, 3, 2), np.float32)}, (True,) * 3, 0, "k")
    with pytest.raises(UsageError, match="rgb of 'k' is missing"):
        LAYOUT.encode({"depth": sample(0)["depth"]}, (True, False, False), 0, "k")


def test_range_of_a_type():
    check_range({"rgb": 65519.0}, "float16", "k")  # rounds to the largest
    check_range({"rgb": 1e30}, "bfloat16", "k")
    with pytest.raises(UsageError, match="rgb of 'k' reaches 65520, which float16 cannot hold; bfloat16 can"):
        check_range({"rgb": 65520.0}, "float16", "k")
    with pytest.raises(UsageError, match="rgb of 'k' reaches nan, which bfloat16 cannot hold$"):
        check_range({"rgb": float("nan")}, "bfloat16", "k")


def test_any_split_is_read_at_random_access(folder):
    source = pickle.loads(pickle.dumps(dataset.read(folder, "train")))
    assert len(source) == 10
    for i in (9, 0, 4, 3):
        assert source[i]["key"] == f"folder/{i}.png" and source[i]["rgb"].tobytes() == sample(i)["rgb"].tobytes()
    assert [x["key"] for x in dataset.read(folder, "train[30%:60%]")] == [f"folder/{i}.png" for i in (3, 4, 5)]
    assert len(dataset.read(folder, "test")) == 3
    with pytest.raises(IndexError):
        source[10]


def test_info_round_trip(folder):
    info = dataset.read_info(folder)
    made = make_info()
    assert dataclasses.replace(info, shards={}) == dataclasses.replace(made, shards={})
    assert [(s.name, s.count) for s in info.shards["train"]] == [(s.name, s.count) for s in made.shards["train"]]
    assert sorted(path.name for path in folder.glob("*.array_record")) == [
        "test-00000-of-00001.array_record",
        *(f"train-0000{i}-of-00003.array_record" for i in range(3)),
    ]


@pytest.mark.parametrize("name", [dataset.FILE, sealed.FILE])
def test_a_flipped_bit_is_named(folder, name):
    for which in damage.flips(folder / name):
        with pytest.raises(UsageError, match=name) as caught:
            dataset.read(folder, "train")
        assert "\n" not in str(caught.value), which
    (folder / sealed.FILE).unlink()
    for which in damage.flips(folder / dataset.FILE):  # where nothing tells, most are refused all the same
        try:
            dataset.read(folder, "train")
        except UsageError as error:
            assert "\n" not in str(error), which  # noqa: PT017


def spoil(*path, value):
    def change(stored):
        for name in path[:-1]:
            stored = stored[name]
        stored[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        *[spoil("image_size", value=value) for value in (0, -24, 24.0, "24", None, 1e999)],
        *[spoil("class_names", value=value) for value in (["a", "a", "b"], [1, 2, 3], [""], "abc", None)],
        *[spoil("metadata", "palette", value=value) for value in ([[300, 0, 0]], [[0, 0]], [], None)],
        *[spoil("metadata", "regions", value=value) for value in ([], [1], "a", None)],
        *[spoil(name, value=v) for name in ("metadata", "autoencoder", "settings") for v in (None, [], "x")],
        *[spoil("format", value=value) for value in (0, "1", None)],
        *[spoil("layout", "size", value=value) for value in (0, -3, 3.5, "3", None)],
        *[spoil("layout", "dtype", value=value) for value in ("float12", 16, None, ["float16"])],
        *[spoil("layout", "features", value=value) for value in ([0, 7], [9, -1], [9, 1.5], 3)],
        *[spoil("layout", "pixels", value=value) for value in (-1, 2.5, "24", None)],
        *[
            spoil("layout", "modalities", value=v)
            for v in ([], [["flow", 4]], [["rgb", 0]], [["rgb", "4"]], 3, [["rgb"]])
        ],
        *[spoil("shards", "train", 0, "count", value=value) for value in (0, 3, 5, -4, 1.5, "4", None)],
        *[spoil("shards", "train", 0, "index", value=value) for value in (1, -1, "0", None)],
        *[spoil("shards", "train", 0, "of", value=value) for value in (1, 4, "3", None)],
        *[spoil("shards", "train", 0, "size", value=value) for value in (-1, 1.5, "1", None, 7)],
        *[spoil("shards", "train", 0, "crc32", value=value) for value in (-1, "x", None)],
        *[spoil("shards", "train", value=value) for value in ([], None, {}, [3])],
        spoil("shards", value=[]),
        spoil("more", value=1),
    ],
)
def test_a_description_that_makes_no_sense(folder, change):
    (folder / sealed.FILE).unlink()
    stored = json.loads((folder / dataset.FILE).read_text())
    change(stored)
    (folder / dataset.FILE).write_text(json.dumps(stored))
    with unchecked(), pytest.raises(UsageError) as caught:
        dataset.read(folder, "train")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\0"])
def test_a_description_that_is_none(folder, text):
    (folder / sealed.FILE).unlink()
    (folder / dataset.FILE).write_text(text)
    with pytest.raises(UsageError, match="latents.json is "):
        dataset.read(folder, "train")


def test_classes_beyond_the_names(tmp_path):
    info = dataclasses.replace(make_info(), class_names=("a", "b"))
    write(tmp_path, info)
    source = dataset.read(tmp_path, "train")
    with pytest.raises(UsageError, match=r"record \d of .*array_record has class_id 2; the data set names 2 classes"):
        [source[i] for i in range(len(source))]


def test_other_things_where_files_belong(folder):
    for name in (dataset.FILE, sealed.FILE, "train-00001-of-00003.array_record"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(UsageError, match=f"{name} is a FIFO; allowed: a file"):
            dataset.read(folder, "train")
        (folder / name).unlink()
        (folder / name).write_bytes(kept)


def test_what_is_no_data_set_of_latents(folder, tmp_path):
    with pytest.raises(UsageError, match="nowhere' holds no latents"):
        dataset.read(tmp_path / "nowhere", "train")
    with pytest.raises(UsageError, match="split 'val' is not in .*; allowed: test, train"):
        dataset.read(folder, "val")
    with pytest.raises(UsageError, match=r"split 'train\[:x\]' cannot be read"):
        dataset.read(folder, "train[:x]")
    with pytest.raises(UsageError, match="is empty"):
        dataset.read(folder, "train[:0]")
    stored = (folder / "latents.json").read_text()
    (folder / sealed.FILE).unlink()
    (folder / "latents.json").write_text(stored.replace('"format": 1', '"format": 2'))
    with pytest.raises(UsageError, match="latents.json: format is 2; this version reads 1"):
        dataset.read(folder, "train")
    (folder / "latents.json").write_text(stored[:100])
    with pytest.raises(UsageError, match="latents.json is damaged"):
        dataset.read(folder, "train")


def test_missing_and_truncated_shards_are_named(folder):
    path = folder / "train-00001-of-00003.array_record"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="train-00001-of-00003.array_record has 1000 bytes instead of"):
        dataset.read(folder, "train")
    path.unlink()
    with pytest.raises(UsageError, match="train-00001-of-00003.array_record is missing"):
        dataset.read(folder, "train")
    assert len(dataset.read(folder, "train[:3]")) == 3  # of another shard


def flip_bit(path, data: bytes) -> None:
    """Flips one bit of `data`, which must occur exactly once in a file."""
    content = bytearray(path.read_bytes())
    assert content.count(data) == 1
    content[content.index(data)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_stops_the_pipeline_and_is_named(folder, workers):
    flip_bit(folder / "train-00001-of-00003.array_record", sample(6)["rgb"].tobytes())
    source = dataset.read(folder, "train")
    assert source[5]["key"] == "folder/5.png"
    with pytest.raises(UsageError, match="record 2 of .*train-00001-of-00003.array_record is damaged"):
        source[6]
    stream = pipeline.batches(source, (dataset.Select(LAYOUT, ("rgb",)),), 5, seed=0, workers=workers)
    with pytest.raises(UsageError, match="record 2 of .*train-00001-of-00003.array_record is damaged"):
        list(itertools.islice(stream, 2))


def test_our_own_checksum_sees_every_part_of_a_record():
    data = record(3)
    for place in (0, 5, 9, 13, 20, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 4
        with pytest.raises(ValueError):
            LAYOUT.decode(bytes(damaged))
    for wrong in (b"", data[:-1], data + b"x"):
        with pytest.raises(ValueError, match="bytes"):
            LAYOUT.decode(wrong)


def test_a_stopped_command_goes_on_and_redoes_what_is_not_whole(tmp_path):
    folder, info = tmp_path / "latents", make_info()

    def interrupted():
        yield record(0)
        raise KeyboardInterrupt

    shards.begin(folder, info)
    with pytest.raises(KeyboardInterrupt):
        shards.write(folder, info.shards["train"][0], interrupted())
    assert [path.name for path in folder.iterdir()] == ["unfinished.json"]
    with pytest.raises(UsageError, match="are not finished"):
        dataset.read(folder, "train")
    (folder / f".{info.shards['train'][0].name}.1.part").touch()  # as a killed one leaves it
    assert len(write(folder, info)) == 4 and not (folder / "unfinished.json").exists()
    assert not list(folder.glob(".*"))
    before = {path.name: path.read_bytes() for path in folder.glob("*.array_record")}
    assert write(folder, info) == []

    (folder / "train-00000-of-00003.array_record").unlink()
    (folder / "train-00001-of-00003.array_record.json").write_text("{")
    flip_bit(folder / "train-00002-of-00003.array_record", sample(9)["features"].tobytes())
    assert write(folder, info) == [f"train-0000{i}-of-00003.array_record" for i in range(3)]
    assert {path.name: path.read_bytes() for path in folder.glob("*.array_record")} == before


def test_workers_share_the_shards_and_the_last_one_finishes(tmp_path):
    folder, info = tmp_path / "latents", make_info()
    first = write(folder, info, Share(0, 2))
    assert len(first) == 2 and shards.finish(folder, info) == 2
    second = write(folder, info, Share(1, 2))
    assert len(set(first + second)) == 4 and len(dataset.read(folder, "train")) == 10


def test_other_settings_are_refused(tmp_path):
    folder = tmp_path / "latents"
    shards.begin(folder, make_info(weights="abc", parts=("rgb", "depth")))
    shards.begin(folder, make_info(weights="abc", parts=("rgb", "depth")))
    for other, message in (
        (make_info(weights="xyz", parts=("rgb", "depth")), 'weights "abc" instead of "xyz"'),
        (make_info(weights="abc", parts=("rgb",)), 'parts ."rgb", "depth". instead of ."rgb".'),
        (make_info(train=11, weights="abc", parts=("rgb", "depth")), "samples of train 10 instead of 11"),
    ):
        with pytest.raises(UsageError, match=f"was begun with {message}"):
            shards.begin(folder, other)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    with pytest.raises(UsageError, match="photos' holds other files than latents"):
        shards.begin(tmp_path / "photos", make_info())


def test_batches_come_in_the_order_that_they_come_in_from_tiles(folder):
    select = dataset.Select(LAYOUT, ("rgb", "mask"), ("features",))

    def order(source, transforms, count=6, **arguments):
        stream = pipeline.batches(source, transforms, 4, seed=3, **arguments)
        return [batch["class_id"].tolist() for batch in itertools.islice(stream, count)]

    source = dataset.read(folder, "train")
    plain = [{"class_id": np.int32(i % 4 - 1)} for i in range(10)]  # any source of this length
    assert order(source, (select,)) == order(plain, ())
    assert order(source, (select,), 3, step=3) == order(source, (select,))[3:]
    halves = [order(source, (select,), parts=(host,), of=2) for host in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == order(source, (select,))
    assert order(source, (select,), workers=1) == order(source, (select,))


@pytest.mark.parametrize("workers", [0, 1])
def test_bfloat16_reaches_the_batch(tmp_path, workers):
    layout = dataclasses.replace(LAYOUT, dtype="bfloat16")
    write(tmp_path / "latents", make_info(layout))
    select = dataset.Select(layout, ("rgb", "mask"), ("features", "rgb_pixels"))
    batch = next(pipeline.batches(dataset.read(tmp_path / "latents", "train"), (select,), 10, seed=0, workers=workers))
    assert sorted(batch) == ["class_id", "features", "mask", "present", "rgb", "rgb_pixels"]
    assert batch["rgb"].dtype == ml_dtypes.bfloat16 and batch["rgb"].shape == (10, 3, 3, 8)
    assert batch["present"].shape == (10, 2) and batch["features"].shape == (10, 9, 7)
    assert {x.tobytes() for x in batch["rgb"]} == {sample(i, layout)["rgb"].tobytes() for i in range(10)}


def test_what_training_wants_is_checked():
    """The latents are 3 x 3 of images of 24 x 24 pixels, with features of width 7."""
    info, names = make_info(), ("rgb", "mask")
    wanted = {"image_size": 24, "autoencoder": "identity", "factor": 8}
    wanted |= {"features": "none", "feature_width": 7, "patch": 1}
    assert dataset.Select.checked(info, names, **wanted) == dataset.Select(LAYOUT, names)
    for source, extra in (("stored", "features"), ("online", "rgb_pixels")):
        assert dataset.Select.checked(info, names, **wanted | {"features": source}).extra == (extra,)
    bare = dataclasses.replace(info, layout=dataclasses.replace(LAYOUT, features=None, pixels=0))
    other = dataclasses.replace(info, autoencoder={"name": "kl", "factor": 8})
    cases = (
        (bare, "features", "online", "the latents have no rgb pixels"),
        (bare, "features", "stored", "for 9 tokens; the latents have no features"),
        (info, "feature_width", 768, "width 768, for 9 tokens; the latents have 9 features of width 7"),
        (info, "patch", 3, "width 7, for 1 tokens; the latents have 9 features of width 7"),
        (info, "image_size", 32, "config key data.image_size is 32; the latents have 24"),
        (info, "factor", 4, "config key autoencoder.factor is 4; the latents have 8"),
        (other, "autoencoder", "identity", "config key autoencoder.name is 'identity'; the latents have 'kl'"),
        (info, "modalities", ("rgb", "normal"), "data.modalities has normal; the latents have rgb, depth, mask"),
    )
    for found, key, value, message in cases:
        changed = {"modalities": names} | wanted | {"features": "stored", key: value}
        with pytest.raises(UsageError, match=message):
            dataset.Select.checked(found, **changed)


def test_a_full_disk_is_told_in_one_line(folder, monkeypatch):
    class Full(types.SimpleNamespace):
        def __init__(self, path, options):
            super().__init__()

        def write(self, data):
            raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(shards, "ArrayRecordWriter", Full)
    with pytest.raises(UsageError, match="train-.*part cannot be written: write.. failed: No space left on device"):
        shards.write(folder, make_info().shards["train"][0], iter([b"x"]))
    assert not list(folder.glob(".*"))


def test_records_with_holes_say_which_cells_are_valid(tmp_path):
    layout = dataclasses.replace(LAYOUT, holes=("depth",))
    values = sample(1, layout) | {"depth_valid": np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], np.uint8)}
    decoded = layout.decode(layout.encode(values, (True, True, True), 2, "a"))
    np.testing.assert_array_equal(decoded["depth_valid"], values["depth_valid"])
    select = dataset.Select(layout, ("rgb", "depth"))
    batch = select.map(decoded)
    assert batch["depth_valid"].dtype == bool and set(batch) == {"rgb", "depth", "depth_valid", "class_id", "present"}
    assert "depth_valid" not in dataset.Select(layout, ("rgb", "mask")).map(decoded)
    absent = layout.decode(layout.encode(values, (True, False, True), 2, "a"))
    assert not absent["depth_valid"].any() and not absent["depth"].any()
    info = make_info(layout)
    write(tmp_path / "latents", info)
    assert dataset.read_info(tmp_path / "latents").layout == layout
    assert LAYOUT.sample_bytes.keys() == {"rgb", "depth", "mask", "features", "rgb_pixels"}  # without holes, as ever

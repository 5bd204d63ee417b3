"""Labels that are wrong on purpose, how many of them an audit lists, and copies of a data set with other labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from mmgen_jax.data import building, description, tiles
from mmgen_jax.data.pipeline import Reader
from mmgen_jax.experts.suspects import Suspect
from mmgen_jax.metrics import auditing
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array, to_pixels
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.studies import audit

Pixels = dict[tuple[str, str], np.ndarray]  # (modality, key of the scene) -> pixels [H, W, C]
Labels = Mapping[tuple[str, str], np.ndarray | None]  # the same; None takes the label away


class Wrong(NamedTuple):
    """A label that was made wrong, and how: the corruption in the words of `studies.audit`."""

    modality: str
    key: str
    corruption: str


def corrupted(reader: Reader, facts: Facts, share: float, seed: int) -> tuple[Pixels, list[Wrong]]:
    """Chooses labels of a split, and makes them wrong.

    Of each modality that is a label this `share` is chosen, independently of the other modalities, and divided equally
    among the corruptions of `studies.audit`. A label that its corruption does not change stays right and is not listed.

    Returns:
      the wrong labels, and the list of them.
    """
    batch, rng = reader.load(range(len(reader))), np.random.default_rng(seed)
    labels: Pixels = {}
    wrong: list[Wrong] = []
    for i, m in enumerate(reader.select.modalities):
        if m not in auditing.labels(reader.select.modalities):
            continue
        row, there = MODALITIES[m], np.flatnonzero(batch["present"][:, i])
        values = row.value(to_array(batch[m][there]), facts)
        chosen = rng.permutation(len(there))[: round(share * len(there))]
        cases = audit.cases(m)
        for rows, (name, corruption, amount) in zip(np.array_split(chosen, len(cases)), cases, strict=True):
            others = corruption(values, amount, rng)
            for j in rows:
                moved = (others[j] != values[j]).reshape(*values.shape[1:3], -1).any(-1, keepdims=True)
                if moved.any():
                    pixels, key = to_pixels(row.array(others[j], facts), row.dtype), reader.key(int(there[j]))
                    labels[m, key] = np.where(moved, pixels, batch[m][there[j]])
                    wrong.append(Wrong(m, key, name))
    return labels, wrong


def judged(scored: Sequence[Suspect], wrong: Sequence[Wrong], beyond: float) -> dict:
    """What an audit is worth whose wrong labels are known.

    Returns:
      cases: modality and corruption -> its AUROC against the right labels of the modality, and the share listed;
      listed, hit, wrong: how many labels are suspects, how many of these are wrong, and how many are wrong in all.
    """
    how = {(w.modality, w.key): w.corruption for w in wrong}
    scores: dict[tuple[str, str], list[float]] = {}
    for s in scored:
        scores.setdefault((s.modality, how.get((s.modality, s.key), "")), []).append(s.score)
    cases = {
        f"{m}, {case}": {
            "AUROC": auditing.auroc(np.array(scores[m, ""]), np.array(scores[m, case])),
            "share listed": float(np.mean(np.array(scores[m, case]) >= beyond)),
        }
        for m, case in dict.fromkeys((w.modality, w.corruption) for w in wrong)
        if (m, case) in scores  # a label that is alone in its scene has no score
    }
    listed = [s for s in scored if s.score >= beyond]
    hit = sum((s.modality, s.key) in how for s in listed)
    return {"cases": cases, "listed": len(listed), "hit": hit, "wrong": len(wrong)}


def write(folder: epath.PathLike, source: epath.PathLike, split: str, labels: Callable[[], Labels]) -> None:
    """Copies a data set to `folder`, where a split, or a part of it, gets other labels.

    Does nothing, and does not ask for the labels, if the copy is there already.
    """
    builder = _Copy(source=source, split=split.partition("[")[0], labels=labels, data_dir=str(folder))
    if not builder.data_path.exists():
        building.prepare(builder)


class _Copy(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """A data set of tiles in which some labels are others, or absent."""

    VERSION = tfds.core.Version("1.0.0")
    name = "copy"
    code_path = epath.Path(__file__)  # TFDS would need importlib_resources to find out

    def __init__(self, *, source: epath.PathLike, split: str, labels: Callable[[], Labels], **kwargs):
        self.source, self.split, self.labels = source, split, labels
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tiles.tile_features(tiles.image_size(self.source)[0], tiles.class_names(self.source)),
            metadata=tfds.core.MetadataDict(tiles.read_metadata(self.source)),
            disable_shuffling=True,  # so that scenes have the same numbers in the copy
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        images: dict[str, dict[str, bytes]] = {}
        for (m, key), pixels in self.labels().items():
            images.setdefault(key, {})[m] = b"" if pixels is None else tiles.encode_tile({m: pixels}, 0, key)[m]
        splits = description.builder(tiles.find_dataset(self.source)).info.splits
        return {split: self._generate_examples(split, images if split == self.split else {}) for split in splits}

    def _generate_examples(self, split: str, images: Mapping[str, Mapping[str, bytes]]) -> Iterator[tuple[str, dict]]:
        source = tiles.read_tiles(self.source, split)
        for record in (source[i] for i in range(len(source))):
            key = tiles.key_of(record)
            stored = {m: record.get(m, b"") for m in NAMES} | dict(images.get(key, {}))
            yield key, stored | {"class_id": int(record["class_id"]), "key": key}

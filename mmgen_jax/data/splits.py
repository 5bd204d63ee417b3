"""Checks splits, and parts of splits in the slicing notation of TFDS: "train[:90%]", or sums of them."""

from __future__ import annotations

import tensorflow_datasets as tfds

from mmgen_jax.system.errors import UsageError


def check(splits: tfds.core.SplitDict, split: str, where: object) -> None:
    """Raises UsageError unless `split` is one of the splits of `where`, or a part, and holds at least one sample."""
    allowed = ", ".join(sorted(splits)) or "(it has none)"
    if any(part.partition("[")[0] not in splits for part in split.split("+")):
        raise UsageError(f"split {split!r} is not in {str(where)!r}; allowed: {allowed}")
    try:
        parts = tfds.core.splits.AbstractSplit.from_spec(split).to_absolute(splits)
    except (ValueError, KeyError) as error:
        raise UsageError(f"split {split!r} cannot be read; allowed: {allowed}, or a part: train[:10%]") from error
    for part in parts:
        first, end = part.from_ or 0, splits[part.splitname].num_examples if part.to is None else part.to
        if first > end:  # TFDS would read on to the end of the file
            raise UsageError(f"split {split!r} ends before it begins; allowed: {allowed}, or a part: train[:10%]")
        if first == end:
            raise UsageError(f"split {split!r} of {str(where)!r} is empty; it must hold at least one sample")

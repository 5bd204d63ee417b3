"""Whether samples are copies of training images: how near each is to one, beside images that were held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmgen_jax.metrics import image_sets, neighbours
from mmgen_jax.metrics.image_sets import ImageSet
from mmgen_jax.metrics.looked import Looked
from mmgen_jax.modalities.pixels import center_crop
from mmgen_jax.show import pictures

QUANTILE = 0.01  # share of the held-out images that are nearer to a training image than the threshold
_ENOUGH = 1000  # held-out images below which that quantile is decided by fewer than ten of them
_PAIRS = 8  # on the picture
_SIDE = 256  # pixels, each way, of an image on the picture, at most
_SAME = 1e-3  # of the median distance: nearer than this, images are the same


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, in the features of a network.

    Attributes:
      samples, held_out: of each sample and of each image of the reference, float64 [N] and [M].
      nearest: the number of the training image that is nearest to each sample, [N].
      train: how many training images there are.
    """

    samples: Float[np.ndarray, " N"]
    held_out: Float[np.ndarray, " M"]
    nearest: Int[np.ndarray, " N"]
    train: int

    @classmethod
    def of(cls, samples: Looked, reference: Looked, train: Looked) -> Memorisation:
        """Looks for the nearest training image of all samples and of all images of a reference that was held out."""
        found, numbers = neighbours.nearest(samples.features, train.features, "nearest to samples")
        held_out, _ = neighbours.nearest(reference.features, train.features, "nearest to reference")
        return cls(found, held_out, numbers, len(train.features))

    @property
    def threshold(self) -> float:
        """The distance within which few held-out images have a training image."""
        return float(np.quantile(self.held_out, QUANTILE))

    def scores(self) -> dict[str, float]:
        """Both medians, and the share of samples that are nearer to a training image than the threshold."""
        return {
            "nearest": float(np.median(self.samples)),
            "nearest_held_out": float(np.median(self.held_out)),
            "memorised": float((self.samples < self.threshold).mean()),
        }

    def protocol(self) -> dict[str, str]:
        """Figure -> how it is made, in words."""
        return {
            "nearest": f"median distance of {len(self.samples):,} samples to the nearest of {self.train:,} of --train",
            "nearest_held_out": f"the same of {len(self.held_out):,} images of the reference",
            "memorised": f"share of samples nearer than {self.threshold:.4g}, as {QUANTILE:.0%} of the reference are; "
            f"about {QUANTILE:.0%} if nothing is memorised",
        }

    def warnings(self) -> list[str]:
        """What makes the share unreliable, in words."""
        medians = self.scores()
        if self.threshold <= _SAME * max(medians["nearest"], medians["nearest_held_out"]):
            return [
                "images of the reference are training images: the share memorised needs a reference that was held out"
            ]
        if len(self.held_out) < _ENOUGH:
            return [
                f"{len(self.held_out)} held-out images: {QUANTILE:.0%} of fewer than {_ENOUGH:,} are too few to tell "
                "the share memorised"
            ]
        return []

    def closest(self) -> list[int]:
        """The numbers of the samples that are nearest to a training image, the nearest first."""
        return np.argsort(self.samples, kind="stable")[:_PAIRS].tolist()

    def pairs(self) -> list[dict[str, int | float]]:
        """Number of the sample, number of its training image, and their distance, of the closest ones."""
        return [
            {"sample": i, "train": int(self.nearest[i]), "distance": float(self.samples[i])} for i in self.closest()
        ]

    def picture(self, samples: ImageSet, train: ImageSet) -> np.ndarray:
        """The closest samples, each above its training image, uint8 [H, W, 3]; above them its number and the distance.

        Images are cropped to squares of the size of the first sample.
        """
        numbers = self.closest()
        made, real = (
            image_sets.pick(images, which)
            for images, which in ((samples, numbers), (train, self.nearest[numbers].tolist()))
        )
        side = min(*made[0].shape[:2], _SIDE)
        columns = {
            f"{number}: {self.samples[number]:.3g}": np.stack([center_crop(image, side) for image in pair])
            for number, *pair in zip(numbers, made, real, strict=True)
        }
        return pictures.sheet(columns, names=("sample", "training"))

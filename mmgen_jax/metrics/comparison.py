"""Generated images against real ones, as a network saw them: the figures, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from mmgen_jax.metrics import image_sets, neighbours
from mmgen_jax.metrics.gaussians import Gaussian, distance
from mmgen_jax.metrics.inception_score import SPLIT, inception_score
from mmgen_jax.metrics.judges import Judge
from mmgen_jax.metrics.looked import Looked

PUBLISHED = 50_000  # samples in published figures
_FEW = 10_000  # images below which FID and its kin say little


@dataclass(frozen=True)
class Comparison:
    """Samples and a reference as one network saw them.

    Attributes:
      judge: the network.
      samples: what it made of the samples.
      reference: the same of the reference; None where there are only statistics.
      stored: statistics of the reference from a file, which may be those of many more images; they go first.
    """

    judge: Judge
    samples: Looked
    reference: Looked | None
    stored: dict[str, Gaussian]

    @property
    def gaussians(self) -> dict[str, Gaussian]:
        """Mean and covariance of the reference."""
        return self.stored or (self.reference.gaussians if self.reference else {})

    def scores(self) -> dict[str, float]:
        """fid or fd_dinov2, sfid, inception_score, precision, recall, diversities; without those that cannot be had."""
        both = {self._distance: "features", "sfid": "spatial"}
        made, real = self.samples.gaussians, self.gaussians
        known = made.keys() & real.keys()
        found = {name: distance(made[kind], real[kind]) for name, kind in both.items() if kind in known}
        if self.samples.probabilities.shape[1]:
            found["inception_score"] = inception_score(self.samples.probabilities)
        if self.reference is not None:
            shares = neighbours.precision_recall(self.samples.features, self.reference.features)
            found |= dict(zip(("precision", "recall"), shares, strict=True))
        looked = {"diversity": self.samples, "diversity_reference": self.reference}
        return found | {name: neighbours.mean_distance(x.features) for name, x in looked.items() if x is not None}

    @property
    def _distance(self) -> str:
        """The name of the distance of Gaussians among the figures."""
        return self.judge.distance.lower().replace("-", "_")

    def protocol(self) -> dict[str, str]:
        """Figure -> how it is made, in words, or why there is none."""
        samples, width, classes = len(self.samples.features), self.judge.width, self.samples.probabilities.shape[1]
        images = "no images" if self.reference is None else f"{len(self.reference.features):,} images"
        pairs = f"{samples:,} samples and {'statistics of a file' if self.stored else images}"
        nearest = f"{samples:,} samples and {images}; within the distance of the third neighbour, float32"
        if self.reference is None:
            nearest = f"the reference has no images, which an .npz has as {image_sets.ARRAY}"
        places = f"{pairs}; 7 channels of mixed_6/conv at 17 x 17 places"
        if "spatial" not in self.gaussians:
            places = "the reference has no mu_s and sigma_s"
        if "spatial" not in self.samples.moments:
            places = "the network has no features of places"
        classed = f"{samples:,} samples in splits of {SPLIT:,}; probabilities of {classes:,} classes"
        return {
            self._distance: f"{pairs}; {width:,} features, covariances with n - 1",
            "sfid": places,
            "inception_score": classed if classes else "the network has no classes",
            "precision": nearest,
            "recall": nearest,
            "diversity": f"mean distance of all pairs of {samples:,} samples",
            "diversity_reference": f"the same of {images} of the reference",
        }

    def warnings(self) -> list[str]:
        """What makes figures unreliable, in words."""
        samples, reference = self.samples, self.reference
        told = self._few("samples", len(samples.features))
        if reference is not None and not self.stored:
            told += self._few("reference images", len(reference.features))
        if samples.probabilities.shape[1] and len(samples.features) < SPLIT:
            told.append(f"{len(samples.features)} samples: Inception Score of fewer than {SPLIT:,} is too small")
        if reference is not None and samples.sizes != reference.sizes:
            told.append(
                f"samples have {_sizes(samples)} pixels and the reference {_sizes(reference)}, which changes all "
                "figures; --size crops images of folders"
            )
        return told

    def _few(self, name: str, count: int) -> list[str]:
        width, distance = self.judge.width, self.judge.distance
        if count <= width:
            return [
                f"{count} {name}: their covariance of {width:,} features is singular and {distance} far too large; "
                f"it needs more than {width:,}, and published figures have {PUBLISHED:,} samples"
            ]
        if count < _FEW:
            return [
                f"{count} {name}: {distance} of fewer than {_FEW:,} is too large, the more so the fewer there are; "
                f"compare it only with {distance} of as many"
            ]
        return []


def _sizes(looked: Looked) -> str:
    first = [f"{width} x {height}" for height, width in sorted(looked.sizes)[:3]]
    more = len(looked.sizes) - len(first)
    return ", ".join(first) + (f" and {more} other sizes of" if more else "")


def table(scores: dict[str, float], protocol: dict[str, str]) -> str:
    """A line for each figure, with its protocol beside it; a dash means that there is none."""
    cells = {name: f"{scores[name]:.4f}" if name in scores else "-" for name in protocol}
    return "\n".join(f"{name:<20}{cells[name]:>12}  {words}" for name, words in protocol.items())

"""The kind of modality whose pixels belong to regions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from mmgen_jax.modalities import borders, files, grouping, measure, pixels
from mmgen_jax.modalities.decoding import Decoded
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.measure import Average, Averages
from mmgen_jax.modalities.modality import Areas, Combined, Modality
from mmgen_jax.modalities.upsampling import Upsampler

_COLOR_DISTANCE = 60.0  # on the 0..255 scale; JPEG artefacts stay below
_NOISE = 0.25  # deviation of predicted colours, from 0 to 1, in `discrepancy`
_FOREIGN_SHARE = 0.05  # share of pixels that may have a colour outside the palette, as blurred borders have


class Regions(Modality):
    """Region ids, stored as colours. Value: int ids ``[..., H, W]``.

    Where the palette is empty, because regions have any colours, the value is the uint8 colours ``[..., H, W, 3]``.
    Users bring image files in the palette's colours, greyscale or indexed ones with ids, uint8 arrays of colours or
    integer arrays of ids. A model without a palette takes any colours, and no ids.
    """

    headlines: ClassVar[tuple[str, ...]] = ("miou", "matched_iou")
    details: ClassVar[tuple[str, ...]] = ("boundary/recall", "boundary/precision")
    wrong: ClassVar[float] = 1.0
    doubtful: ClassVar[float] = 1.0
    interval: ClassVar[float | None] = None

    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        if not len(facts.palette):
            return pixels.to_pixels(array, np.uint8)
        return pixels.nearest_color((np.asarray(array, np.float32) + 1) * 127.5, facts.palette)

    def differentiable(self, array: Any) -> Any:
        """Colours ``[..., H, W, 3]`` from 0 to 1, with a palette too: ids have no gradients."""
        return (array + 1) / 2

    def discrepancy(self, array: Any, truth: Any, where: Any, facts: Facts) -> Any:
        """Cross-entropy, in nats, of the region that is meant; without a palette the difference of colours.

        A colour is taken for one of the palette with normal noise of `_NOISE`, each as likely as the others.
        """
        import jax  # here, as commands that make data and know modalities need none of it
        import jax.numpy as jnp

        if not len(facts.palette):
            return super().discrepancy(array, truth, where, facts)
        palette = jnp.asarray(facts.palette, jnp.float32) / 255

        def likelihood(colours: Any) -> Any:
            apart = self.differentiable(colours)[..., None, :] - palette
            return -jnp.square(apart).sum(-1) / (2 * _NOISE**2)

        meant = likelihood(truth).argmax(-1)[..., None]
        return -jnp.take_along_axis(jax.nn.log_softmax(likelihood(array)), meant, -1)[..., 0]

    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.to_array(self.picture(np.asarray(value), facts))

    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return facts.palette[value] if len(facts.palette) else value

    def files(self, value: np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
        """Colours and, if there is a palette, ids, of 8 or 16 bits; more regions than 65536 are numbers in a .npy."""
        made = {f"{self.name}.png": self.picture(value, facts)}
        if len(facts.palette):
            dtype = np.min_scalar_type(len(facts.palette) - 1)
            made[f"{self.name}_ids{'.png' if dtype.itemsize <= 2 else '.npy'}"] = value.astype(dtype)
        return made

    def deviation(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """1 where the region is wrong, 0 elsewhere."""
        wrong = value != truth
        return (wrong if len(facts.palette) else wrong.any(-1)).astype(np.float32)

    def enlarged(self, value: np.ndarray, to: Upsampler, facts: Facts) -> np.ndarray:
        return to.nearest(value)

    def combine(self, draws: np.ndarray, facts: Facts) -> Combined:
        """The region that most draws have in a pixel, and the share of the draws that have another one.

        Colours without a palette are of one region where they are near each other.
        """
        votes = np.stack([self._alike(draws, draws[:, k : k + 1], facts).sum(1) for k in range(draws.shape[1])], 1)
        winner = votes.argmax(1)[:, None]
        value = np.take_along_axis(draws, winner if len(facts.palette) else winner[..., None], 1)[:, 0]
        return Combined(value, (1 - votes.max(1) / draws.shape[1]).astype(np.float32))

    def _alike(self, a: np.ndarray, b: np.ndarray, facts: Facts) -> np.ndarray:
        """Whether values are of one region."""
        if len(facts.palette):
            return a == b
        return np.linalg.norm(a.astype(np.float32) - b.astype(np.float32), axis=-1) <= _COLOR_DISTANCE

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Whether regions have the right names, if they have any, and the right pixels and borders.

        By name: intersection over union of each region over the whole set, iou/NAME, and their mean, miou. Whatever
        they are called, as means over images: ari, see `measure.adjusted_rand`, matched_iou, see `measure.matched_iou`,
        and boundary/f, precision and recall, see `borders.boundary_scores`, of predicted borders against true ones,
        which may be as far apart as `borders.tolerance` says; an image where neither has a border counts in none.

        Without a palette true regions are those of one colour, and predicted ones those that `grouping.flattened` sees.
        """
        named = self._named(prediction, truth, areas[""], facts) if facts.regions else {}
        if grouping.coloured(truth):
            prediction, truth = grouping.numbered(grouping.flattened(prediction)), grouping.numbered(truth)
        groups = measure.averages(lambda where: {"ari": measure.adjusted_rand(prediction, truth, where)}, areas)
        matched = measure.over_images(measure.matched_iou(prediction, truth, areas[""]), areas[""])
        true, found = (borders.region_boundaries(ids) & areas[""] for ids in (truth, prediction))
        near = borders.boundary_scores(true, found, borders.tolerance(*truth.shape[1:3]))
        edges = {f"boundary/{key}": measure.over_known(value) for key, value in near.items()}
        return named | groups | {"matched_iou": matched} | edges

    def _named(self, prediction: np.ndarray, truth: np.ndarray, where: np.ndarray, facts: Facts) -> Averages:
        """Scores of regions by their names."""
        shares = measure.iou(measure.confusion(prediction, truth, len(facts.regions), where))
        one = (slice(i, i + 1) for i in range(len(facts.regions)))
        return {"miou": shares} | {
            f"iou/{name}": Average(shares.total[i], shares.count[i]) for name, i in zip(facts.regions, one, strict=True)
        }

    def from_given(self, given: np.ndarray, size: pixels.Frame, facts: Facts, source: Source) -> np.ndarray:
        files.check_type(given, "u i", "integers", source)
        palette = facts.palette
        colored = given.dtype == np.uint8 and given.ndim >= 3 and given.shape[-1] == 3
        if not len(palette):  # any colours are regions
            if not colored:
                found = f"has type {given.dtype} {list(given.shape)}"
                raise source.error(found, "uint8 colours, as the model has no ids")
            return np.stack([pixels.fitted(image, size, nearest=True) for image in files.stack(given, 3, source)])
        if colored:
            ids = _ids(files.stack(given, 3, source), palette, source)[..., None]
        else:
            ids = files.stack(given, 1, source)
        if ids.min() < 0 or ids.max() >= len(palette):
            raise source.error(f"has region ids from {ids.min()} to {ids.max()}", f"ids 0 to {len(palette) - 1}")
        return np.stack([pixels.fitted(image.astype(np.int32), size, nearest=True) for image in ids])[..., 0]

    def from_file(self, image: Decoded, facts: Facts, source: Source) -> np.ndarray:
        """Colours, or ids where a grey or indexed image has other colours than the palette's."""
        if not len(facts.palette):
            return self.from_image(image, source)
        if image.is_float:
            return image.samples  # which are refused
        colors, samples = image.colors(), image.samples
        if image.lossy or (samples.ndim == 3 and (samples != samples[..., :1]).any()):
            return colors
        meant = facts.palette[pixels.nearest_color(colors, facts.palette)]
        if image.fits_8_bits() and np.array_equal(meant, colors):
            return colors
        return samples[..., 0] if samples.ndim == 3 else samples

    def from_image(self, image: Decoded, source: Source) -> np.ndarray:
        """Flat colours or levels of grey that can be told apart -> uint8 [H, W, 3]."""
        return files.flat_colors(image, source)

    def square(self, stored: np.ndarray, size: int, valid: np.ndarray | None = None) -> np.ndarray:
        return pixels.center_crop(stored, size, nearest=True)


def _ids(colors: np.ndarray, palette: np.ndarray, source: Source) -> np.ndarray:
    """Ids of colours [n, H, W, 3]; raises UsageError where too many are not near any colour of the palette."""
    ids = pixels.nearest_color(colors, palette)
    foreign = np.linalg.norm(colors.astype(np.float32) - palette[ids], axis=-1) > _COLOR_DISTANCE
    if foreign.mean() > _FOREIGN_SHARE:
        shown = ", ".join("#" + bytes(color.tolist()).hex() for color in palette[:12])
        raise source.error(f"has {foreign.mean():.0%} of its pixels in colours that are not a region's", shown)
    return ids

"""Regions by Segment Anything (Kirillov et al. 2023), run by the transformers library on a grid of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmgen_jax.experts import loading
from mmgen_jax.experts.painting import paint
from mmgen_jax.experts.protocol import package
from mmgen_jax.system.errors import UsageError


class Sam:
    """Finds the masks of all regions of an image.

    Args:
      path: folder in transformers' format, or hub id, of a SAM.
      points: points of the grid, each way.
      iou: predicted quality below which a mask is dropped.
      stability: stability under other thresholds below which a mask is dropped.
      overlap: overlap of boxes above which the worse of two masks is dropped.
    """

    def __init__(self, path: str, points: int, iou: float, stability: float, overlap: float):
        torch, transformers = package("torch", "sam"), package("transformers", "sam")
        with loading.refusing(f"sam {path!r} cannot be loaded"):
            model = loading.network(transformers.SamModel, path)
            processor = _processor(transformers).from_pretrained(path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._pipeline = transformers.pipeline("mask-generation", model=model, image_processor=processor, device=device)
        self._options = {
            "points_per_crop": points,
            "pred_iou_thresh": iou,
            "stability_score_thresh": stability,
            "crops_nms_thresh": overlap,
        }

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; raises UsageError for an image without any region."""
        return [self._one(image, name) for image, name in zip(images, names, strict=True)]

    def _one(self, image: np.ndarray, name: str) -> np.ndarray:
        found = self._pipeline(Image.fromarray(image), **self._options)["masks"]
        masks = [mask for mask in (np.asarray(x, bool) for x in found) if mask.any()]  # NaN is nowhere above 0
        if not masks:
            raise UsageError(f"sam found no region in {name!r}")
        return paint(masks, name)


def _processor(transformers: Any) -> Any:
    """The image processor of transformers without its last step's need for torchvision."""

    base: Any = transformers.SamImageProcessorPil

    class Processor(base):
        def post_process_for_mask_generation(self, all_masks, all_scores, all_boxes, crops_nms_thresh):
            kept = suppress(all_boxes.cpu().numpy(), all_scores.cpu().numpy(), crops_nms_thresh)
            masks = [_from_runs(all_masks[i]) for i in kept]
            return masks, all_scores[kept], [all_masks[i] for i in kept], all_boxes[kept]

    return Processor


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """Non-maximum suppression: indices of boxes [N, 4] (x0, y0, x1, y1), best first, that no better one overlaps.

    Overlap is intersection over union; a box is dropped where it is above `overlap`.
    """
    kept: list[int] = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-scores, kind="stable"):
        low, high = np.maximum(boxes[kept, :2], boxes[i, :2]), np.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = np.prod(np.clip(high - low, 0, None), -1)
        if not (shared > overlap * (area[kept] + area[i] - shared)).any():
            kept.append(int(i))
    return kept


def _from_runs(runs: dict) -> np.ndarray:
    """Run lengths of a mask, column by column and starting with what is outside, -> bool [H, W]."""
    height, width = runs["size"]
    values = np.arange(len(runs["counts"])) % 2 == 1
    return np.repeat(values, runs["counts"]).reshape(width, height).T

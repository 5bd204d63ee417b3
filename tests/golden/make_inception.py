"""Writes what pytorch-fid and torch-fidelity compute with the random weights of `random_inception`: inception.npz.

PYTHONPATH=.:tests python tests/golden/make_inception.py

It needs torch-fidelity==0.4.0 and pytorch-fid==0.3.0, in an environment of their own: they bring torchvision,
whose build must be that of PyTorch, and transformers uses torchvision wherever it is installed.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import random_inception
import torch
from pytorch_fid import inception as pytorch_fid
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def networks(images: np.ndarray) -> dict[str, torch.Tensor]:
    """Outputs of both networks; loading is strict, so that names and shapes are theirs."""
    state = {name: torch.from_numpy(value) for name, value in random_inception.state().items()}
    with TemporaryDirectory() as folder, torch.no_grad():
        torch.save(state, f"{folder}/weights.pth")
        first = FeatureExtractorInceptionV3(
            "fid", ["2048", "logits_unbiased"], feature_extractor_weights_path=f"{folder}/weights.pth"
        )
        seen = {}
        first.Mixed_6d.branch1x1.register_forward_hook(lambda module, inputs, output: seen.update(spatial=output))
        features, logits = first(channels_first(images))
        pytorch_fid.load_state_dict_from_url = lambda *args, **more: state
        second = pytorch_fid.InceptionV3().eval()
        return {
            "torch_fidelity/features": features,
            "torch_fidelity/logits": logits,
            "torch_fidelity/mixed_6d": seen["spatial"][:, :7].permute(0, 2, 3, 1).reshape(len(images), -1),
            "pytorch_fid/features": second(channels_first(images) / 255)[0][..., 0, 0],
        }


def scores(first: np.ndarray, second: np.ndarray, logits: np.ndarray) -> dict[str, object]:
    """Scores of features [N, D] and [M, D] and of logits [N, K]."""
    a, b = (fid_features_to_statistics(torch.from_numpy(x)) for x in (first, second))
    return {
        "torch_fidelity/fid": fid_statistics_to_metric(a, b, False)["frechet_inception_distance"],
        "pytorch_fid/fid": calculate_frechet_distance(a["mu"], a["sigma"], b["mu"], b["sigma"]),
        "torch_fidelity/precision_recall": calculate_precision_recall_full(*map(torch.from_numpy, (first, second))),
        "torch_fidelity/isc": [
            isc_features_to_metric(torch.from_numpy(logits), splits, False)["inception_score_mean"] for splits in (1, 4)
        ],
    }


def main() -> None:
    rng = np.random.default_rng(1)
    images = np.repeat(np.repeat(rng.integers(0, 200, (2, 5, 4, 3)), 8, 1), 13, 2)
    images = (images + rng.integers(0, 56, images.shape)).astype(np.uint8)
    first, logits = rng.normal(size=(60, 8)), rng.normal(size=(60, 10)) * 2
    second = rng.normal(size=(45, 8)) * rng.uniform(0.5, 1.5, 8) + 0.3
    arrays = {"images": images, "first": first, "second": second, "logits": logits}
    arrays |= networks(images) | scores(first, second, logits)
    for side in (13, 61):
        arrays[f"torch_fidelity/resized_{side}"] = interpolate_bilinear_2d_like_tensorflow1x(
            channels_first(images.astype(np.float32)), (side, side), align_corners=False
        ).permute(0, 2, 3, 1)
    stored = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(Path(__file__).parent / "inception.npz", **stored)


if __name__ == "__main__":
    main()

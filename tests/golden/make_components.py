"""Writes the tiny random-weight models in this folder, in the formats of their original libraries.

python tests/golden/make_components.py     needs requirements-experts.txt

The guides' commands run on them where a reader would name the released weights. `components.npz` holds what the
original libraries compute with them, so that parity is tested also where torch is not installed.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, Dinov2Model

HERE = Path(__file__).parent


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every layer matters to the output."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator)
            scale = 0.1 if p.ndim < 2 else (p[0].numel()) ** -0.5
            p.copy_(p + scale * noise if p.ndim < 2 else scale * noise)
    return model.eval()


def main() -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    with torch.no_grad():
        vae = randomise(
            AutoencoderKL(
                block_out_channels=(8, 8, 16, 16),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=1,
                norm_num_groups=4,
                latent_channels=4,
                sample_size=32,
            )
        )
        vae.save_pretrained(HERE / "tiny_vae")
        images = rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
        posterior = vae.encode(torch.from_numpy(images).permute(0, 3, 1, 2)).latent_dist
        decoded = vae.decode(posterior.mean).sample
        arrays["vae/images"] = images
        for name, value in (("mean", posterior.mean), ("std", posterior.std), ("decoded", decoded)):
            arrays[f"vae/{name}"] = value.permute(0, 2, 3, 1).numpy()

        shape = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2}
        # As wide as the features that the golden model aligns with.
        dino = randomise(Dinov2Model(Dinov2Config(image_size=56, patch_size=14, **shape | {"hidden_size": 24})))
        dino.save_pretrained(HERE / "tiny_dino")
        pixels = rng.normal(size=(2, 56, 56, 3)).astype(np.float32)  # normalised, at the native grid
        tokens = dino(torch.from_numpy(pixels).permute(0, 3, 1, 2)).last_hidden_state[:, 1:]
        arrays |= {"dino/pixels": pixels, "dino/tokens": tokens.numpy()}

        backbone = Dinov2Config(
            image_size=56,
            patch_size=14,
            out_indices=[1, 2, 3, 4],
            apply_layernorm=True,
            reshape_hidden_states=False,
            **shape,
        )
        depth = randomise(
            DepthAnythingForDepthEstimation(
                DepthAnythingConfig(
                    backbone_config=backbone,
                    reassemble_hidden_size=16,
                    neck_hidden_sizes=[8, 8, 8, 8],
                    fusion_hidden_size=8,
                    head_hidden_size=4,
                )
            )
        )
        depth.save_pretrained(HERE / "tiny_depth_anything")
        predicted = depth(torch.from_numpy(pixels).permute(0, 3, 1, 2)).predicted_depth
        arrays |= {"depth_anything/pixels": pixels, "depth_anything/depth": predicted.numpy()}
    np.savez_compressed(HERE / "components.npz", **arrays)


if __name__ == "__main__":
    main()

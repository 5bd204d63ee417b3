"""Experts of other libraries with tiny random weights, in those libraries' formats."""

from pathlib import Path

import pytest

TINY_VAE = "tests/golden/tiny_vae"


def sam(folder: Path) -> None:
    """Writes a Segment Anything of transformers."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    vision = transformers.SamVisionConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=16, output_channels=32,
        window_size=2, global_attn_indexes=[0], mlp_dim=32, num_pos_feats=16,
    )  # fmt: skip
    prompt = transformers.SamPromptEncoderConfig(hidden_size=32, image_size=64, patch_size=16)
    decoder = transformers.SamMaskDecoderConfig(
        hidden_size=32, num_attention_heads=2, mlp_dim=32, iou_head_hidden_dim=32
    )
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config=vision.to_dict(), prompt_encoder_config=prompt.to_dict(), mask_decoder_config=decoder.to_dict()
    )
    transformers.SamModel(config).save_pretrained(folder)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    transformers.SamImageProcessorPil(**sizes).save_pretrained(folder)


def marigold(folder: Path) -> None:
    """Writes a Marigold of diffusers, which predicts normals."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, in_channels=8, out_channels=4, norm_num_groups=4,
        cross_attention_dim=8, attention_head_dim=2, sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL.from_pretrained(TINY_VAE)
    text = transformers.CLIPTextConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=99,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    words = folder.parent / "words"
    words.mkdir()
    (words / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}')
    (words / "merges.txt").write_text("#version: 0.2\n")
    diffusers.MarigoldNormalsPipeline(
        unet=unet,
        vae=vae,
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizer(str(words / "vocab.json"), str(words / "merges.txt"), model_max_length=8),
        prediction_type="normals",
        default_denoising_steps=1,
        default_processing_resolution=32,
    ).save_pretrained(folder)

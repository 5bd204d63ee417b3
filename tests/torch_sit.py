"""SiT (Ma et al. 2024) with one modality in PyTorch, with the names of its published weights; for tests."""

import torch
from torch import nn
from torch.nn import functional as F

from mmgen_jax.models.layers import position_embedding

FREQUENCIES = 128


class Named(nn.Module):
    """A module that only groups others under their names."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def _normalised(x, shift, scale):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class SiT(nn.Module):
    """`double` makes twice the output channels, of which only the first half is used (SiT's `learn_sigma`)."""

    def __init__(self, width, depth, heads, classes, size, features=0, tap=0, double=False, patch=2, channels=4):
        super().__init__()
        self.heads, self.tap, self.patch, self.channels = heads, tap, patch, channels
        self.pos_embed = nn.Parameter(torch.zeros(1, (size // patch) ** 2, width), requires_grad=False)
        self.x_embedder = Named(proj=nn.Conv2d(channels, width, patch, patch))
        sine = nn.Linear(2 * FREQUENCIES, width)
        self.t_embedder = Named(mlp=nn.Sequential(sine, nn.SiLU(), nn.Linear(width, width)))
        self.y_embedder = Named(embedding_table=nn.Embedding(classes + 1, width))
        self.blocks = nn.ModuleList(
            Named(
                attn=Named(qkv=nn.Linear(width, 3 * width), proj=nn.Linear(width, width)),
                mlp=Named(fc1=nn.Linear(width, 4 * width), fc2=nn.Linear(4 * width, width)),
                adaLN_modulation=nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width)),
            )
            for _ in range(depth)
        )
        if features:
            layers = nn.Linear(width, 40), nn.SiLU(), nn.Linear(40, 40), nn.SiLU(), nn.Linear(40, features)
            self.projectors = nn.ModuleList([nn.Sequential(*layers)])
        self.final_layer = Named(
            linear=nn.Linear(width, patch**2 * channels * (1 + double)),
            adaLN_modulation=nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)),
        )
        for p in self.parameters():
            p.data = torch.randn_like(p) / max(1, p.shape[-1]) ** 0.5
        self.pos_embed.data = torch.from_numpy(position_embedding(size // patch, size // patch, width))[None]

    def forward(self, x, t, y):
        """Computes the velocity, with the shape of x, and features or None, of x [B, C, H, W], t [B] and y [B]."""
        tokens = self.x_embedder.proj(x).flatten(2).mT + self.pos_embed
        angles = t[:, None] * 10000 ** (-torch.arange(FREQUENCIES) / FREQUENCIES)
        time = self.t_embedder.mlp(torch.cat([angles.cos(), angles.sin()], -1))
        condition = time + self.y_embedder.embedding_table(y)
        features = None
        for i, block in enumerate(self.blocks, 1):
            tokens = self._block(tokens, block, block.adaLN_modulation(condition).chunk(6, -1))
            if i == self.tap and hasattr(self, "projectors"):
                features = self.projectors[0](tokens)
        shift, scale = self.final_layer.adaLN_modulation(condition).chunk(2, -1)
        out = self.final_layer.linear(_normalised(tokens, shift, scale))
        b, _, h, w = x.shape
        out = out.reshape(b, h // self.patch, w // self.patch, self.patch, self.patch, -1)
        return out.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, h, w)[:, : self.channels], features

    def _block(self, tokens, block, parts):
        b, n, d = tokens.shape
        qkv = block.attn.qkv(_normalised(tokens, *parts[:2])).reshape(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        tokens = tokens + parts[2][:, None] * block.attn.proj(mixed)
        hidden = F.gelu(block.mlp.fc1(_normalised(tokens, *parts[3:5])), approximate="tanh")
        return tokens + parts[5][:, None] * block.mlp.fc2(hidden)

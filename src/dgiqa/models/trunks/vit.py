"""Vision Transformer, tokens after any of its blocks.

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, section 3.1 and table 1. State names are timm's
(``blocks.0.attn.qkv``…). Tokens may come from a convolutional trunk's map in the place of patches (their hybrid).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ViT(nn.Module):
    """ViT-B by default. Patches of the picture, or with ``patch = 1`` and ``inputs`` channels pixels of a map.

    Shapes:
        (N, inputs, size, size) float; tokens are (N, 1 + (size / patch)², width), the class token first.
    """

    def __init__(
        self, *, size: int = 224, patch: int = 16, inputs: int = 3, width: int = 768, depth: int = 12, heads: int = 12
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"patches of {patch} pixels don't fill a picture of {size}")
        self.side = size // patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(inputs, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def embed(self, x: Tensor) -> Tensor:
        """Tokens before the first block, with their places."""
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.pos_embed

    def forward(self, x: Tensor) -> Tensor:
        """Tokens after the last block and the final norm."""
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens)
        return out

    def after(self, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Tokens after each of ``blocks`` (counted from 0), not normalised; what comes later isn't run."""
        tokens, found = self.embed(x), {}
        for number, block in enumerate(self.blocks[: max(blocks) + 1]):
            tokens = block(tokens)
            found[number] = tokens
        return [found[number] for number in blocks]


class Block(nn.Module):
    """Attention and a two-layer perceptron, each normalised before and summed after (pre-norm, figure 1).

    Shapes: (N, L, width) to the same.
    """

    def __init__(self, width: int, heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width, int(ratio * width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., arXiv:1706.03762, section 3.2.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels can't be shared out to {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, width = tokens.shape
        split = self.qkv(tokens).reshape(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(split[0], split[1], split[2])
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(count, length, width))
        return out


class Perceptron(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out

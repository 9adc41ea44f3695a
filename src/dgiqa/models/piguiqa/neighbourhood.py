"""Neighbourhood attention: each place attends to the window of its nearest places.

Hassani et al., "Neighborhood Attention Transformer", arXiv:2204.07143, section 3. Near an edge the window is shifted
inside, so that every place has as many neighbours. Written with plain operations: all places are compared, and those
outside the window are masked, which at a few hundred places costs less than gathering them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NeighbourhoodAttention(nn.Module):
    """Multi-head attention to the ``window`` × ``window`` nearest places, with a bias by head and offset.

    Shapes:
        (N, side, side, channels) float; returns the same shape.

    Raises:
        ValueError: a window that is even or doesn't fit, or heads that don't divide the channels.
    """

    rows: Tensor
    offsets: Tensor

    def __init__(self, channels: int, heads: int, *, side: int, window: int) -> None:
        super().__init__()
        if window % 2 == 0 or not 1 <= window <= side:
            raise ValueError(f"a window of {window} must be odd, and fit a map of {side}")
        if channels % heads:
            raise ValueError(f"{channels} channels can't be shared out to {heads} heads")
        self.heads, self.side = heads, side
        self.qkv = nn.Linear(channels, 3 * channels)
        self.rpb = nn.Parameter(torch.empty(heads, 2 * window - 1, 2 * window - 1))
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.rpb, std=0.02)
        at = torch.arange(side)
        first = (at - window // 2).clamp(0, side - window)[:, None]
        near = (at >= first) & (at < first + window)
        # One axis at a time: rows and columns are masked, and looked up, by the same (side, side) tables.
        self.register_buffer("rows", torch.zeros(side, side).masked_fill(~near, float("-inf")), persistent=False)
        offsets = (at - at[:, None]).clamp(1 - window, window - 1) + window - 1
        self.register_buffer("offsets", offsets.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        count, side, channels = len(x), self.side, x.shape[3]
        tokens = self.qkv(x).reshape(count, side * side, 3, self.heads, channels // self.heads)
        query, key, value = tokens.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, L, C / heads)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias())
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(x.shape))
        return out

    def bias(self) -> Tensor:
        """(heads, L, L), asking place by answering place: the learned bias, minus infinity outside the window."""
        side = self.side
        looked_up = self.rpb.index_select(1, self.offsets).index_select(2, self.offsets)
        looked_up = looked_up.reshape(self.heads, side, side, side, side).transpose(2, 3)
        masked = looked_up + self.rows[:, None, :, None] + self.rows[None, :, None, :]
        return masked.reshape(self.heads, side * side, side * side)


class Block(nn.Module):
    """Norm, neighbourhood attention, sum; norm, perceptron, sum (figure 4 of the paper). Shapes as the attention's."""

    def __init__(self, channels: int, heads: int, *, side: int, window: int, ratio: int = 3) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = NeighbourhoodAttention(channels, heads, side=side, window=window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, ratio * channels), nn.GELU(), nn.Linear(ratio * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class LocalModule(nn.Module):
    """Maps of distortion, seen by each patch beside its neighbours.

    Shapes:
        (N, inputs, side, side) float; returns (N, outputs, side, side).
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, *, depth: int, heads: int, side: int, window: int
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width, heads, side=side, window=window) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        x = self.blocks(self.embed(maps).permute(0, 2, 3, 1))
        out: Tensor = self.project(self.norm(x)).permute(0, 3, 1, 2)
        return out

"""Swin-T, the paper's trunk: a transformer that attends within windows which shift from block to block.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv:2103.14030.
Parameters carry the names that timm's ``swin_tiny_patch4_window7_224`` gives them (0.9 and later: a stage
begins with its downsampling), so ImageNet weights and official checkpoints load by name. The size of the
picture is fixed, which makes the masks of the shifted windows constants. Blocks take other windows and widths too.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Blocks, heads and channels of the four stages; strides 4, 8, 16, 32.
DEPTHS = (2, 2, 6, 2)
HEADS = (3, 6, 12, 24)
CHANNELS = (96, 192, 384, 768)
WINDOW = 7
PATCH = 4


class SwinTiny(nn.Module):
    """The four stages' features, as they leave the stage: neither normalised nor downsampled.

    Shapes:
        picture: (N, 3, size, size) float, ImageNet-normalised; returns (N, 96, size/4, size/4),
        (N, 192, size/8, size/8), (N, 384, size/16, size/16), (N, 768, size/32, size/32).

    Args:
        size: side of the picture in pixels, a multiple of 224 (windows of 7 at stride 32).
        drop_path: in training, the share of samples for which the last block is skipped; it falls
            linearly to 0 at the first block (stochastic depth, arXiv:1603.09382).
    """

    def __init__(self, size: int = 224, drop_path: float = 0.1) -> None:
        super().__init__()
        if size % (32 * WINDOW):
            raise ValueError(f"size must be a multiple of {32 * WINDOW}, not {size}")
        rates = [drop_path * i / (sum(DEPTHS) - 1) for i in range(sum(DEPTHS))]
        self.patch_embed = PatchEmbedding(CHANNELS[0])
        self.layers = nn.ModuleList()
        for i, depth in enumerate(DEPTHS):
            first = sum(DEPTHS[:i])
            side = size // (PATCH << i)
            self.layers.append(
                Stage(CHANNELS[max(i - 1, 0)], CHANNELS[i], HEADS[i], side, rates[first : first + depth])
            )

    def forward(self, picture: Tensor) -> list[Tensor]:
        tokens = self.patch_embed(picture)
        maps = []
        for stage in self.layers:
            tokens = stage(tokens)
            maps.append(tokens.permute(0, 3, 1, 2))
        return maps


class PatchEmbedding(nn.Module):
    """(N, 3, H, W) to one token for each patch of 4×4 pixels: (N, H/4, W/4, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, PATCH, PATCH)
        self.norm = nn.LayerNorm(channels)

    def forward(self, picture: Tensor) -> Tensor:
        out: Tensor = self.norm(self.proj(picture).permute(0, 2, 3, 1))
        return out


class Stage(nn.Module):
    """Downsampling (where the width changes) and blocks, every second one with shifted windows."""

    def __init__(self, inputs: int, channels: int, heads: int, side: int, rates: list[float]) -> None:
        super().__init__()
        self.downsample = PatchMerging(inputs, channels) if inputs != channels else nn.Identity()
        # A map that is one window has nothing to shift to.
        shifts = [0 if side == WINDOW else (i % 2) * (WINDOW // 2) for i in range(len(rates))]
        self.blocks = nn.Sequential(
            *(Block(channels, heads, side, shift, rate) for shift, rate in zip(shifts, rates, strict=True))
        )

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.downsample(tokens))
        return out


class PatchMerging(nn.Module):
    """Each 2×2 neighbourhood becomes one token: (N, H, W, inputs) to (N, H/2, W/2, channels)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * inputs)
        self.reduction = nn.Linear(4 * inputs, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        # The order of the four neighbours is part of the trained weights: down the column first.
        neighbours = [tokens[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.reduction(self.norm(torch.cat(neighbours, dim=-1)))
        return out


class Block(nn.Module):
    """Window attention and MLP, each normalised before and added to the stream. (N, side, side, channels).

    Args:
        window: side of the windows; ``side`` is a multiple of it.
        hidden: width inside the MLP, four times the channels by default.
    """

    mask: Tensor | None

    def __init__(
        self,
        channels: int,
        heads: int,
        side: int,
        shift: int,
        drop_path: float,
        *,
        window: int = WINDOW,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.shift = shift
        self.window = window
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, hidden or 4 * channels)
        self.drop_path = DropPath(drop_path)
        mask = _shift_mask(side, shift, window) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.drop_path(self._attend(self.norm1(tokens)))
        out: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return out

    def _attend(self, tokens: Tensor) -> Tensor:
        side = tokens.shape[1]
        if self.shift:
            tokens = torch.roll(tokens, (-self.shift, -self.shift), (1, 2))
        tokens = _from_windows(self.attn(_to_windows(tokens, self.window), self.mask), side)
        if self.shift:
            tokens = torch.roll(tokens, (self.shift, self.shift), (1, 2))
        return tokens


class WindowAttention(nn.Module):
    """Multi-head self-attention in a window, with a learned bias for each relative position.

    Shapes:
        windows: (N * windows, L, channels), L = window²; mask: (windows, L, L) float, added to the logits.
    """

    position: Tensor

    def __init__(self, channels: int, heads: int, window: int = WINDOW) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("position", _relative_position(window), persistent=False)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        count, length, channels = windows.shape
        split = self.qkv(windows).reshape(count, length, 3, self.heads, channels // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # (N * windows, heads, L, C / heads)
        table = self.relative_position_bias_table[self.position]
        bias = table.reshape(length, length, self.heads).permute(2, 0, 1).unsqueeze(0)
        if mask is not None:
            bias = (bias + mask.unsqueeze(1)).repeat(count // mask.shape[0], 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class DropPath(nn.Module):
    """In training, zeroes whole samples at ``rate`` and scales up the others; otherwise does nothing."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        return branch * branch.new_empty(branch.shape[0], 1, 1, 1).bernoulli_(keep) / keep


def _to_windows(tokens: Tensor, window: int) -> Tensor:
    """(N, side, side, C) as (N * windows, window², C)."""
    side, channels = tokens.shape[2:]
    rows = side // window
    split = tokens.reshape(-1, rows, window, rows, window, channels)
    return split.transpose(2, 3).reshape(-1, window * window, channels)


def _from_windows(windows: Tensor, side: int) -> Tensor:
    """The way back of :func:`_to_windows`."""
    window = math.isqrt(windows.shape[1])
    rows = side // window
    split = windows.reshape(-1, rows, rows, window, window, windows.shape[-1])
    return split.transpose(2, 3).reshape(-1, side, side, windows.shape[-1])


def _relative_position(window: int) -> Tensor:
    """(window⁴,) rows of the bias table, for the offset from the second pixel of a window to the first."""
    row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    row, column = row.flatten(), column.flatten()
    down = row[:, None] - row[None, :] + window - 1
    right = column[:, None] - column[None, :] + window - 1
    return (down * (2 * window - 1) + right).flatten()


def _shift_mask(side: int, shift: int, window: int) -> Tensor:
    """(windows, L, L), L = window²: -100 where rolling brought pixels of opposite edges together, 0 elsewhere."""
    edge = torch.zeros(side)
    edge[-window:-shift] = 1
    edge[-shift:] = 2
    region = 3 * edge[:, None] + edge[None, :]
    windows = _to_windows(region[None, :, :, None], window).squeeze(-1)
    apart = windows[:, :, None] != windows[:, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, -100.0)

"""The three building blocks of DGIQA: bridge, Depth-CAR, dilated stack.

Ramesh et al., "DGIQA: Depth-guided Feature Attention and Refinement for Generalizable Image Quality
Assessment", arXiv:2505.24002. Widths are free, so that small networks share them. Every block takes and
gives (N, C, H, W) floats and keeps H and W.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TransformerCNNBridge(nn.Module):
    """Transformer-CNN bridge (TCB): turns one stage's features into convolutional ones.

    A 1×1 projection, a gate of its channels at each pixel, a 3×3 convolution. The gate is a squeeze and
    excitation without the squeeze: nothing is pooled, so each pixel weighs its own channels. ``gated=False`` leaves
    it out, to see what it is worth.

    Shapes:
        features: (N, in_channels, H, W) float; returns (N, channels, H, W), not negative.
    """

    def __init__(
        self, in_channels: int, channels: int, reduction: int = 16, dropout: float = 0.1, gated: bool = True
    ) -> None:
        super().__init__()
        narrow = max(1, channels // reduction)
        self.project = nn.Conv2d(in_channels, channels, 1)
        gate = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, channels, 1), nn.Sigmoid())
        self.gate = gate if gated else None
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Tensor) -> Tensor:
        projected = self.project(features)
        gated = projected if self.gate is None else projected * self.gate(projected)
        out: Tensor = self.dropout(F.relu(self.norm(self.conv(gated))))
        return out


class DepthCAR(nn.Module):
    """Depth-guided cross attention and refinement: fuses colour and depth features of equal shape.

    Depth asks, colour answers: the queries and the residual stream are depth, the keys and values are
    colour. The refinement is the same layer once more, with the result asking itself. There is no
    positional encoding; a token is a pixel of the map. ``refined=False`` leaves the refinement out, to see what it is
    worth.

    Shapes:
        rgb, depth: (N, channels, H, W) float; returns (N, channels, H, W).
    """

    def __init__(self, channels: int, heads: int, ratio: int = 4, dropout: float = 0.1, refined: bool = True) -> None:
        super().__init__()
        self.cross = AttentionLayer(channels, heads, ratio, dropout)
        refine = AttentionLayer(channels, heads, ratio, dropout)
        self.refine = refine if refined else None  # made in any case: the same seed gives the rest the same start

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        colour_tokens = rgb.flatten(2).transpose(1, 2)  # (N, HW, C)
        depth_tokens = depth.flatten(2).transpose(1, 2)
        fused = self.cross(depth_tokens, colour_tokens)
        fused = fused if self.refine is None else self.refine(fused, fused)
        out: Tensor = fused.transpose(1, 2).reshape(depth.shape)
        return out


class DilatedStack(nn.Module):
    """Two 3×3 convolutions with dilations 2 and 4, each with batch norm and ReLU: context beyond neighbours.

    Other ``dilations`` than the paper's are there to see what they are worth.

    Shapes:
        features: (N, in_channels, H, W) float; returns (N, channels, H, W), not negative.
    """

    def __init__(self, in_channels: int, channels: int, dilations: tuple[int, int] = (2, 4)) -> None:
        super().__init__()
        first, second = dilations
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=first, dilation=first)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=second, dilation=second)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        features = F.relu(self.norm1(self.conv1(features)))
        return F.relu(self.norm2(self.conv2(features)))


def gather(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Feature maps of several scales as one: resized to ``size`` and put behind each other in channels.

    Bilinear between pixel centres, not antialiased (the paper's network was trained that way).

    Shapes:
        maps: (N, C_i, H_i, W_i) float each; size: (H, W); returns (N, sum of C_i, H, W).
    """
    height, width = size
    resized = [F.interpolate(m, size=(height, width), mode="bilinear", align_corners=False) for m in maps]
    return torch.cat(resized, dim=1)


class AttentionLayer(nn.Module):
    """A transformer layer, normalised after each residual sum (post-norm), that reads another sequence.

    Shapes:
        asking: (N, L, channels) float, source of queries and residual stream;
        answering: (N, M, channels) float, source of keys and values; returns (N, L, channels).
    """

    def __init__(self, channels: int, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(channels, heads, dropout)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, ratio * channels), nn.GELU(), nn.Linear(ratio * channels, channels)
        )
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, asking: Tensor, answering: Tensor) -> Tensor:
        attended = self.norm1(asking + self.dropout(self.attention(asking, answering)))
        out: Tensor = self.norm2(attended + self.dropout(self.mlp(attended)))
        return out


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., arXiv:1706.03762, section 3.2.2).

    ``project`` holds the query, key and value projections on top of each other, as checkpoints of
    PyTorch's own module do; that module takes another code path in eval, which doesn't export.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels can't be shared out to {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.project = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, asking: Tensor, answering: Tensor) -> Tensor:
        weights, biases = self.project.weight.chunk(3), self.project.bias.chunk(3)
        query, key, value = (
            self._split(F.linear(tokens, weight, bias))
            for tokens, weight, bias in zip((asking, answering, answering), weights, biases, strict=True)
        )
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        """(N, L, C) as (N, heads, L, C / heads)."""
        count, length, channels = tokens.shape
        return tokens.reshape(count, length, self.heads, channels // self.heads).transpose(1, 2)

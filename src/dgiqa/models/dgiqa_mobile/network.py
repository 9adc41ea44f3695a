"""DGIQA at phone size: the paper's blocks on small trunks.

After Ramesh et al., arXiv:2505.24002: bridges, depth-guided attention and the dilated stack are the paper's, at
small width. What differs, and why: MobileNetV2 looks at colour and a trunk of four strided stages at depth; maps
are gathered by averaging over cells instead of picking single points, because noise and blur live in the texture
between the points; the dilated stack also sees the colour map itself, because a small depth network is too rough
to carry the whole residual stream; the head reads mean and deviation over the map, for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models.dgiqa.blocks import DepthCAR, DilatedStack, TransformerCNNBridge
from dgiqa.models.dgiqa_mobile.mobilenet import TAPS, MobileNetV2

#: Channels of the four stages of the depth trunk, strides 4, 8, 16, 32.
DEPTH_STAGES = (16, 24, 48, 96)
#: Channels of the four bridges.
BRIDGES = (16, 24, 48, 104)


class DepthTrunk(nn.Module):
    """Four stages of strided separable convolutions over the depth map.

    Shapes:
        (N, 1, H/4, W/4) float in -1..1; returns maps at strides 4, 8, 16, 32 of the picture.
    """

    def __init__(self, stages: Sequence[int] = DEPTH_STAGES) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(1, stages[0], 1)]
        layers += [_stage(a, b) for a, b in pairwise(stages)]
        self.stages = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _convolution(inputs: int, outputs: int, stride: int, groups: int = 1, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(inputs, inputs, 2, groups=inputs),
        _convolution(inputs, outputs, 1, kernel=1),
        _convolution(outputs, outputs, 1, groups=outputs),
        _convolution(outputs, outputs, 1, kernel=1),
    )


class DGIQAMobile(nn.Module):
    """uint8 colour and depth to a score.

    Shapes:
        color: (V, H, W, 3) uint8 sRGB; depth: (V, H, W) uint8, 255 nearest; H and W multiples of 32.
        Returns (V,) float32 in 0..1, higher is better.
    """

    def __init__(self, heads: int = 8, ratio: int = 2) -> None:
        super().__init__()
        width = sum(BRIDGES)
        self.color_trunk = MobileNetV2()
        self.depth_trunk = DepthTrunk()
        self.color_bridges = _bridges(TAPS.values())
        self.depth_bridges = _bridges(DEPTH_STAGES)
        self.depth_car = DepthCAR(width, heads, ratio)
        self.dilated = DilatedStack(2 * width, width)
        self.score = nn.Linear(2 * width, 1)

    def forward(self, color: Tensor, depth: Tensor) -> Tensor:
        x = color.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return self.fuse(self.color_trunk(x), quarter_depth(depth))

    def fuse(self, color_maps: Sequence[Tensor], depth: Tensor) -> Tensor:
        """The score of the colour trunk's four maps and of a depth map (N, 1, H/4, W/4) in -1..1."""
        color = _gather(self.color_bridges, color_maps)  # (N, width, H/32, W/32)
        near = _gather(self.depth_bridges, self.depth_trunk(depth))
        fused = self.depth_car(color, near)
        x = self.dilated(torch.cat([fused, color], 1))
        mean = x.mean((2, 3))
        deviation = ((x - mean[:, :, None, None]).square().mean((2, 3)) + 1e-6).sqrt()
        out: Tensor = self.score(torch.cat([mean, deviation], 1))
        return out.sigmoid()[:, 0]


def quarter_depth(depth: Tensor) -> Tensor:
    """(V, H, W) uint8 to (V, 1, H/4, W/4) float in -1..1, each cell's mean."""
    return F.avg_pool2d(depth[:, None].float(), 4) / 127.5 - 1.0


def _bridges(inputs: Iterable[int]) -> nn.ModuleList:
    """A bridge per scale; the gate is narrowed by 4, not the paper's 16, which would leave it one channel."""
    return nn.ModuleList([TransformerCNNBridge(i, c, reduction=4) for i, c in zip(inputs, BRIDGES, strict=True)])


def _gather(bridges: nn.ModuleList, maps: Sequence[Tensor]) -> Tensor:
    """The bridges' maps averaged over the cells of stride 32, behind each other."""
    cells = (8, 4, 2, 1)
    pooled = [
        F.avg_pool2d(bridge(m), cell) if cell > 1 else bridge(m)
        for bridge, m, cell in zip(bridges, maps, cells, strict=True)
    ]
    return torch.cat(pooled, 1)


def build(card: ModelCard) -> nn.Module:
    """The network that ``card`` describes, without weights."""
    return DGIQAMobile(**card.settings)

"""A small monocular depth network: MobileNetV2 up to stride 16, a light decoder, inverse depth out.

Our own design. The trunk keeps its ImageNet weights, so that what the decoder learns on rendered scenes carries
over to photographs; the decoder joins three scales, with the row's height as an input (in most photographs
what stands lower is nearer) and the map's mean as context.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models.trunks.mobilenet import MobileNetV2


class Separable(nn.Module):
    """Depthwise 3×3 and pointwise convolution, each with batch norm, ReLU after."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class Decoder(nn.Module):
    """Trunk maps at strides 4, 8, 16 to inverse depth at stride 4.

    Shapes:
        (N, 24, 4h, 4w), (N, 32, 2h, 2w), (N, 96, h, w) to (N, 4h, 4w).
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.coarse = nn.Sequential(nn.Conv2d(97, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.context = nn.Linear(width, width)
        self.widen = nn.ModuleList([Separable(width, width, dilation) for dilation in (1, 2, 4)])
        self.lateral8 = nn.Sequential(nn.Conv2d(32, width, 1, bias=False), nn.BatchNorm2d(width))
        self.refine8 = nn.Sequential(Separable(width, width), Separable(width, width // 2))
        self.lateral4 = nn.Sequential(nn.Conv2d(24, width // 2, 1, bias=False), nn.BatchNorm2d(width // 2))
        self.refine4 = Separable(width // 2, width // 3)
        self.head = nn.Conv2d(width // 3, 1, 3, padding=1)

    def forward(self, quarter: Tensor, eighth: Tensor, sixteenth: Tensor) -> Tensor:
        x = self.coarse(torch.cat([sixteenth, _rows(sixteenth)], 1))
        x = x + self.context(x.mean((2, 3)))[:, :, None, None]
        for layer in self.widen:
            x = x + layer(x)
        x = self.refine8(F.relu(_double(x) + self.lateral8(eighth)))
        x = self.refine4(F.relu(_double(x) + self.lateral4(quarter)))
        y: Tensor = self.head(x)[:, 0]
        return y


def _rows(x: Tensor) -> Tensor:
    """(N, 1, H, W): height in the picture, from -1 at the top to 1 at the bottom."""
    ones = torch.ones_like(x[:, :1])
    position = ones.cumsum(2) - 0.5 * ones
    return 2 * position / x.shape[2] - 1


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class DepthMobile(nn.Module):
    """uint8 colour to relative inverse depth (larger is nearer).

    Shapes:
        (V, H, W, 3) uint8, H and W multiples of 32; returns (V, H/4, W/4) float32.
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.trunk = MobileNetV2(last=13)
        self.decoder = Decoder(width)

    def forward(self, color: Tensor) -> Tensor:
        x = color.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        depth: Tensor = self.decoder(*self.trunk(x))
        return depth


def build(card: ModelCard) -> nn.Module:
    """The network that ``card`` describes, without weights."""
    return DepthMobile(**card.settings)

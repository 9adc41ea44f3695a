"""MobileNetV2 with batch norm folded away, features at four scales.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381, table 2. The
ImageNet weights it starts from were trained in TensorFlow, so stride-2 convolutions pad as TensorFlow's
'same' does: nothing before, one pixel after (sides must be even).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: (expansion, channels, repeats, stride) of each stage, table 2 of the paper.
PLAN = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
#: Last block (counted from 1) before each halving of the map, and its channels: strides 4, 8, 16, 32.
TAPS = {3: 24, 6: 32, 13: 96, 17: 320}


class ConvReLU6(nn.Module):
    """Convolution, TensorFlow 'same' padding, ReLU6 unless ``linear``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
        self.after = (0, 1, 0, 1) if stride == 2 else None
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        if self.after is not None:
            x = F.pad(x, self.after)
        x = self.conv(x)
        return x if self.linear else F.relu6(x)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the sum with the input where shapes agree (section 3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        layers = [] if expansion == 1 else [ConvReLU6(inputs, middle, 1)]
        layers += [
            ConvReLU6(middle, middle, 3, stride, groups=middle),
            ConvReLU6(middle, outputs, 1, linear=True),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """The trunk up to block ``last`` (17 is all of it), without the classifier.

    Shapes:
        (N, 3, H, W) float in -1..1, H and W multiples of 32; returns the maps of the taps up to ``last``:
        (N, 24, H/4, W/4), (N, 32, H/8, W/8), (N, 96, H/16, W/16), (N, 320, H/32, W/32).
    """

    def __init__(self, last: int = 17) -> None:
        super().__init__()
        self.stem = ConvReLU6(3, 32, 3, stride=2)
        blocks: list[nn.Module] = []
        inputs = 32
        for expansion, outputs, repeats, stride in PLAN:
            for repeat in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, stride if repeat == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks[:last])

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.from_block(self.stem(x), 1)

    def from_block(self, x: Tensor, first: int) -> list[Tensor]:
        """The taps of blocks ``first`` and later, from the input of block ``first`` (counted from 1)."""
        maps = []
        for number, block in enumerate(self.blocks, 1):
            if number >= first:
                x = block(x)
                if number in TAPS:
                    maps.append(x)
        return maps


def load_imagenet(trunk: MobileNetV2, arrays: Mapping[str, np.ndarray]) -> None:
    """Puts the folded ImageNet weights, convolutions ``conv00`` to ``conv51`` in forward order, into ``trunk``."""
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for i, conv in enumerate(convolutions):
            conv.weight.copy_(torch.from_numpy(arrays[f"conv{i:02d}.weight"].astype(np.float32)))
            assert conv.bias is not None
            conv.bias.copy_(torch.from_numpy(arrays[f"conv{i:02d}.bias"].astype(np.float32)))


class FrozenMobileNetV2(MobileNetV2):
    """The trunk of the small networks, from pixels on: frozen, so that its maps are computed once of each picture.

    Shapes:
        (V, H, W, 3) uint8 sRGB, H and W multiples of 32; returns the maps at strides 8, 16 and 32:
        (V, 32, H/8, W/8), (V, 96, H/16, W/16), (V, 320, H/32, W/32) float.
    """

    #: Channels of the maps.
    CHANNELS = (32, 96, 320)

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)

    def forward(self, color: Tensor) -> list[Tensor]:
        return self.of_floats(color.permute(0, 3, 1, 2).float() / 255)

    def of_floats(self, rgb: Tensor) -> list[Tensor]:
        """The same of (V, 3, H, W) floats in 0..1, differentiable by them."""
        return super().forward(2 * rgb - 1)[1:]

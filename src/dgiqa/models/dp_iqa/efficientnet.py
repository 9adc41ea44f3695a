"""EfficientNet-B7, the last map.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946, table 1 with
twice the width and 3.1 times the depth. State names are torchvision's (``features.1.0.block.0.0``…), and so is the
padding: as much before as after.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.models.dgiqa.swin import DropPath
from dgiqa.models.dgiqa_mobile.efficientnet import PLAN

#: What B7 multiplies B0's channels and repeats by.
WIDER, DEEPER = 2, 3.1
#: Channels of the last map.
CHANNELS = 2560
#: Rate at which the last block is dropped in training; it rises linearly from 0.
DROP = 0.2


class EfficientNetB7(nn.Module):
    """The trunk without the classifier.

    Shapes:
        (N, 3, H, W) float, H and W multiples of 32; returns (N, 2560, H/32, W/32).
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = 32 * WIDER
        repeats = [math.ceil(DEEPER * stage[4]) for stage in PLAN]
        features = nn.Sequential(ConvNorm(3, inputs, 3, 2))
        done = 0
        for (kernel, stride, expansion, channels, _), count in zip(PLAN, repeats, strict=True):
            stage = nn.Sequential()
            for block in range(count):
                outputs = WIDER * channels
                drop = DROP * done / sum(repeats)
                stage.append(MBConv(inputs, outputs, kernel, 1 if block else stride, expansion, drop))
                inputs, done = outputs, done + 1
            features.append(stage)
        features.append(ConvNorm(inputs, CHANNELS, 1))
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.features(x)
        return out


class MBConv(nn.Module):
    """Expand, filter each channel, squeeze and excite, project; the sum with the input where shapes agree.

    Shapes:
        (N, inputs, H, W) to (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int = 6, drop: float = 0.0
    ) -> None:
        super().__init__()
        middle = inputs * expansion
        self.block = nn.Sequential()
        if expansion != 1:
            self.block.append(ConvNorm(inputs, middle, 1))
        self.block.append(ConvNorm(middle, middle, kernel, stride, groups=middle))
        self.block.append(SqueezeExcitation(middle, max(1, inputs // 4)))
        self.block.append(ConvNorm(middle, outputs, 1, linear=True))
        self.drop = DropPath(drop)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + self.drop(y) if self.residual else y


class SqueezeExcitation(nn.Module):
    """Channels weighed by what their means say (Hu et al., arXiv:1709.01507). Keeps the shape."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        weights: Tensor = self.fc2(F.silu(self.fc1(means))).sigmoid()
        return x * weights


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, SiLU unless ``linear``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        super().__init__(conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01), *[] if linear else [nn.SiLU()])

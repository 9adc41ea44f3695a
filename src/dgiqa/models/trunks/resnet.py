"""ResNet-50, features at four scales.

He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1; with the stride in the 3×3
convolution, as the released ImageNet weights have it. State names are torchvision's and timm's (``layer1.0.conv1``…).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

#: Bottlenecks of each stage.
BLOCKS = (3, 4, 6, 3)
#: Channels of the four maps, at strides 4, 8, 16 and 32.
CHANNELS = (256, 512, 1024, 2048)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1, each with batch norm; the sum with the input, projected where shapes differ (figure 5)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        projected = inputs != outputs or stride != 1
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if projected
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """The trunk; with ``classes`` also the classifier, for the papers that read its logits.

    Shapes:
        (N, 3, H, W) float; returns the maps of the four stages: (N, 256, H/4, W/4), (N, 512, H/8, W/8),
        (N, 1024, H/16, W/16), (N, 2048, H/32, W/32).
    """

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for number, (count, outputs) in enumerate(zip(BLOCKS, CHANNELS, strict=True), 1):
            stage = nn.Sequential()
            for block in range(count):
                stage.append(Bottleneck(inputs, outputs // 4, 2 if number > 1 and block == 0 else 1))
                inputs = outputs
            self.add_module(f"layer{number}", stage)
        self.fc = nn.Linear(inputs, classes) if classes else None

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps

    def logits(self, x: Tensor) -> Tensor:
        """(N, classes) of (N, 3, H, W)."""
        if self.fc is None:
            raise ValueError("this trunk was built without a classifier")
        out: Tensor = self.fc(self(x)[-1].mean((2, 3)))
        return out

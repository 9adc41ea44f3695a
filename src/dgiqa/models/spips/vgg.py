"""VGG-16's convolutions, features after five of them.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556, table 1,
column D. State names are torchvision's (``features.0``…), without the classifier.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.models.dgiqa.network import Normalise

#: Channels of the convolutions of each block; a halving of the map lies between blocks.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """The trunk, frozen, from pixels on.

    Shapes:
        (N, H, W, 3) uint8 sRGB; returns what follows the last convolution of each block, after ReLU:
        (N, 64, H, W), (N, 128, H/2, W/2), (N, 256, H/4, W/4), (N, 512, H/8, W/8), (N, 512, H/16, W/16).
    """

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.features = nn.ModuleDict()
        inputs, number = 3, 0
        for block in BLOCKS:
            for outputs in block:
                self.features[str(number)] = nn.Conv2d(inputs, outputs, 3, padding=1)
                inputs, number = outputs, number + 2  # a ReLU has a number, too
            number += 1  # and so has the pooling
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x, maps = self.normalise(pixels), []
        convolutions = iter(self.features.values())
        for number, block in enumerate(BLOCKS):
            x = F.max_pool2d(x, 2) if number else x
            for _ in block:
                x = F.relu(next(convolutions)(x))
            maps.append(x)
        return maps

"""SPIPS: five maps of where a picture differs from its original, weighed, to one score.

Lao, Yu, "Scene Perceived Image Perceptual Score (SPIPS): combining global and local perception for image quality
assessment", arXiv:2504.17234. Traditional maps and those of a pretrained network's early (perceptual) and late
(semantic) layers; features of each map; their weighted sum; a perceptron.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models.spips.maps import compare
from dgiqa.models.spips.vgg import VGG16
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2

#: Maps of :func:`dgiqa.models.spips.maps.compare`.
MAPS = 5
#: How many of the trunk's layers are early ones: all but the last two.
LATE = 2


class SPIPS(nn.Module):
    """A picture and its original to a score.

    Shapes:
        color, reference: (V, H, W, 3) uint8 sRGB, H and W multiples of 32.
        Returns (V,) float32 in 0..1: 1 where both are equal, one half at the distance ``scale``.
    """

    scale: Tensor

    def __init__(self, *, size: Literal["paper", "mobile"] = "paper") -> None:
        super().__init__()
        if size not in ("paper", "mobile"):
            raise ValueError(f"size is paper or mobile, not {size!r}")
        self.trunk: VGG16 | FrozenMobileNetV2 = VGG16() if size == "paper" else FrozenMobileNetV2()
        self.judge = Judge(width=64 if size == "paper" else 32)
        # One number, as the ranking that trains the distance leaves its unit open.
        self.register_buffer("scale", torch.ones(1))

    def forward(self, color: Tensor, reference: Tensor) -> Tensor:
        return self.score(self.judge(self.compare(color, reference)))

    def compare(self, color: Tensor, reference: Tensor) -> Tensor:
        """(V, 5, H/8, W/8) float, the five maps."""
        x, y = (pixels.permute(0, 3, 1, 2).float() / 255 for pixels in (color, reference))
        layers = [layer.chunk(2) for layer in self._look(torch.cat([color, reference]))]
        pairs = [(of_x, of_y) for of_x, of_y in layers]
        return compare(x, y, pairs[:-LATE], pairs[-LATE:])

    def score(self, distance: Tensor) -> Tensor:
        """(V,) 0..1 of distances, 0 and more."""
        return self.scale / (self.scale + distance)

    def _look(self, pixels: Tensor) -> list[Tensor]:
        """All layers of the trunk, the earliest first."""
        if isinstance(self.trunk, VGG16):
            layers: list[Tensor] = self.trunk(pixels)
            return layers
        rgb = pixels.permute(0, 3, 1, 2).float() / 255
        return self.trunk.from_block(self.trunk.stem(2 * rgb - 1), 1)


class Judge(nn.Module):
    """The five maps to a distance: features of each map by itself, their weighted sum, a perceptron.

    Nothing has a bias and what is left is not negative, so equal pictures have the distance 0 whatever was learnt.

    Shapes:
        (V, 5, h, w) float, 0 where equal; returns (V,) float, 0 and more.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.width = width
        self.extract = nn.Sequential(
            nn.Conv2d(MAPS, MAPS * width, 3, 2, 1, groups=MAPS, bias=False),
            nn.ReLU(),
            nn.Conv2d(MAPS * width, MAPS * width, 3, 2, 1, groups=MAPS, bias=False),
            nn.ReLU(),
        )
        self.weights = nn.Parameter(torch.zeros(MAPS))
        self.mlp = nn.Sequential(
            nn.Linear(2 * width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, hidden, bias=False), nn.ReLU()
        )
        self.output = nn.Linear(hidden, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        found = self.extract(maps)
        # The whole picture's mean, and the worst place.
        features = torch.stack([found.mean((2, 3)), found.amax((2, 3))], 1)  # (V, 2, 5 · width)
        each = features.reshape(-1, 2, MAPS, self.width).transpose(1, 2).flatten(2)  # (V, 5, 2 · width)
        fused = (self.weights.softmax(0).reshape(1, MAPS, 1) * each).sum(1)
        return F.linear(self.mlp(fused), self.output.weight.abs()).squeeze(1)


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return SPIPS(**card.settings)

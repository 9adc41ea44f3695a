"""CONTRIQUE: a frozen encoder sees the picture at two scales, and a ridge regression makes a score of what it saw.

Madhusudana, Birkbeck, Wang, Adsumilli, Bovik, "Image Quality Assessment using Contrastive Learning", IEEE Transactions
on Image Processing 2022, arXiv:2110.13266, section III. The encoder learned to tell distortions apart, without ratings
(:mod:`dgiqa.training.systems.contrique_encoder`); ratings fit the regression alone. With an original, the regression
sees how far the features of the two pictures are apart.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.models.trunks.resnet import CHANNELS, ResNet50

#: A picture alone (no reference), or with its original (full reference).
Part = Literal["nr", "fr"]
#: What the ratings say that the regression was fitted to: quality, or the loss of it (difference mean opinion scores).
Labels = Literal["mos", "dmos"]
#: Features of one scale.
FEATURES = {"paper": CHANNELS[-1], "mobile": sum(FrozenMobileNetV2.CHANNELS)}


class Contrique(nn.Module):
    """A picture, or a picture and its original, to a score.

    Shapes:
        color, reference: (V, H, W, 3) uint8 sRGB, at least 64 × 64; of the small network H and W multiples of 64.
        Returns (V,) float32 in the units of the ratings, higher is better.
    """

    def __init__(
        self, *, part: Part = "nr", size: Literal["paper", "mobile"] = "paper", labels: Labels = "mos"
    ) -> None:
        super().__init__()
        if part not in get_args(Part) or size not in FEATURES or labels not in get_args(Labels):
            raise ValueError("part is nr or fr, size paper or mobile, labels mos or dmos")
        self.compares = part == "fr"
        self.sign = 1 if labels == "mos" else -1
        self.encoder: ResNet50 | None = None
        self.trunk: FrozenMobileNetV2 | None = None
        if size == "paper":
            self.encoder = ResNet50().requires_grad_(False)
        else:
            self.trunk = FrozenMobileNetV2()
        self.ridge = nn.Linear(2 * FEATURES[size], 1)

    def forward(self, color: Tensor, reference: Tensor | None = None) -> Tensor:
        if self.compares != (reference is not None):
            raise ValueError("part = 'fr' compares with a reference" if self.compares else "part = 'nr' has none")
        if reference is None:
            return self.judge(self.look(color))
        seen, original = self.look(torch.cat([color, reference])).chunk(2)
        return self.judge((original - seen).abs())

    def look(self, color: Tensor) -> Tensor:
        """(V, 2 FEATURES) float: the means of the maps at full and at half size, each of length 1."""
        pixels = color.permute(0, 3, 1, 2).float()
        both = (self._mean(pixels / 255), self._mean(halve(pixels) / 255))
        return torch.cat([F.normalize(features, dim=1) for features in both], 1)

    def judge(self, features: Tensor) -> Tensor:
        """(V,) the score of features, or of their distance from the original's."""
        out: Tensor = self.sign * self.ridge(features).squeeze(1)
        return out

    def _mean(self, rgb: Tensor) -> Tensor:
        """(V, FEATURES) of (V, 3, H, W) in 0..1, which neither encoder gets normalised."""
        if self.trunk is not None:
            return torch.cat([maps.mean((2, 3)) for maps in self.trunk.of_floats(rgb)], 1)
        assert self.encoder is not None
        out: Tensor = self.encoder(rgb)[-1].mean((2, 3))
        return out


def halve(pixels: Tensor) -> Tensor:
    """A picture at half its size as Pillow's bicubic filter makes it: antialiased, each of the two passes rounded.

    Shapes:
        pixels: (V, C, H, W) float, whole numbers 0..255; returns (V, C, H // 2, W // 2), the same. An odd side's last
        row or column is left out.
    """
    height, width = pixels.shape[2] // 2 * 2, pixels.shape[3] // 2 * 2
    across = _filter(pixels[:, :, :height, :width], _TAPS.reshape(1, 1, 1, -1))
    return _filter(across, _TAPS.reshape(1, 1, -1, 1))


def _filter(pixels: Tensor, taps: Tensor) -> Tensor:
    """Every second weighted mean along one axis; weights beyond the border are shared out among those within."""
    taps = taps.to(pixels.device)
    across = taps.shape[3] > 1
    count, channels, height, width = pixels.shape
    rows = pixels.reshape(count * channels, 1, height, width)
    line = torch.ones_like(rows[:1, :, :1] if across else rows[:1, :, :, :1])  # one for all: the border is straight
    stride, padding = ((1, 2), (0, 3)) if across else ((2, 1), (3, 0))
    within = F.conv2d(line, taps, stride=stride, padding=padding)
    means = F.conv2d(rows, taps, stride=stride, padding=padding) / within
    rounded = (means + 0.5).floor().clamp(0, 255)
    return rounded.reshape(count, channels, *rounded.shape[2:])


def _bicubic() -> Tensor:
    """(8,) weights of the pixels about a new one, of the cubic with a = -0.5, stretched to twice its width."""
    x = (torch.arange(8, dtype=torch.float64) - 3.5).abs() / 2
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x < 1, near, far)
    return (weights / weights.sum()).float()


_TAPS = _bicubic()


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return Contrique(**card.settings)

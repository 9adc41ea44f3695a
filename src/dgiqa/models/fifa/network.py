"""FiFA: the landmarks of a face, from the tokens of a transformer and an anti-aliased hourglass.

Kar et al., "Fiducial Focus Augmentation for Facial Landmark Detection", arXiv:2402.15044 (BMVC 2023). The paper's parts
are ViT-B/16, an hourglass with anti-aliased pooling, an FF-Parser and heat maps; how they are joined is this project's
reading: the tokens, brought to the heat maps' size, are added to a convolutional map, filtered by frequency, and go
through the hourglass. What the paper is about, squares on the landmarks and two views that must agree, is training:
:mod:`dgiqa.training.systems.fifa`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models import of_size
from dgiqa.models.dgiqa.network import Normalise
from dgiqa.models.fifa.blocks import BlurPool, FrequencyFilter, Hourglass, Places, Residual
from dgiqa.models.trunks.mobilenet import MobileNetV2
from dgiqa.models.trunks.vit import ViT

#: Side of the view in pixels.
SIDE = 256
#: Number of landmarks where a card doesn't say: iBUG 300-W has 68, WFLW 98, COFW 29.
LANDMARKS = 68


class Heat(nn.Module):
    """A convolutional map and tokens to a heat map of each landmark.

    Shapes:
        map: (N, width, side, side); tokens: (N, 1 + t², channels), the class token first; returns (N, K, side, side).
    """

    def __init__(self, *, width: int, side: int, channels: int, levels: int, landmarks: int) -> None:
        super().__init__()
        self.side = side
        self.from_tokens = nn.Conv2d(channels, width, 1)
        self.filter = FrequencyFilter(width, side)
        self.hourglass = Hourglass(width, levels)
        self.last = nn.Sequential(Residual(width, width), nn.BatchNorm2d(width), nn.ReLU())
        self.heat = nn.Conv2d(width, landmarks, 1)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        count = round((tokens.shape[1] - 1) ** 0.5)
        seen = self.from_tokens(tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, count, count))
        seen = F.interpolate(seen, size=(self.side, self.side), mode="bilinear", align_corners=False)
        out: Tensor = self.heat(self.last(self.hourglass(self.filter(x + seen))))
        return out


class FiFA(nn.Module):
    """The paper's size.

    Shapes:
        color: (V, 256, 256, 3) uint8 sRGB, a face; returns (V, K, 2) float32, x and y as shares of the view, 0..1.
    """

    def __init__(self, landmarks: int = LANDMARKS, width: int = 256) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.vit = ViT(size=SIDE)
        # The stem of Newell et al., section 3.1, with blur pooling: a quarter of the picture's size.
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), Residual(64, 128), BlurPool(128),
            Residual(128, 128), Residual(128, width),
        )  # fmt: skip
        self.head = Heat(width=width, side=SIDE // 4, channels=768, levels=4, landmarks=landmarks)
        self.places = Places(SIDE // 4)

    def forward(self, color: Tensor) -> Tensor:
        x = self.normalise(color)
        out: Tensor = self.places(self.head(self.stem(x), self.vit(x)))
        return out


class SmallFiFA(nn.Module):
    """The small size: a frozen MobileNetV2 up to block 13 in the place of the stem, and few, narrow tokens of its map.

    Shapes: as :class:`FiFA`.
    """

    def __init__(self, landmarks: int = LANDMARKS, width: int = 48) -> None:
        super().__init__()
        self.trunk = MobileNetV2(13)
        self.trunk.requires_grad_(False)
        self.judge = SmallHead(landmarks, width)

    def forward(self, color: Tensor) -> Tensor:
        out: Tensor = self.judge(self.look(color))
        return out

    def look(self, color: Tensor) -> list[Tensor]:
        """The frozen trunk's maps: (V, 32, 32, 32) and (V, 96, 16, 16)."""
        maps: list[Tensor] = self.trunk(color.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return maps[1:]


class SmallHead(nn.Module):
    """What of the small network is trained: maps to places.

    Shapes:
        maps: (N, 32, 32, 32) and (N, 96, 16, 16); returns (N, K, 2).
    """

    def __init__(self, landmarks: int, width: int, tokens: int = 96) -> None:
        super().__init__()
        self.shrink = BlurPool(96)
        self.vit = ViT(size=8, patch=1, inputs=96, width=tokens, depth=3, heads=4)
        self.fine, self.coarse = nn.Conv2d(32, width, 1), nn.Conv2d(96, width, 1)
        self.head = Heat(width=width, side=SIDE // 8, channels=tokens, levels=3, landmarks=landmarks)
        self.places = Places(SIDE // 8)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.places(self.heat(maps, self.describe(maps)))
        return out

    def describe(self, maps: Sequence[Tensor]) -> Tensor:
        """(N, 65, 96) tokens of the whole face: what two views of one face shall agree in."""
        out: Tensor = self.vit(self.shrink(maps[1]))
        return out

    def heat(self, maps: Sequence[Tensor], tokens: Tensor) -> Tensor:
        """(N, K, 32, 32) heat maps, before the softmax."""
        coarse = F.interpolate(self.coarse(maps[1]), scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.head(self.fine(maps[0]) + coarse, tokens)
        return out


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights. Settings: ``landmarks``, and ``size``, which may be ``mobile``."""
    return of_size(card, FiFA, SmallFiFA)

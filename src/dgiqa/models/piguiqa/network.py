"""PIGUIQA: the quality of an underwater picture, by what the water did to it.

Xian et al., "PIGUIQA: A Physical Imaging Guided Perceptual Framework for Underwater Image Quality Assessment",
arXiv:2412.15527. An imaging model finds the water, each patch gets what it lost and what was added, a local module with
neighbourhood attention compares patches with their neighbours, and a ResNet reads the picture and these maps together.

    color → light → ImagingModel → T, B → distortion_maps → LocalModule ─┐
      └─────────────────────────────────────────────────────────────────┴→ ResNet → score
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models import of_size
from dgiqa.models.dgiqa.network import Normalise
from dgiqa.models.piguiqa.imaging import MAPS, ImagingModel, Water, distortion_maps, to_linear
from dgiqa.models.piguiqa.neighbourhood import LocalModule
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.models.trunks.resnet import CHANNELS, Bottleneck, ResNet50

#: Side of the views, in pixels.
SIDE = 384
#: Channels of the imaging model's own encoder, at strides 2, 4, 8 and 16.
ENCODER = (32, 64, 128, 256)
#: Side of a patch in pixels, at the paper's size and the small one.
PATCH, SMALL_PATCH = 16, 32
#: The small network's picture is of cells of that many pixels.
CELL = 8


class PIGUIQA(nn.Module):
    """The network at the paper's size.

    Shapes:
        color: (V, 384, 384, 3) uint8 sRGB; returns (V,) float32 in 0..1, higher is better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(ENCODER)
        self.imaging = ImagingModel(ENCODER, 64)
        self.local = LocalModule(MAPS, 128, MAPS, depth=4, heads=4, side=SIDE // PATCH, window=7)
        self.normalise = Normalise()
        self.trunk = ResNet50()
        self.trunk.conv1 = nn.Conv2d(3 + MAPS, 64, 7, 2, 3, bias=False)  # the picture, then the maps
        self.head = Head(CHANNELS[-1], 512)

    def forward(self, color: Tensor) -> Tensor:
        light = to_linear(color)
        maps = self.local(distortion_maps(light, self.water(light), PATCH))
        spread = F.interpolate(maps, size=light.shape[2:], mode="bilinear", align_corners=False)
        out: Tensor = self.head(self.trunk(torch.cat([self.normalise(color), spread], 1))[-1])
        return out

    def water(self, light: Tensor) -> Water:
        """(V, 3, 384, 384) linear light to its water, by pixel."""
        water: Water = self.imaging(light, self.encoder(light))
        return water


class SmallPIGUIQA(nn.Module):
    """The same on a frozen trunk: its maps stand in for the encoder's, and for most of the ResNet's stages.

    Shapes: as :class:`PIGUIQA`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FrozenMobileNetV2()
        self.judge = Judge()

    def forward(self, color: Tensor) -> Tensor:
        out: Tensor = self.judge(self.trunk(color), cells_of(color))
        return out


class Judge(nn.Module):
    """What is trained of the small network.

    Shapes:
        maps: the trunk's, (V, 32, 48, 48), (V, 96, 24, 24), (V, 320, 12, 12) float;
        light: (V, 3, 48, 48) as :func:`cells_of` gives it. Returns (V,) in 0..1.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = FrozenMobileNetV2.CHANNELS
        local, width = 32, 64
        self.imaging = ImagingModel((fine + middle, coarse), 32)
        self.local = LocalModule(MAPS, 64, local, depth=2, heads=4, side=SIDE // SMALL_PATCH, window=7)
        self.norm = nn.BatchNorm2d(fine + middle + coarse)
        self.stages = nn.Sequential(
            Bottleneck(fine + middle + coarse + local, width, 2), Bottleneck(4 * width, width, 1)
        )
        self.head = Head(4 * width, 128)

    def forward(self, maps: Sequence[Tensor], light: Tensor) -> Tensor:
        features = pair(maps)
        return self.score(features, self.distortions(features, light))

    def water(self, features: Sequence[Tensor], light: Tensor) -> Water:
        """The water of each cell; ``features`` as :func:`pair` gives them."""
        water: Water = self.imaging(light, features)
        return water

    def distortions(self, features: Sequence[Tensor], light: Tensor) -> Tensor:
        """(V, 6, 12, 12) in 0..1: what the water did to each patch."""
        return distortion_maps(light, self.water(features, light), SMALL_PATCH // CELL)

    def score(self, features: Sequence[Tensor], distortions: Tensor) -> Tensor:
        """(V,) of the trunk's two maps and the maps of distortion."""
        fine, coarse = features
        seen = self.norm(torch.cat([F.avg_pool2d(fine, 2), coarse], 1))
        out: Tensor = self.head(self.stages(torch.cat([seen, self.local(distortions)], 1)))
        return out


class Head(nn.Module):
    """The mean over places, a perceptron, a sigmoid. (N, channels, H, W) to (N,)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.layers(features.mean((2, 3))).squeeze(1)
        return out


class Encoder(nn.Module):
    """Features for the imaging model: two 3×3 convolutions a scale, the first halves it.

    Shapes:
        (N, 3, H, W) float, H and W multiples of 2 to the number of scales; returns each scale's map, fine to coarse.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(*_convolution(inputs, outputs, 2), *_convolution(outputs, outputs, 1))
            for inputs, outputs in zip((3, *channels), channels, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for scale in self.scales:
            x = scale(x)
            maps.append(x)
        return maps


def pair(maps: Sequence[Tensor]) -> list[Tensor]:
    """The trunk's three maps as two: those at strides 8 and 16 joined at the latter, and that at stride 32."""
    fine, middle, coarse = maps
    return [torch.cat([F.avg_pool2d(fine, 2), middle], 1), coarse]


def cells_of(color: Tensor) -> Tensor:
    """(V, H, W, 3) uint8 to (V, 3, H / 8, W / 8), the mean linear light of each cell."""
    return F.avg_pool2d(to_linear(color), CELL)


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return of_size(card, PIGUIQA, SmallPIGUIQA)


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()

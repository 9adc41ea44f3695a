"""DP-IQA's student: a convolutional network that learned scores and maps from a diffusion model's prior.

Fu et al., "DP-IQA: Utilizing Diffusion Prior for Blind Image Quality Assessment in the Wild", arXiv:2405.19996; widths
and order as the authors' released network has them. The teacher is in ``teacher.py``; it alone needs diffusers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.errors import RuntimeMissing
from dgiqa.models import of_size
from dgiqa.models.dp_iqa.efficientnet import CHANNELS, EfficientNetB7, MBConv
from dgiqa.models.trunks.maps import join
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2

#: Channels of the map that the student learns from the teacher.
MAP = 8
#: Side of that map at the paper's size, and width of the perceptron that reads it.
SIDE, HIDDEN = 64, 512
#: The same of the small networks.
SMALL_SIDE, SMALL_HIDDEN = 12, 128


class Student(nn.Module):
    """The paper's student: EfficientNet-B7 with a map and a score on top.

    Pixels go in as 0..1 and no further normalised, as the authors' do.

    Shapes:
        color: (V, 512, 512, 3) uint8 sRGB; returns (V,) float32, MOS scaled to 0..1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetB7()
        self.head = StudentHead(CHANNELS, SIDE, HIDDEN)

    def forward(self, color: Tensor) -> Tensor:
        return self.read(color)[0]

    def read(self, color: Tensor) -> tuple[Tensor, Tensor]:
        """The score and the map, (V,) and (V, 8, 64, 64)."""
        return self.head(self.trunk(scale(color)))  # type: ignore[no-any-return]


class SmallStudent(nn.Module):
    """The small student: a few convolutions of EfficientNet's kind on a frozen MobileNetV2's maps.

    Shapes:
        color: (V, 384, 384, 3) uint8 sRGB; returns (V,) float32, MOS scaled to 0..1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FrozenMobileNetV2()
        self.judge = StudentJudge()

    def forward(self, color: Tensor) -> Tensor:
        score: Tensor = self.judge(self.trunk(color))[0]
        return score


class StudentJudge(nn.Module):
    """All of the small student behind its trunk.

    Shapes:
        maps: (V, 32, 48, 48), (V, 96, 24, 24), (V, 320, 12, 12) float; returns the score and the map, (V,) and
        (V, 8, 12, 12).
    """

    def __init__(self, width: int = 80, deep: int = 128, expansion: int = 4) -> None:
        super().__init__()
        inputs = sum(FrozenMobileNetV2.CHANNELS)
        self.narrow = nn.Sequential(
            nn.BatchNorm2d(inputs, affine=False), nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        )
        self.blocks = nn.Sequential(
            MBConv(width, width, 3, 1, expansion), MBConv(width, deep, 5, 2, expansion), MBConv(deep, deep, 3, 1, 2)
        )
        self.head = StudentHead(deep, SMALL_SIDE, SMALL_HIDDEN)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return self.head(self.blocks(self.narrow(join(maps))))  # type: ignore[no-any-return]


class StudentHead(nn.Module):
    """A trunk's last map to the map of the teacher's kind, and that to the score.

    Shapes:
        features: (N, inputs, s, s) float, s at most half of ``side``; returns (N,) and (N, 8, side, side).
    """

    def __init__(self, inputs: int, side: int, hidden: int) -> None:
        super().__init__()
        self.side = side
        self.up = nn.ConvTranspose2d(inputs, MAP, 3, stride=2, padding=1, output_padding=1)
        self.score = MapScore(side, hidden)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        seen = F.interpolate(F.relu(self.up(features)), size=(self.side, self.side), mode="nearest")
        return self.score(seen), seen


class MapScore(nn.Module):
    """A perceptron over all places of the map: each place has weights of its own.

    Shapes:
        (N, 8, side, side) float; returns (N,).
    """

    def __init__(self, side: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(MAP * side**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)

    def forward(self, seen: Tensor) -> Tensor:
        out: Tensor = self.fc3(F.relu(self.fc2(F.relu(self.fc1(seen.flatten(1)))))).squeeze(1)
        return out


def scale(color: Tensor) -> Tensor:
    """(V, H, W, 3) uint8 to (V, 3, H, W) float in 0..1."""
    return color.permute(0, 3, 1, 2).float() / 255


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights: ``size`` is paper or mobile, ``part`` student or teacher.

    Raises:
        RuntimeMissing: a teacher, and diffusers is not installed.
    """
    settings = dict(card.settings)
    part = settings.pop("part", "student")
    card = dataclasses.replace(card, settings=settings)
    if part == "student":
        return of_size(card, Student, SmallStudent)
    if part != "teacher":
        raise ValueError(f"part is student or teacher, not {part!r}")
    try:
        from dgiqa.models.dp_iqa.teacher import SmallTeacher, Teacher
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise RuntimeMissing(
            f"the network of {card.name} needs diffusers, which is not installed", hint="pip install 'dgiqa[diffusion]'"
        ) from error
    return of_size(card, Teacher, SmallTeacher)

"""Transformer features: one network that judges a picture alone, or against its original.

Zeng, Kwong, "Learning Transformer Features for Image Quality Assessment", arXiv:2112.00485. A convolutional trunk and
a transformer encoder read each picture; without a reference the quality token goes to a perceptron, with one the
tokens of both pictures are joined before another. Trunk and encoder are the same for both, and trained on both.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models.dgiqa.network import Normalise
from dgiqa.models.trunks.maps import Standardising, join
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.models.trunks.resnet import CHANNELS, ResNet50
from dgiqa.models.trunks.vit import ViT

#: What a network has a perceptron for: pictures alone (no reference), pictures with originals (full reference), both.
Part = Literal["nr", "fr", "both"]


class TransformerFeatures(nn.Module):
    """A picture, or a picture and its original, to a score.

    Shapes:
        color, reference: (V, 384, 384, 3) uint8 sRGB.
        Returns (V,) float32 in 0..1, higher is better.

    Raises:
        ValueError: a ``part`` that doesn't exist; or a reference, or none, where the network has no perceptron for it.
    """

    def __init__(self, *, part: Part = "both", size: Literal["paper", "mobile"] = "paper") -> None:
        super().__init__()
        if part not in get_args(Part):
            raise ValueError(f"part must be nr, fr or both, not {part!r}")
        if size not in ("paper", "mobile"):
            raise ValueError(f"size is paper or mobile, not {size!r}")
        self.normalise = Normalise()
        self.trunk: ResNet50 | FrozenMobileNetV2 = ResNet50() if size == "paper" else FrozenMobileNetV2()
        if size == "paper":
            self.judge = Judge(sum(CHANNELS), side=12, width=256, depth=4, heads=8, part=part)
        else:
            self.judge = Judge(sum(FrozenMobileNetV2.CHANNELS), side=6, width=128, depth=2, heads=4, part=part)

    def forward(self, color: Tensor, reference: Tensor | None = None) -> Tensor:
        if reference is None:
            return self.judge.alone(self.joined(color))
        picture, original = self.joined(torch.cat([color, reference])).chunk(2)
        return self.judge.against(picture, original)

    def joined(self, pixels: Tensor) -> Tensor:
        """(V, channels, side, side) float, the trunk's maps of all scales behind each other."""
        maps = self.trunk(self.normalise(pixels) if isinstance(self.trunk, ResNet50) else pixels)
        return join(maps, self.judge.side)


class Judge(Standardising):
    """The shared encoder and the perceptrons of ``part``.

    Shapes: (V, inputs, side, side) float, as :func:`join` gives them.
    """

    def __init__(self, inputs: int, *, side: int, width: int, depth: int, heads: int, part: Part) -> None:
        super().__init__(inputs)
        self.side = side
        self.encoder = ViT(size=side, patch=1, inputs=inputs, width=width, depth=depth, heads=heads)
        self.no_reference = _perceptron(width, width) if part != "fr" else None
        self.full_reference = _perceptron(4 * width, width) if part != "nr" else None

    def tokens(self, joined: Tensor) -> Tensor:
        """(V, 1 + side², width): the quality token, then one a place."""
        out: Tensor = self.encoder(self.standardise(joined))
        return out

    def alone(self, joined: Tensor) -> Tensor:
        """(V,) 0..1: the score without a reference, of the quality token."""
        if self.no_reference is None:
            raise ValueError("part = 'fr' compares with a reference, and there is none")
        out: Tensor = self.no_reference(self.tokens(joined)[:, 0])
        return out.squeeze(1).sigmoid()

    def against(self, joined: Tensor, original: Tensor) -> Tensor:
        """(V,) 0..1: the score against the original, of both pictures' tokens."""
        return self.join_tokens(self.tokens(joined), self.tokens(original))

    def join_tokens(self, picture: Tensor, original: Tensor) -> Tensor:
        """(V,) 0..1: both quality tokens, their difference, and how far the places' tokens differ in the mean."""
        if self.full_reference is None:
            raise ValueError("part = 'nr' takes no reference")
        of_picture, of_original = picture[:, 0], original[:, 0]
        places = (picture[:, 1:] - original[:, 1:]).abs().mean(1)
        joined = torch.cat([of_picture, of_original, of_picture - of_original, places], 1)
        out: Tensor = self.full_reference(joined)
        return out.squeeze(1).sigmoid()


def _perceptron(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, 1))


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return TransformerFeatures(**card.settings)

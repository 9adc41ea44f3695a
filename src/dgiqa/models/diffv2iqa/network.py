"""DiffV2IQA: a picture, its restoration and two noisier states on the way there, to a score.

Wang et al., "Diffusion Model Based Visual Compensation Guidance and Visual Difference Analysis for No-Reference Image
Quality Assessment", arXiv:2402.14401; widths, order and constants as the authors' code has them. A diffusion model
restores the picture. The compensation branch reads all four pictures side by side, the difference branch reads how far
the restored ones are from the picture; the score is a weighted sum of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models import of_size
from dgiqa.models.diffv2iqa.diffusion import Denoiser, Restoration
from dgiqa.models.trunks.maniqa import DualHead, Maniqa
from dgiqa.models.trunks.maps import Standardising, join
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.models.trunks.resnet import ResNet50
from dgiqa.models.trunks.vit import ViT

#: Blocks of the ViT-B/8, counted from 0, that are read of the picture, d0, d1 and d2.
BLOCKS = ((6, 7, 8, 9), (6, 7), (8,), (9,))
#: What the difference branch counts for beside the compensation branch.
DIFFERENCE = 5.0


class DiffV2IQA(nn.Module):
    """The paper's size.

    Shapes:
        color: (V, 224, 224, 3) uint8 sRGB.
        Returns (V,) float32 in the units of the MOS that it was trained on, not negative, higher is better.

    Args:
        steps: of the restoration.
        every: steps between the three samples that are read.
    """

    def __init__(self, *, steps: int = 50, every: int = 5) -> None:
        super().__init__()
        self.restoration = Restoration(Denoiser(), side=224, steps=steps, every=every)
        trunk = ViT(patch=8, depth=1 + max(max(blocks) for blocks in BLOCKS))
        self.compensation = Compensation(trunk, BLOCKS, inputs=768, width=768, noted=192)
        self.classifier = ResNet50(classes=1000)
        self.difference = Difference(1000, trunk.side)

    def forward(self, color: Tensor) -> Tensor:
        picture = color.permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.score([picture, *self.restoration(picture)])

    def score(self, pictures: Sequence[Tensor]) -> Tensor:
        """(V,) of the picture, d0, d1 and d2: (V, 3, 224, 224) each, in -1..1."""
        logits = [self.classifier.logits(picture) for picture in pictures]
        # The branches share their first transposed attention blocks.
        difference = self.difference(logits, self.compensation.maniqa.attention1)
        return weigh(self.compensation(pictures), difference)


def weigh(compensation: Tensor, difference: Tensor) -> Tensor:
    """(V,) the score, of what each branch says."""
    return compensation + DIFFERENCE * difference


class Compensation(nn.Module):
    """Tokens of the picture and its restorations with what noise level they have, judged as MANIQA does.

    Shapes:
        pictures: as many as ``blocks`` has entries, each what the ``trunk`` takes; returns (N,), not negative.

    Args:
        blocks: of each picture the blocks of the trunk whose tokens are read.
        inputs: width of the trunk's tokens.
        width: channels of the first round, after two 1×1 convolutions.
        noted: learnt numbers that say at each place which of the pictures this is.
        rest: see :class:`~dgiqa.models.trunks.maniqa.Maniqa`.
    """

    def __init__(
        self, trunk: ViT, blocks: Sequence[Sequence[int]], *, inputs: int, width: int, noted: int, **rest: Any
    ) -> None:
        super().__init__()
        trunk.add_module("norm", nn.Identity())  # tokens are read before it
        self.trunk, self.blocks = trunk, blocks
        self.levels = nn.Parameter(torch.zeros(len(blocks), noted))
        channels = inputs * sum(map(len, blocks)) + noted * len(blocks)
        self.maniqa = Maniqa(channels, width, side=trunk.side, **rest)
        # Two convolutions with nothing between, in the place of MANIQA's one.
        narrowed = nn.Sequential(nn.Conv2d(channels, 3 * width, 1), nn.Conv2d(3 * width, width, 1))
        self.maniqa.add_module("conv1", narrowed)
        self.head = DualHead(width // 2)

    def forward(self, pictures: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.head(self.maniqa(self.describe(pictures)))
        return out

    def describe(self, pictures: Sequence[Tensor]) -> Tensor:
        """(N, channels, side, side): of each picture the tokens of its blocks, then its noise level."""
        parts = []
        for picture, blocks, level in zip(pictures, self.blocks, self.levels.unbind(), strict=True):
            tokens = [block[:, 1:] for block in self.trunk.after(picture, blocks)]
            parts += [*tokens, level.expand(*tokens[0].shape[:2], -1)]
        features = torch.cat(parts, 2).transpose(1, 2)
        return features.reshape(*features.shape[:2], self.trunk.side, self.trunk.side)


class Difference(nn.Module):
    """How far three restorations are from the picture, as a map of one channel, scored place by place.

    Shapes:
        read: of the picture, d0, d1 and d2, (N, inputs) each; shared: transposed attention blocks of ``side``² places.
        Returns (N,), not negative.
    """

    def __init__(self, inputs: int, side: int, channels: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.side = side
        self.attention = ReferenceAttention(inputs, side**2, dropout)
        self.conv = nn.Conv2d(1, channels, 1)
        self.head = DualHead(channels, dropout)

    def forward(self, read: Sequence[Tensor], shared: nn.Module) -> Tensor:
        features = shared(self.attention(*read).unsqueeze(1))  # (N, 1, places)
        out: Tensor = self.head(self.conv(features.reshape(-1, 1, self.side, self.side)))
        return out


class ReferenceAttention(nn.Module):
    """The distances to d0 ask, those to d1 are asked, those to d2 answer; the sum with what the picture itself says.

    Each of the ``places`` numbers is a token of width one, so attention is an outer product.

    Shapes:
        picture, d0, d1, d2: (N, inputs) float; returns (N, places).
    """

    def __init__(self, inputs: int, places: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.itself = nn.Linear(inputs, places)
        self.query = nn.Linear(inputs, places)
        self.key = nn.Linear(inputs, places)
        self.value = nn.Linear(inputs, places)
        self.scale = inputs**-0.5
        self.dropout = nn.Dropout(dropout)

    def forward(self, picture: Tensor, d0: Tensor, d1: Tensor, d2: Tensor) -> Tensor:
        query = self.query((picture - d0).abs())
        key = self.key((picture - d1).abs())
        value = self.value((picture - d2).abs())
        query, key, value = (tokens[:, None, :, None] for tokens in (query, key, value))  # (N, 1, places, 1)
        attended = F.scaled_dot_product_attention(query, key, value, scale=self.scale)[:, 0, :, 0]
        out: Tensor = self.itself(picture) + self.dropout(attended)
        return out


class MobileDiffV2IQA(nn.Module):
    """The small size: restored at a quarter of the side, and both branches on a frozen trunk's maps.

    Shapes:
        color: (V, 384, 384, 3) uint8 sRGB. Returns (V,) float32, not negative, higher is better.
    """

    #: Side at which pictures are restored, and to which the trunk sees them enlarged.
    RESTORED, SEEN = 96, 192

    def __init__(self, *, steps: int = 5, every: int = 1) -> None:
        super().__init__()
        self.trunk = FrozenMobileNetV2()
        denoiser = Denoiser(
            inner=8, multiples=(1, 2, 4, 8), attending=(3,), blocks=1, dropout=0.0, groups=4, prior=0.05
        )
        self.restoration = Restoration(denoiser, side=self.RESTORED, steps=steps, every=every)
        self.judge = Judge(sum(FrozenMobileNetV2.CHANNELS))

    def forward(self, color: Tensor) -> Tensor:
        joined = join(self.trunk(color), self.judge.side)
        out: Tensor = self.judge(joined, self.look_at_restored(color))
        return out

    def look_at_restored(self, color: Tensor) -> Tensor:
        """(V, 4, channels, side, side): joined maps of the picture made small, d0, d1 and d2."""
        small = shrink(color)
        pictures = torch.stack([small, *self.restoration(small)], 1).flatten(0, 1)
        seen = F.interpolate((pictures + 1) / 2, size=(self.SEEN, self.SEEN), mode="bilinear", align_corners=False)
        joined = join(self.trunk.of_floats(seen), self.judge.side)
        return joined.reshape(len(color), 4, *joined.shape[1:])


def shrink(color: Tensor, times: int = 4) -> Tensor:
    """(V, 3, H / times, W / times) in -1..1 of (V, H, W, 3) uint8, by means over blocks."""
    return F.avg_pool2d(color.permute(0, 3, 1, 2).float() / 127.5 - 1, times)


class Judge(Standardising):
    """Both branches on joined maps: a small ViT on them in the place of ViT-B/8, their means in that of the logits.

    Shapes:
        picture: (V, inputs, side, side) float, of the picture at full size; restored: (V, 4, inputs, side, side), of
        the picture made small, d0, d1 and d2. Returns (V,), not negative.
    """

    def __init__(self, inputs: int, *, side: int = 6, width: int = 48) -> None:
        super().__init__(inputs)
        self.side = side
        trunk = ViT(size=side, patch=1, inputs=inputs, width=width, depth=4, heads=4)
        self.compensation = Compensation(
            trunk,
            tuple(tuple(block - BLOCKS[0][0] for block in blocks) for blocks in BLOCKS),
            inputs=width,
            width=width,
            noted=width // 4,
            window=side // 2,
            hidden=width,
            scrambled=False,
        )
        self.difference = Difference(inputs, side)
        # Together about the middle of MOS at the start.
        self.compensation.head = SoftHead(width // 2, 0.4)
        self.difference.head = SoftHead(32, 0.2 / DIFFERENCE)

    def forward(self, picture: Tensor, restored: Tensor) -> Tensor:
        return weigh(*self.branches(picture, restored))

    def branches(self, picture: Tensor, restored: Tensor) -> tuple[Tensor, Tensor]:
        """(V,) each: what the compensation branch says, and the difference branch."""
        maps = [self.standardise(m) for m in (picture, *restored.unbind(1))]
        read = [m.mean((2, 3)) for m in maps[1:]]
        compensation = self.compensation([maps[0], *maps[2:]])
        return compensation, self.difference(read, self.compensation.maniqa.attention1)


class SoftHead(DualHead):
    """The head with softplus in the place of ReLU: a branch whose scores have all fallen to zero would learn no more.

    Args:
        start: about what the scores are before training.
    """

    def __init__(self, channels: int, start: float) -> None:
        super().__init__(channels)
        nn.init.constant_(self.score.get_parameter("3.bias"), math.log(math.expm1(start)))

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        tokens = features.flatten(2).transpose(1, 2)  # (N, L, C)
        return F.softplus(self.score(tokens)).squeeze(2), self.weight(tokens).sigmoid().squeeze(2)


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return of_size(card, DiffV2IQA, MobileDiffV2IQA)

"""SaTQA: what is seen, asked by how it is spoiled.

Shi, Gao, Qin, "Transformer-Based No-Reference Image Quality Assessment via Supervised Contrastive Learning",
arXiv:2312.06995.

    picture ──→ encoder, trained before by kinds and levels of distortion ──→ queries ────────┐
            └─→ ViT ──→ tokens of four blocks ──→ multi-stream blocks ──→ keys, values ──→ patch attention ──→ score

The network computes the encoder's feature itself: a score without it can't be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models import of_size
from dgiqa.models.satqa.blocks import MultiStreamBlock, PatchAttention
from dgiqa.models.trunks.maps import Standard, Standards, join
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.models.trunks.resnet import CHANNELS, ResNet50
from dgiqa.models.trunks.vit import ViT

#: Blocks of the ViT that are read, counted from 0.
BLOCKS = (1, 2, 5, 6)
#: Channels of the encoder's four scales; the finer two are taken as they are.
SCALES = (256, 512, 512, 512)


class SaTQA(nn.Module):
    """The paper's network. ViT and encoder are frozen.

    Shapes:
        color: (V, 224, 224, 3) uint8 sRGB.
        Returns (V,) float32, about 0..1, higher is better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ViT(size=224, patch=8).requires_grad_(False)
        self.encoder = Encoder().requires_grad_(False)
        self.judge = Judge(
            len(BLOCKS) * 768,
            sum(SCALES),
            splits=((256, 256, 256), (192, 192, 384), (48, 48, 672)),
            depths=(1, 5, 3),
            strides=(2, 2),
            head=32,
            gate=3,
        )

    def forward(self, color: Tensor) -> Tensor:
        rgb = color.permute(0, 3, 1, 2).float() / 255  # no normalisation beyond this, as the paper has it
        out: Tensor = self.judge(read(self.trunk, rgb, BLOCKS), self.encoder(rgb))
        return out


class Small(nn.Module):
    """The same at small width: encoder and ViT stand on one frozen MobileNetV2.

    Shapes:
        color: (V, 384, 384, 3) uint8 sRGB.
        Returns (V,) float32, about 0..1, higher is better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FrozenMobileNetV2()
        self.encoder = SmallEncoder().requires_grad_(False)
        self.judge = SmallJudge()

    def forward(self, color: Tensor) -> Tensor:
        maps = self.trunk(color)
        out: Tensor = self.judge(maps[-1], self.encoder(maps))
        return out

    def fit_statistics(self, maps: Sequence[Tensor]) -> None:
        """Takes each channel's mean and deviation over some pictures, by which it is standardised from then on."""
        self.encoder.standardise.fit_statistics(maps)
        self.judge.standardise.fit_statistics(maps[-1])


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return of_size(card, SaTQA, Small)


class Encoder(nn.Module):
    """The paper's encoder of distortions: ResNet-50 at four scales.

    Shapes:
        rgb: (N, 3, 224, 224) float in 0..1; returns (N, 1792, 7, 7).
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet50()
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(CHANNELS[2:], SCALES[2:], strict=True))

    def forward(self, rgb: Tensor) -> Tensor:
        maps = self.trunk(rgb)
        maps[2:] = [reduce(m) for reduce, m in zip(self.reduce, maps[2:], strict=True)]
        return join(maps)


class SmallEncoder(nn.Module):
    """The small one: a 1×1 convolution and ReLU of each of the trunk's maps, before pooling.

    Without them the mean over a block would hide what noise does to its pixels; in the paper that is ResNet-50's part.

    Shapes:
        maps: (N, C_i, 6 n_i, 6 n_i) float, as FrozenMobileNetV2 gives them; returns (N, 128, 6, 6), not negative.
    """

    WIDTHS = (32, 48, 48)

    def __init__(self, side: int = 6) -> None:
        super().__init__()
        self.side = side
        channels = FrozenMobileNetV2.CHANNELS
        self.standardise = Standards(channels)
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(channels, self.WIDTHS, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        standard = self.standardise(maps)
        reduced = [F.relu(reduce(m)) for reduce, m in zip(self.reduce, standard, strict=True)]
        return join(reduced, self.side)


class Projector(nn.Module):
    """From the encoder's feature to where it is contrasted; thrown away after that.

    Shapes:
        feature: (N, inputs, h, w) float, whose mean over places is brought to length 1; returns (N, outputs).
    """

    def __init__(self, inputs: int = sum(SCALES), hidden: int = 1024, outputs: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, feature: Tensor) -> Tensor:
        out: Tensor = self.layers(F.normalize(feature.mean((2, 3)), dim=1))
        return out


class Judge(nn.Module):
    """All that is trained on ratings: multi-stream blocks in stages, patch attention, a perceptron.

    Shapes:
        seen: (N, inputs, H, W) float; spoiled: (N, asks, h, w) float; returns (N,).

    Args:
        splits: channels of the three streams in each stage; together the same in all.
        depths: blocks of each stage.
        strides: of the convolutions between stages.
        head: channels of an attention head in the blocks.
        gate: width of a gate's perceptron, in widths of the map.
    """

    def __init__(
        self,
        inputs: int,
        asks: int,
        *,
        splits: tuple[tuple[int, int, int], ...],
        depths: tuple[int, ...],
        strides: tuple[int, ...],
        head: int,
        gate: float,
    ) -> None:
        super().__init__()
        width = sum(splits[0])
        self.reduce = nn.Conv2d(inputs, width, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(MultiStreamBlock(split, split[2] // head, int(gate * width)) for _ in range(depth)))
            for split, depth in zip(splits, depths, strict=True)
        )
        self.halve = nn.ModuleList(nn.Conv2d(width, width, stride, stride) for stride in strides)
        self.attention = PatchAttention(asks, width, heads=width // head, ratio=4)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, seen: Tensor, spoiled: Tensor) -> Tensor:
        x = self.reduce(seen)
        for number, stage in enumerate(self.stages):
            x = stage(self.halve[number - 1](x) if number else x)
        answers = self.attention(*(m.flatten(2).transpose(1, 2) for m in (spoiled, x)))
        out: Tensor = self.head(answers.mean(1))
        return out.squeeze(1)


class SmallJudge(nn.Module):
    """A ViT on the trunk's deepest map (the hybrid of Dosovitskiy et al.), trained with the rest.

    Shapes:
        deepest: (N, 320, 12, 12) float; spoiled: (N, 128, 6, 6) float; returns (N,).
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = FrozenMobileNetV2.CHANNELS[-1]
        self.standardise = Standard(inputs)
        self.vit = ViT(size=12, patch=1, inputs=inputs, width=64, depth=4, heads=4)
        del self.vit.norm  # tokens are read before it
        self.judge = Judge(
            4 * 64,
            sum(SmallEncoder.WIDTHS),
            splits=((32, 32, 32), (24, 24, 48), (8, 8, 80)),
            depths=(1, 2, 1),
            strides=(2, 1),
            head=16,
            gate=0.25,
        )

    def forward(self, deepest: Tensor, spoiled: Tensor) -> Tensor:
        out: Tensor = self.judge(read(self.vit, self.standardise(deepest), range(4)), spoiled)
        return out


def read(vit: ViT, x: Tensor, blocks: Sequence[int]) -> Tensor:
    """Tokens after some blocks as one map, the class token left out: (N, blocks · width, side, side)."""
    tokens = torch.cat(vit.after(x, blocks), 2)[:, 1:]
    return tokens.transpose(1, 2).reshape(len(x), -1, vit.side, vit.side)

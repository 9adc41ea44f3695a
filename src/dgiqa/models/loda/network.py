"""LoDa: a frozen ViT is told, before each of its blocks, what a frozen CNN saw of local distortions.

Xu et al., "Boosting Image Quality Assessment through Efficient Transformer Adaptation with Local Feature Enhancement",
CVPR 2024, arXiv:2308.12001, section 3. Trained is only what joins the two: a local distortion extractor for each stage
of the CNN, an injector before each block of the ViT, and a head that takes a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models import of_size
from dgiqa.models.dgiqa.network import Normalise
from dgiqa.models.trunks.maps import Standards, pool
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.models.trunks.resnet import CHANNELS, ResNet50
from dgiqa.models.trunks.vit import ViT

#: Width of the local tokens, and of the ViT's tokens while they ask them.
LATENT = 64
#: Heads of the cross attention.
HEADS = 4


class LoDa(nn.Module):
    """The paper's network: ViT-B/16 and ResNet-50, both frozen, and 8.93 M trained parameters.

    ``vit`` and ``cnn`` have timm's state names, so that ImageNet weights go in as they are.

    Shapes:
        color: (V, 224, 224, 3) uint8 sRGB; returns (V,) float32, a cosine in -1..1, higher is better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.vit = ViT().requires_grad_(False)
        self.cnn = ResNet50().requires_grad_(False)
        self.adapter = Adapter(CHANNELS, width=768, depth=12)

    def forward(self, color: Tensor) -> Tensor:
        picture = self.normalise(color)
        out: Tensor = self.adapter(self.vit, picture, self.cnn(picture))
        return out


class SmallLoDa(nn.Module):
    """The small network: a frozen MobileNetV2 in the place of the CNN, and a small ViT on its deepest map.

    Shapes:
        color: (V, 384, 384, 3) uint8 sRGB; returns (V,) float32, a cosine in -1..1, higher is better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FrozenMobileNetV2()
        self.judge = Judge(FrozenMobileNetV2.CHANNELS)

    def forward(self, color: Tensor) -> Tensor:
        out: Tensor = self.judge(self.trunk(color))
        return out


class Judge(nn.Module):
    """All of the small network behind its trunk. The ViT is trained: none that is frozen fits these maps.

    Shapes:
        maps: finest first, (V, C_i, H_i, H_i) float, H_i multiples of ``side``, such as 48, 24 and 12 pixels; returns
        (V,) in -1..1.

    Args:
        channels: C_i.
        side: of the deepest map as the ViT sees it, and of each map as the injectors see it.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        side: int = 6,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        latent: int = 24,
    ) -> None:
        super().__init__()
        self.side = side
        self.standards = Standards(channels)
        self.vit = ViT(size=side, patch=1, inputs=channels[-1], width=width, depth=depth, heads=heads)
        self.adapter = Adapter(channels, width=width, depth=depth, latent=latent, side=side)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        standard = self.standards(maps)
        # Filtered at its full size the finest map would cost half as much as all the rest.
        standard[0] = F.avg_pool2d(standard[0], 2)
        out: Tensor = self.adapter(self.vit, pool(standard[-1], self.side), standard)
        return out

    def fit_statistics(self, maps: Sequence[Tensor]) -> None:
        """See :class:`~dgiqa.models.trunks.maps.Standards`."""
        self.standards.fit_statistics(maps)


class Adapter(nn.Module):
    """All that LoDa trains: the extractor, an injector before each block of a ViT, the head.

    The ViT is lent by the caller, so that it can be frozen, loaded and named by itself.

    Shapes:
        picture: what ``vit`` takes; maps: the CNN's stages, (N, C_i, H_i, H_i), H_i multiples of ``side``;
        returns (N,) in -1..1.
    """

    def __init__(self, channels: Sequence[int], *, width: int, depth: int, latent: int = LATENT, side: int = 7) -> None:
        super().__init__()
        self.extractor = Extractor(channels, latent, side)
        self.injectors = nn.ModuleList(Injector(width, latent, HEADS) for _ in range(depth))
        self.dropout = nn.Dropout(0.1)
        self.head = CosineHead(width)

    def forward(self, vit: ViT, picture: Tensor, maps: Sequence[Tensor]) -> Tensor:
        local = self.extractor(maps)
        tokens = vit.embed(picture)
        for injector, block in zip(self.injectors, vit.blocks, strict=True):
            tokens = block(injector(tokens, local))
        out: Tensor = self.head(self.dropout(vit.norm(tokens)[:, 0]))
        return out


class Extractor(nn.Module):
    """Local distortion extractor: each stage to few channels, filtered at its own scale, pooled to a few places.

    Shapes:
        maps: (N, C_i, H_i, H_i) float, H_i multiples of ``side``; returns (N, stages * side², latent): tokens of all
        stages, the finest first, row by row.
    """

    def __init__(self, channels: Sequence[int], latent: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, latent, 1),
                nn.GELU(),
                nn.Conv2d(latent, latent, 3, padding=1, bias=False),
            )
            for inputs in channels
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        filtered = (pool(stage(features), self.side) for stage, features in zip(self.stages, maps, strict=True))
        return torch.cat([features.flatten(2).transpose(1, 2) for features in filtered], 1)


class Injector(nn.Module):
    """Local distortion injector: the ViT's tokens, made narrow, ask the local ones; the answer is added, widened.

    Shapes:
        tokens: (N, L, width) float; local: (N, M, latent) float; returns (N, L, width).
    """

    def __init__(self, width: int, latent: int, heads: int) -> None:
        super().__init__()
        self.down = _perceptron(width, latent, latent)
        self.attention = CrossAttention(latent, heads)
        self.up = _perceptron(latent, width, width)
        #: How much of each channel is added; small at first, so that the ViT starts as it was trained.
        self.scale = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02))

    def forward(self, tokens: Tensor, local: Tensor) -> Tensor:
        narrow = self.down(tokens)
        out: Tensor = tokens + self.scale * self.up(narrow + self.attention(narrow, local))
        return out


class CrossAttention(nn.Module):
    """Multi-head attention of one set of tokens to another, queries, keys and values without bias.

    Shapes:
        asking: (N, L, width) float; answering: (N, M, width) float; returns (N, L, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels can't be shared out to {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width)

    def forward(self, asking: Tensor, answering: Tensor) -> Tensor:
        query = self._split(self.query(asking))
        key, value = (self._split(part) for part in self.key_value(answering).chunk(2, -1))
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        """(N, L, width) to (N, heads, L, width / heads)."""
        count, length, width = tokens.shape
        return tokens.reshape(count, length, self.heads, width // self.heads).transpose(1, 2)


class CosineHead(nn.Module):
    """The cosine of the angle between a token and one learnt direction. (N, width) to (N,) in -1..1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.empty(width).uniform_(-1, 1), dim=0))

    def forward(self, token: Tensor) -> Tensor:
        return F.normalize(token, dim=1) @ F.normalize(self.weight, dim=0)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return of_size(card, LoDa, SmallLoDa)

"""Depth Anything, V1 and V2: relative inverse depth of any photograph.

Yang et al., "Depth Anything: Unleashing the Power of Large-Scale Unlabeled Data", arXiv:2401.10891, and
"Depth Anything V2", arXiv:2406.09414: a DINOv2 encoder (Oquab et al., arXiv:2304.07193) whose tokens a DPT decoder
(Ranftl et al., arXiv:2103.13413) makes a map of. The versions differ in the weights and in which layers are read.
Nothing is downloaded: the card's settings are the configuration, and the weights are the ``model.safetensors`` of the
hub's ``-hf`` repositories, whose names the parts have.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dgiqa.cards import ModelCard
from dgiqa.models.dgiqa.network import Normalise

PATCH = 14
#: What the four maps' sides are multiplied by, coarsest last.
FACTORS = (4, 2, 1, 0.5)
#: Of the encoder: the hidden layers' width in tokens' widths, and what norms add to the variance.
_WIDER, _EPSILON = 4, 1e-6


class DepthAnything(nn.Module):
    """uint8 colour to depth. State names are the hub's.

    Shapes:
        color: (V, H, W, 3) uint8 sRGB, H and W multiples of 14.
        Returns (V, H, W) float32, relative inverse depth: not negative, larger is nearer, no unit.

    Args:
        width, layers, heads: of the DINOv2 encoder.
        taps: the encoder's layers that are read, counted from 1.
        neck: channels of the four maps made from them.
        fusion: channels in which they are fused.
        head: channels before the last convolution.
        size: side in pixels of the pictures for which the encoder's position embeddings are stored.

    Raises:
        ValueError: taps or maps that aren't four, taps that don't rise or are no layers, a size that is nothing, or a
            width that the heads don't divide.
    """

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        taps: list[int],
        neck: list[int],
        fusion: int,
        head: int = 32,
        size: int = 518,
    ) -> None:
        super().__init__()
        if len(taps) != len(FACTORS) or len(neck) != len(FACTORS):
            raise ValueError(f"taps and neck need {len(FACTORS)} values each")
        sizes = [("width", width), ("layers", layers), ("heads", heads), ("head", head)]
        for name, value in [*sizes, *(("taps", tap) for tap in taps), *(("neck", each) for each in neck)]:
            _check(name, value, 1)
        _check("fusion", fusion, 2)
        _check("size", size, PATCH)
        self.normalise = Normalise()
        self.backbone = Encoder(width, layers, heads, taps, size // PATCH)
        self.neck = Neck(width, neck, fusion)
        self.head = Head(fusion, head)

    def forward(self, color: Tensor) -> Tensor:
        rows, columns = color.shape[1] // PATCH, color.shape[2] // PATCH
        tokens = self.backbone(self.normalise(color))
        maps = [each[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)) for each in tokens]
        return cast(Tensor, self.head(self.neck(maps), rows * PATCH, columns * PATCH))


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; its settings are the arguments of the class."""
    return DepthAnything(**card.settings)


def _check(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}")


class Encoder(nn.Module):
    """DINOv2: (V, 3, H, W) normalised colour to the tokens after each layer of ``taps``, (V, 1 + rows·columns, width)
    each, all through the last norm; the first is the class token.
    """

    def __init__(self, width: int, layers: int, heads: int, taps: Sequence[int], side: int) -> None:
        super().__init__()
        if not all(low < high for low, high in itertools.pairwise([0, *taps, layers + 1])):
            raise ValueError(f"taps must be layers from 1 to {layers}, each above the one before")
        self.taps = tuple(taps)
        self.embeddings = Embeddings(width, side)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(width, heads) for _ in range(layers))})
        self.layernorm = nn.LayerNorm(width, _EPSILON)

    def forward(self, color: Tensor) -> list[Tensor]:
        tokens, seen = self.embeddings(color), []
        for number, layer in enumerate(cast(nn.ModuleList, self.encoder["layer"]), 1):
            tokens = layer(tokens)
            if number in self.taps:
                seen.append(self.layernorm(tokens))
        return seen


class Embeddings(nn.Module):
    """Patches and where they lie as tokens, a class token before them."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of the encoder's training; the hub's files hold it
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(1, 1 + side * side, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, PATCH, PATCH)})

    def forward(self, color: Tensor) -> Tensor:
        grid = self.patch_embeddings["projection"](color)
        stored = self.position_embeddings[:, 1:].transpose(1, 2).reshape(1, -1, self.side, self.side)
        # Of a grid as large as the stored one the values stay as they are, to the last bit.
        places = functional.interpolate(stored, grid.shape[2:], mode="bicubic", align_corners=False)
        first = (self.cls_token + self.position_embeddings[:, :1]).expand(grid.shape[0], -1, -1)
        return torch.cat([first, (grid + places).flatten(2).transpose(1, 2)], 1)


class Layer(nn.Module):
    """Attention and two wide layers, each behind a norm and scaled before it is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, _EPSILON), nn.LayerNorm(width, _EPSILON)
        self.attention = Attention(width, heads)
        self.layer_scale1, self.layer_scale2 = Scale(width), Scale(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, _WIDER * width), "fc2": nn.Linear(_WIDER * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.layer_scale1(self.attention(self.norm1(tokens)))
        wide = functional.gelu(self.mlp["fc1"](self.norm2(tokens)))
        return tokens + cast(Tensor, self.layer_scale2(self.mlp["fc2"](wide)))


class Attention(nn.Module):
    """Among tokens, (V, N, width), in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads don't divide a width of {width}")
        self.heads = heads
        self.attention = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            part(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.attention.values()
        )
        together = functional.scaled_dot_product_attention(query, key, value)
        return cast(Tensor, self.output["dense"](together.transpose(1, 2).flatten(2)))


class Scale(nn.Module):
    """Each channel times a learnt number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.lambda1


class Neck(nn.Module):
    """DPT's reassembling and fusing: four maps (V, width, rows, columns) to one, (V, fusion, 8 rows, 8 columns)."""

    def __init__(self, width: int, channels: Sequence[int], fusion: int) -> None:
        super().__init__()
        stages = [Reassemble(width, each, factor) for each, factor in zip(channels, FACTORS, strict=True)]
        self.reassemble_stage = nn.ModuleDict({"layers": nn.ModuleList(stages)})
        self.convs = nn.ModuleList(nn.Conv2d(each, fusion, 3, padding=1, bias=False) for each in channels)
        self.fusion_stage = nn.ModuleDict({"layers": nn.ModuleList(Fuse(fusion) for _ in channels)})

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        stages = cast(nn.ModuleList, self.reassemble_stage["layers"])
        finest_first = [conv(stage(x)) for conv, stage, x in zip(self.convs, stages, maps, strict=True)]
        *finer, coarsest = finest_first
        first, *others = cast(nn.ModuleList, self.fusion_stage["layers"])
        fused: Tensor = first(coarsest, None, finer[-1].shape[2:])
        for i, layer in zip(reversed(range(len(finer))), others, strict=True):
            rows, columns = finer[i].shape[2:]
            fused = layer(fused, finer[i], finer[i - 1].shape[2:] if i else (2 * rows, 2 * columns))
        return fused


class Reassemble(nn.Module):
    """Tokens as a map of other channels, ``factor`` times as large."""

    def __init__(self, width: int, channels: int, factor: float) -> None:
        super().__init__()
        self.projection = nn.Conv2d(width, channels, 1)
        self.resize: nn.Module = nn.Identity()
        if factor > 1:
            self.resize = nn.ConvTranspose2d(channels, channels, int(factor), int(factor))
        elif factor < 1:
            self.resize = nn.Conv2d(channels, channels, 3, round(1 / factor), padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.resize(self.projection(x)))


class Fuse(nn.Module):
    """Adds a finer map, refines, and enlarges to ``size``. The coarsest layer's first unit is stored, never used."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, 1)
        self.residual_layer1, self.residual_layer2 = Refine(channels), Refine(channels)

    def forward(self, x: Tensor, finer: Tensor | None, size: Sequence[int]) -> Tensor:
        if finer is not None:
            x = x + self.residual_layer1(finer)
        x = functional.interpolate(self.residual_layer2(x), tuple(size), mode="bilinear", align_corners=True)
        return cast(Tensor, self.projection(x))


class Refine(nn.Module):
    """Two convolutions, each behind a ReLU, added to what goes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.convolution2(functional.relu(self.convolution1(functional.relu(x)))))


class Head(nn.Module):
    """The fused map to depth of ``height`` × ``width``, (V, height, width)."""

    def __init__(self, fusion: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fusion, fusion // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(fusion // 2, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = functional.interpolate(self.conv1(x), (height, width), mode="bilinear", align_corners=True)
        return functional.relu(self.conv3(functional.relu(self.conv2(x)))).squeeze(1)

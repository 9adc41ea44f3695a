"""DGIQA at phone size: the paper's blocks on small trunks.

After Ramesh et al., arXiv:2505.24002: bridges, depth-guided attention and the dilated stack are the paper's, at small
width. What differs, and why: EfficientNet-Lite0, or half a ResNet-50, looks at colour and a trunk of four strided
stages at depth. Maps are gathered as the mean and the deviation over each cell of 32×32 pixels instead of picking
single points, because noise and blur live in the texture between the points. The dilated stack also sees the colour
map itself, because a small depth network is too rough to carry the whole residual stream. The head reads, beside the
stack, the mean, deviation and maximum of every stage of the colour trunk over the whole picture: on photographs these
say more than anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models.dgiqa.blocks import DepthCAR, DilatedStack, TransformerCNNBridge
from dgiqa.models.dgiqa_mobile.efficientnet import EfficientNetLite0
from dgiqa.models.dgiqa_mobile.pixels import CELL, COUNT, PixelShares
from dgiqa.models.dgiqa_mobile.thin_resnet import ThinResNet50

#: What may look at colour. Each says of its maps channels, strides and which of them bridges read (``taps``).
TRUNKS: dict[str, type[EfficientNetLite0 | ThinResNet50]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "resnet50-thin": ThinResNet50,
}
#: Channels of the four stages of the depth trunk, strides 4, 8, 16, 32.
DEPTH_STAGES = (16, 24, 48, 96)
DEPTH_STRIDES = (4, 8, 16, 32)
#: Channels of the four bridges.
BRIDGES = (16, 24, 32, 56)
#: Keeps the rounding of a share, some 1e-5, from growing in the root.
_LEAST_SHARE = 1e-3
#: Keeps the root's gradient finite where a cell is flat.
_LEAST_VARIANCE = 1e-6


class DepthTrunk(nn.Module):
    """Four stages of strided separable convolutions over the depth map.

    Shapes:
        (N, 1, H/4, W/4) float in -1..1; returns maps at strides 4, 8, 16, 32 of the picture.
    """

    def __init__(self, stages: Sequence[int] = DEPTH_STAGES) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(1, stages[0], 1)]
        layers += [_stage(a, b) for a, b in pairwise(stages)]
        self.stages = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _convolution(inputs: int, outputs: int, stride: int, groups: int = 1, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(inputs, inputs, 2, groups=inputs),
        _convolution(inputs, outputs, 1, kernel=1),
        _convolution(outputs, outputs, 1, groups=outputs),
        _convolution(outputs, outputs, 1, kernel=1),
    )


class DGIQAMobile(nn.Module):
    """uint8 colour and depth to a score and how far off it may be.

    Args:
        trunk: what looks at colour, one of TRUNKS.
        heads, ratio: of the attention layers: heads, and width of their MLP in widths of the layer.
        hidden: width of the head over the trunk's statistics; 0 for none, then the fused map alone scores.
        members: how many judges share that width; the score is their mean. They err apart where one as wide as all
            of them overfits.
        asks: who asks whom: ``depth`` colour, as in the paper; ``color`` depth; ``alone``: colour itself, no depth.
        gated, refined: whether bridges have gates, and attention its second layer, to see what each is worth.
        stack: ``dilated``, as in the paper; ``plain``: the same without dilation; ``none``: a 1×1 convolution.
        pixels: how much the head minds the shares of the pixels' own values, see :mod:`.pixels`, against one statistic
            of the trunk; 0 leaves them out.

    Raises:
        ValueError: one of these is none of its choices.

    Shapes:
        color: (V, H, W, 3) uint8 sRGB; depth: (V, H, W) uint8, 255 nearest; H and W multiples of 32. Where the first
        stages of the colour trunk are known already, ``first``'s float16 takes the place of colour.
        Returns (V, 2) float32: the raw score in 0..1, higher is better, and its spread, the expected size of its
        error in the same unit, above 0. In training (V, 2 members): each member's own, side by side.
    """

    def __init__(
        self,
        trunk: str = "efficientnet-lite0",
        heads: int = 8,
        ratio: int = 2,
        hidden: int = 512,
        members: int = 1,
        asks: Literal["depth", "color", "alone"] = "depth",
        gated: bool = True,
        refined: bool = True,
        stack: Literal["dilated", "plain", "none"] = "dilated",
        pixels: float = 0.0,
    ) -> None:
        super().__init__()
        if trunk not in TRUNKS:
            raise ValueError(f"trunk = {trunk!r} is {' or '.join(TRUNKS)}")
        if asks not in ("depth", "color", "alone") or stack not in ("dilated", "plain", "none"):
            raise ValueError(f"asks = {asks!r} is depth, color or alone; stack = {stack!r} is dilated, plain or none")
        if not isinstance(gated, bool) or not isinstance(refined, bool):
            raise ValueError(f"gated = {gated!r}, refined = {refined!r}: each is true or false")
        if isinstance(pixels, bool) or not pixels >= 0:
            raise ValueError(f"pixels = {pixels!r} is a number, 0 or more")
        if isinstance(members, bool) or not members >= 1 or hidden % members:
            raise ValueError(f"members = {members!r} is a whole number, 1 or more, that hidden = {hidden} divides by")
        width = sum(BRIDGES)
        self.asks = asks
        self.pixels = float(pixels)
        self.shares = PixelShares() if pixels else None
        self.color_trunk = TRUNKS[trunk]()
        self.depth_trunk: DepthTrunk | None = DepthTrunk()
        channels, strides, self.taps = self.color_trunk.channels, self.color_trunk.strides, self.color_trunk.taps
        self.color_bridges = _bridges((_cell_channels(channels[tap], strides[tap]) for tap in self.taps), gated)
        self.depth_bridges: nn.ModuleList | None = _bridges(map(_cell_channels, DEPTH_STAGES, DEPTH_STRIDES), gated)
        self.depth_car = DepthCAR(width, heads, ratio, refined=refined)
        self.dilated: nn.Module = DilatedStack(2 * width, width, (2, 4) if stack == "dilated" else (1, 1))
        if stack == "none":
            self.dilated = _convolution(2 * width, width, 1, kernel=1)
        self.head = Head(3 * sum(channels) + (COUNT if pixels else 0), 2 * width, hidden, members)
        # What nothing reads is left out, but made first: the same seed gives the rest the same start.
        if asks == "alone":
            self.depth_trunk = self.depth_bridges = None
        if not hidden:
            self.color_trunk.stages = self.color_trunk.stages[: self.taps[-1] + 1]

    def forward(self, color: Tensor, depth: Tensor | None = None) -> Tensor:
        cells, shares = self._look(color)
        gathered = _gather(self.color_bridges, [cells[tap] for tap in self.taps])  # (N, width, H/32, W/32)
        deep = gathered if self.asks == "alone" else self._deep(quarter_depth(_given(depth)))
        fused = self.depth_car(deep, gathered) if self.asks == "color" else self.depth_car(gathered, deep)
        stacked = self.dilated(torch.cat([fused, gathered], 1))
        scores: Tensor = self.head(_statistics(cells, shares), _spread_over(stacked))
        return scores

    def statistics(self, color: Tensor) -> Tensor:
        """Colour as in ``forward`` to (V, S): mean, deviation and maximum of each stage of the colour trunk; and the
        roots of the shares of the pixels' values.
        """
        return _statistics(*self._look(color))

    def first(self, color: Tensor, stages: int) -> Tensor:
        """All that the rest needs to know of the first ``stages`` stages of the colour trunk, in 16 bits.

        (V, H, W, 3) uint8 to (V, C, H/32, W/32) float16: mean, deviation and maximum in each cell of the stages before
        the last of them, and the last one's map, the points of a cell side by side in channels; and the pixels' shares.
        """
        if not 0 < stages <= len(self.color_trunk.stages):
            raise IndexError(f"there are {len(self.color_trunk.stages)} stages")
        strides = self.color_trunk.strides
        x, known = self.color_trunk.stem(self.color_trunk.scaled(color)), []
        for stage, stride in zip(self.color_trunk.stages[: stages - 1], strides, strict=False):
            x = stage(x)
            cells = Cells.of(x, stride)
            known += [cells.mean, _deviation(cells.mean, cells.square), F.max_pool2d(x, CELL // stride)]
        last = F.pixel_unshuffle(self.color_trunk.stages[stages - 1](x), CELL // strides[stages - 1])
        shares = [] if self.shares is None else [self.shares(color)]
        return torch.cat([*known, last, *shares], 1).half()

    def frozen_for(self, stages: int) -> list[str]:
        """Prefixes of the parameters that ``first`` depends on."""
        prefixes = "color_trunk.stem.", *(f"color_trunk.stages.{i}." for i in range(stages))
        return [prefix for prefix in prefixes if any(name.startswith(prefix) for name, _ in self.named_parameters())]

    def _look(self, color: Tensor) -> tuple[list[Cells], Tensor | None]:
        """The cells of the trunk's maps, and the pixels' shares in them."""
        channels, strides = self.color_trunk.channels, self.color_trunk.strides
        if color.dtype == torch.uint8:
            maps = self.color_trunk(self.color_trunk.scaled(color))
            cells = [Cells.of(m, stride) for m, stride in zip(maps, strides, strict=False)]
            return cells, None if self.shares is None else self.shares(color)
        count = color.shape[1] - (COUNT if self.pixels else 0)
        known_first = _first_channels(channels, strides)
        if count not in known_first:
            raise ValueError(f"{color.dtype} of shape {tuple(color.shape)} is neither colour nor what first() gives")
        stages = known_first.index(count) + 1
        before = [3 * c for c in channels[: stages - 1]]
        sizes = [*before, count - sum(before), color.shape[1] - count]
        *known, last, shares = torch.split(color.float(), sizes, 1)
        x = F.pixel_shuffle(last, CELL // strides[stages - 1]).contiguous(memory_format=torch.channels_last)
        maps = [x, *self.color_trunk(x, stages)]
        cells = [Cells.of(m, stride) for m, stride in zip(maps, strides[stages - 1 :], strict=False)]
        return [*map(Cells.known, known, strides), *cells], shares if self.pixels else None

    def fit_statistics(self, rows: Tensor | None) -> None:
        """Brings the head's statistics to one scale, by those (n, S) of whole pictures; None leaves the scale.

        The head begins as the statistics alone; what depth and the stack add is learned.
        """
        if self.head.hidden is None:
            return
        if rows is not None and len(rows) > 1:
            self.head.mean.copy_(rows.mean(0))
            self.head.scale.copy_(rows.std(0) + 1e-6)
            if self.pixels:
                self.head.scale[-COUNT:] /= self.pixels
        self.head.score.weight[:, self.head.hidden.out_features :] = 0
        self.head.spread.weight[:, self.head.hidden.out_features :] = 0

    def probe(self, statistics: Tensor) -> Tensor:
        """(V, 2): score and spread from the statistics alone; in training (V, 2 members).

        Raises:
            ValueError: the head reads none.
        """
        if self.head.hidden is None:
            raise ValueError("hidden = 0: the head reads no statistics")
        fused = statistics.new_zeros(len(statistics), self.head.score.in_features - self.head.hidden.out_features)
        scores: Tensor = self.head(statistics, fused)
        return scores

    def _deep(self, depth: Tensor) -> Tensor:
        """(N, width, H/32, W/32): the depth trunk's maps through their bridges."""
        assert self.depth_trunk is not None
        assert self.depth_bridges is not None
        maps = zip(self.depth_trunk(depth), DEPTH_STRIDES, strict=True)
        return _gather(self.depth_bridges, [Cells.of(m, stride) for m, stride in maps])


class Cells:
    """Mean and mean square of a map over cells of 32×32 pixels, and its maximum over the picture.

    Attributes:
        mean, square: (N, C, H/32, W/32).
        highest: (N, C).
        single: each cell is one point of the map, which has no deviation.
    """

    def __init__(self, mean: Tensor, square: Tensor, highest: Tensor, single: bool) -> None:
        self.mean, self.square, self.highest, self.single = mean, square, highest, single

    @staticmethod
    def of(x: Tensor, stride: int) -> Cells:
        side, highest = CELL // stride, x.amax((2, 3))
        if side == 1:
            return Cells(x, x.square(), highest, True)
        return Cells(F.avg_pool2d(x, side), F.avg_pool2d(x.square(), side), highest, False)

    @staticmethod
    def known(x: Tensor, stride: int) -> Cells:
        """(N, 3 C, H/32, W/32): mean, deviation and maximum of each cell."""
        mean, deviation, highest = x.chunk(3, 1)
        return Cells(mean, mean.square() + deviation.square() - _LEAST_VARIANCE, highest.amax((2, 3)), stride == CELL)

    def maps(self) -> Tensor:
        """(N, C or 2 C, H/32, W/32): the means, and the deviations where there are any."""
        return self.mean if self.single else torch.cat([self.mean, _deviation(self.mean, self.square)], 1)

    def over_picture(self) -> Tensor:
        """(N, 3 C): mean, deviation and maximum over the whole picture."""
        mean, square = self.mean.mean((2, 3)), self.square.mean((2, 3))
        return torch.cat([mean, _deviation(mean, square), self.highest], 1)


def _statistics(cells: Sequence[Cells], shares: Tensor | None) -> Tensor:
    """(N, S): of each map over the whole picture, and the roots of the shares: the small ones count, too."""
    rows = [each.over_picture() for each in cells]
    if shares is not None:
        rows.append((F.relu(shares.mean((2, 3))) + _LEAST_SHARE).sqrt())
    return torch.cat(rows, 1)


class Head(nn.Module):
    """Statistics of the colour trunk, brought to one scale, and the fused map's, to score and spread.

    With ``hidden`` 0, from the fused map's alone. Each of ``members`` reads its own part of the hidden layer, and all
    of the fused map's.

    Shapes:
        statistics: (N, S), fused: (N, F) float; returns (N, 2), the members' mean; in training (N, 2 members).
    """

    def __init__(self, statistics: int, fused: int, hidden: int, members: int = 1) -> None:
        super().__init__()
        self.hidden: nn.Linear | None = None
        if hidden:
            self.register_buffer("mean", torch.zeros(statistics))
            self.register_buffer("scale", torch.ones(statistics))
            self.mean: Tensor
            self.scale: Tensor
            self.norm = nn.LayerNorm(statistics)
            self.hidden = nn.Linear(statistics, hidden)
        self.dropout = nn.ModuleList([nn.Dropout(0.2), nn.Dropout(0.3)])
        self.score = nn.Linear(hidden + fused, members)
        self.spread = nn.Linear(hidden + fused, members)
        own = torch.eye(members).repeat_interleave(hidden // members, 1)
        self.register_buffer("reads", torch.cat([own, torch.ones(members, fused)], 1), persistent=False)
        self.reads: Tensor

    def forward(self, statistics: Tensor, fused: Tensor) -> Tensor:
        x = fused
        if self.hidden is not None:
            x = self.norm((statistics - self.mean) / self.scale)
            x = torch.cat([self.dropout[1](F.gelu(self.hidden(self.dropout[0](x)))), fused], 1)
        raw = self._each(self.score, x).sigmoid()
        # The spread learns from what the score has found and never bends it.
        spread = 0.005 + 0.5 * self._each(self.spread, x.detach()).sigmoid()
        if self.training:
            return torch.stack([raw, spread], 2).flatten(1)
        return torch.cat([raw.mean(1, keepdim=True), spread.mean(1, keepdim=True)], 1)

    def _each(self, layer: nn.Linear, x: Tensor) -> Tensor:
        return F.linear(x, layer.weight * self.reads, layer.bias)


def _first_channels(channels: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Channels of ``DGIQAMobile.first`` of 1, 2, ... stages of a trunk, without the shares; no two are equal."""
    last = [count * (CELL // stride) ** 2 for count, stride in zip(channels, strides, strict=True)]
    return [3 * sum(channels[:n]) + count for n, count in enumerate(last)]


def _given(depth: Tensor | None) -> Tensor:
    if depth is None:
        raise ValueError("the network asks depth and there is none")
    return depth


def quarter_depth(depth: Tensor) -> Tensor:
    """(V, H, W) uint8 to (V, 1, H/4, W/4) float in -1..1, each cell's mean."""
    return F.avg_pool2d(depth[:, None].float(), 4) / 127.5 - 1.0


def _deviation(mean: Tensor, square: Tensor) -> Tensor:
    return (F.relu(square - mean.square()) + _LEAST_VARIANCE).sqrt()


def _spread_over(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 2 C): mean and deviation over the map."""
    mean = x.mean((2, 3))
    return torch.cat([mean, ((x - mean[:, :, None, None]).square().mean((2, 3)) + 1e-6).sqrt()], 1)


def _cell_channels(channels: int, stride: int) -> int:
    return channels if stride == CELL else 2 * channels


def _bridges(inputs: Iterable[int], gated: bool) -> nn.ModuleList:
    """A bridge per scale; the gate is narrowed by 4, not the paper's 16, which would leave it one channel."""
    bridges = [TransformerCNNBridge(i, c, reduction=4, gated=gated) for i, c in zip(inputs, BRIDGES, strict=True)]
    return nn.ModuleList(bridges)


def _gather(bridges: nn.ModuleList, cells: Sequence[Cells]) -> Tensor:
    return torch.cat([bridge(c.maps()) for bridge, c in zip(bridges, cells, strict=True)], 1)


def build(card: ModelCard) -> nn.Module:
    """The network that ``card`` describes, without weights."""
    return DGIQAMobile(**card.settings)

"""Why the network scores a picture as it does: what it says of each part, where it looks, which faults it sees.

Nothing here moves a score. Everything is read off maps that the network makes on its way to the score anyway, so an
explanation costs little more than a second score.

The quality of a part is the network's own head, read at each place from the statistics of a window around it in the
place of the whole picture's. The faults are a small head of their own over the same statistics, with the shares of the
pixels' values among what is near and among what is far beside them: a soft background is no blurred picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.models.dgiqa.blocks import Attention
from dgiqa.models.dgiqa_mobile.efficientnet import CHANNELS, EfficientNetLite0
from dgiqa.models.dgiqa_mobile.network import (
    _LEAST_SHARE,
    Cells,
    DGIQAMobile,
    _deviation,
    _gather,
    _spread_over,
    _statistics,
    quarter_depth,
)
from dgiqa.models.dgiqa_mobile.pixels import CELL, COUNT

#: Cells along a side of the window that gives a part's quality, from one window to the next, and by which the first
#: reaches over the edge: so each window's middle is that of a part of STEP × STEP cells.
WINDOW, STEP, OVER = 6, 2, 2
#: Keeps a picture without depth from having nothing that is near.
_LEAST_NEARNESS = 0.02
#: Faults that the head knows, in the order of its outputs.
FAULTS = (
    "defocus_blur", "motion_blur", "noise", "compression", "low_light", "over_exposure", "haze", "lens_flare",
    "low_contrast", "color_cast", "banding",
)  # fmt: skip
#: Numbers that the faults are told from: see :meth:`Explainer.evidence`.
EVIDENCE = 3 * sum(CHANNELS) + 3 * COUNT


class Explainer(nn.Module):
    """The network and what it says of its score.

    Args:
        network: on EfficientNet-Lite0 with a head over statistics and pixel shares, as the default has it, and depth
            that asks colour.

    Raises:
        ValueError: the network has no such head.

    Shapes:
        color: (V, H, W, 3) uint8 sRGB; depth: (V, H, W) uint8, 255 nearest; H and W multiples of 32.
        Returns raw (V, 2) as the network does; parts (V, H/64, W/64), the raw score of windows;
        attention (V, H/32, W/32), how much all of depth asks of each cell of colour, mean 1; faults (V, F + 1),
        probabilities of each of FAULTS and of none; severities (V, F), 0 to 5.
    """

    def __init__(self, network: DGIQAMobile) -> None:
        super().__init__()
        heads = network.head.hidden is not None and network.shares is not None and network.asks == "depth"
        if not heads or not isinstance(network.color_trunk, EfficientNetLite0):
            raise ValueError(
                "only a network on EfficientNet-Lite0 with a head over statistics and pixel shares, led by depth, "
                "is explained"
            )
        self.network = network
        self.faults = FaultHead()

    def forward(self, color: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        network = self.network
        maps = network.color_trunk(network.color_trunk.scaled(color))
        cells = [Cells.of(m, stride) for m, stride in zip(maps, network.color_trunk.strides, strict=False)]
        assert network.shares is not None
        shares = network.shares(color)
        gathered = _gather(network.color_bridges, [cells[tap] for tap in network.taps])
        deep = network._deep(quarter_depth(depth))
        stacked = network.dilated(torch.cat([network.depth_car(gathered, deep), gathered], 1))
        statistics = _statistics(cells, shares)
        raw = network.head(statistics, _spread_over(stacked))
        parts = self._parts(maps, cells, shares, stacked)
        attention = _looked_at(network.depth_car.cross.attention, deep, gathered)
        probabilities, severities = self.faults(_evidence(statistics, shares, depth))
        return raw, parts, attention, probabilities, severities

    def evidence(self, color: Tensor, depth: Tensor) -> Tensor:
        """(V, EVIDENCE): the head's statistics, and the roots of the pixels' shares among near and among far cells."""
        cells, shares = self.network._look(color)
        assert shares is not None
        return _evidence(_statistics(cells, shares), shares, depth)

    def _parts(self, maps: Sequence[Tensor], cells: Sequence[Cells], shares: Tensor, stacked: Tensor) -> Tensor:
        """The head at each window."""
        rows = []
        for full, cell, stride in zip(maps, cells, self.network.color_trunk.strides, strict=False):
            mean, square = _windows(cell.mean), _windows(cell.square)
            highest = full if stride == CELL else F.max_pool2d(full, CELL // stride)
            rows += [mean, _deviation(mean, square), F.max_pool2d(highest, WINDOW, STEP, OVER)]
        rows.append((F.relu(_windows(shares)) + _LEAST_SHARE).sqrt())
        mean = _windows(stacked)
        fused = [mean, (F.relu(_windows(stacked.square()) - mean.square()) + 1e-6).sqrt()]
        count, _, height, width = mean.shape
        statistics, fused_rows = (torch.cat(r, 1).permute(0, 2, 3, 1).flatten(0, 2) for r in (rows, fused))
        parts: Tensor = self.network.head(statistics, fused_rows)[:, 0].reshape(count, height, width)
        return parts


class FaultHead(nn.Module):
    """Evidence to probabilities and severities.

    ``slope`` and ``bias`` calibrate the logits; they are fitted last, on pictures that the rest hasn't seen.

    Shapes:
        (V, EVIDENCE) float; returns (V, F + 1) probabilities, the last that of no fault, and (V, F) severities.
    """

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        count = len(FAULTS)
        self.register_buffer("mean", torch.zeros(EVIDENCE))
        self.register_buffer("scale", torch.ones(EVIDENCE))
        self.mean: Tensor
        self.scale: Tensor
        self.dropout = nn.ModuleList([nn.Dropout(0.2), nn.Dropout(0.3)])
        self.hidden = nn.Linear(EVIDENCE, hidden)
        self.kind = nn.Linear(hidden, count + 1)
        self.severity = nn.Linear(hidden, count)
        self.register_buffer("slope", torch.ones(count + 1))
        self.register_buffer("bias", torch.zeros(count + 1))
        self.slope: Tensor
        self.bias: Tensor

    def forward(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        logits, severities = self.logits(evidence)
        return (logits * self.slope + self.bias).sigmoid(), 5 * severities.sigmoid()

    def logits(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """(V, F + 1) before calibration, and (V, F) severities before they are brought to 0..5."""
        x = ((evidence - self.mean) / self.scale).clamp(-8, 8)
        x = self.dropout[1](F.gelu(self.hidden(self.dropout[0](x))))
        return self.kind(x), self.severity(x)


def _windows(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, WINDOW, STEP, OVER, count_include_pad=False)


def _evidence(statistics: Tensor, shares: Tensor, depth: Tensor) -> Tensor:
    nearness = F.avg_pool2d(depth[:, None].float(), CELL) / 255
    rows = [statistics]
    for near in (nearness, 1 - nearness):
        weight = near.square() + _LEAST_NEARNESS
        mean = (shares * weight).mean((2, 3)) / weight.mean((2, 3))
        rows.append((F.relu(mean) + _LEAST_SHARE).sqrt())
    return torch.cat(rows, 1)


def _looked_at(attention: Attention, asking: Tensor, answering: Tensor) -> Tensor:
    """(N, h, w): the attention that each cell of ``answering`` gets, over heads and over all that ask; mean 1."""
    size = answering.shape[2:]
    rows = (asking.flatten(2).transpose(1, 2), answering.flatten(2).transpose(1, 2))
    weights, biases = attention.project.weight.chunk(3), attention.project.bias.chunk(3)
    query, key = (attention._split(F.linear(t, w, b)) for t, w, b in zip(rows, weights[:2], biases[:2], strict=True))
    scores = (query @ key.transpose(2, 3)) * (query.shape[-1] ** -0.5)
    got: Tensor = scores.softmax(3).mean((1, 2)) * key.shape[2]
    return got.reshape(len(got), *size)

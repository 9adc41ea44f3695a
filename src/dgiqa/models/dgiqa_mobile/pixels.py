"""Soft histograms of the pixels themselves: brightness, colour, differences of neighbours.

A trunk trained on ImageNet was trained not to mind brightness, contrast and colour, so its maps say little of them.
These say it: what share of a cell's pixels lies near each of some values. A pixel between two values counts for both,
by its distance, so a small change of the picture is a small change of the shares.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Pixels along a side of a cell, the stride of the trunk's smallest maps.
CELL = 32
#: Values between which differences of neighbours are shared out, of 0..255: fine where noise and blur live.
STEPS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
#: What is looked at, and between which values: at half the picture's size,
_COLORS = (("luma", 16), ("chroma", 12), ("red", 8), ("green", 8), ("blue", 8))
#: and differences across, down and against all four neighbours, in three octaves; across of red and blue less luma.
_EDGES = 3
_CHROMA_STEPS = STEPS[:7]
#: How many values all of these are.
COUNT = sum(count for _, count in _COLORS) + 3 * _EDGES * len(STEPS) + 2 * len(_CHROMA_STEPS)
#: Channels in a multiple of this are pooled ten times faster by ONNX Runtime; ramps that no hat reads fill it up.
_BLOCK = 8
#: Luma of sRGB values, as JPEG has it (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


class PixelShares(nn.Module):
    """Shares of each cell's pixels near each value.

    Shapes:
        (V, H, W, 3) uint8, H and W multiples of 32; returns (V, COUNT, H/32, W/32) float, shares of 0..1.
    """

    def __init__(self) -> None:
        super().__init__()
        colors = [_even(count) for _, count in _COLORS]
        self.at_half = _Shares([*colors, *[STEPS] * _EDGES, _CHROMA_STEPS, _CHROMA_STEPS], CELL // 2)
        self.at_quarter = _Shares([STEPS] * (2 * _EDGES), CELL // 4)
        across = [[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]
        around = [[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]
        edges = torch.tensor([across, list(map(list, zip(*across, strict=True))), around])[:, None]
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("luma", torch.tensor(_LUMA)[None, :, None, None], persistent=False)
        self.edges: Tensor
        self.luma: Tensor

    def forward(self, color: Tensor) -> Tensor:
        rgb = color.permute(0, 3, 1, 2).float()
        luma = (rgb * self.luma).sum(1, keepdim=True)
        some = rgb[:, :, ::2, ::2]
        chroma = some.amax(1, keepdim=True) - some.amin(1, keepdim=True)
        tints = (rgb[:, ::2] - luma).flatten(0, 1)[:, None]  # red and blue
        across = self._edges(tints, 2)[:, :1].reshape(len(rgb), 2, *some.shape[2:])
        half = torch.cat([luma[:, :, ::2, ::2], chroma, some, self._edges(luma, 2), across], 1)
        second = F.avg_pool2d(luma, 2)
        quarter = torch.cat([self._edges(second, 2), self._edges(F.avg_pool2d(second, 2), 1)], 1)
        return torch.cat([self.at_half(half), self.at_quarter(quarter)], 1)

    def _edges(self, x: Tensor, stride: int) -> Tensor:
        """(N, 1, H, W) to (N, 3, H/stride, W/stride): absolute differences across, down, and to all four neighbours."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), self.edges, stride=stride).abs()


class _Shares(nn.Module):
    """Planes to shares of their values, in cells.

    A share is a hat over the values, and a hat is a sum of ramps: so all hats are a ReLU between two 1×1 convolutions,
    the second of them on the cells' means.

    Shapes:
        (N, planes, h, w); returns (N, values of all planes, h/side, w/side), ``side`` that of a cell.
    """

    def __init__(self, values: Sequence[Sequence[float]], side: int) -> None:
        super().__init__()
        self.side = side
        count = sum(map(len, values))
        ramps = -(-count // _BLOCK) * _BLOCK
        which, starts = torch.zeros(ramps, len(values), 1, 1), torch.zeros(ramps)
        hats, least = torch.zeros(count, ramps, 1, 1), torch.zeros(count)
        row = 0
        for plane, centres in enumerate(values):
            rows = slice(row, row + len(centres))
            which[rows, plane] = 1
            starts[rows] = -torch.tensor(centres)
            hats[rows, rows, 0, 0] = _hats(centres)
            least[row] = 1  # below the second value the first one's share is 1 less a ramp
            row += len(centres)
        for name, value in {"which": which, "starts": starts, "hats": hats, "least": least}.items():
            self.register_buffer(name, value, persistent=False)
        self.which: Tensor
        self.starts: Tensor
        self.hats: Tensor
        self.least: Tensor

    def forward(self, planes: Tensor) -> Tensor:
        ramps = F.relu(F.conv2d(planes, self.which, self.starts))
        return F.conv2d(F.avg_pool2d(ramps, self.side), self.hats, self.least)


def _even(count: int) -> tuple[float, ...]:
    return tuple(255.0 * i / (count - 1) for i in range(count))


def _hats(centres: Sequence[float]) -> Tensor:
    """(n, n): each hat's weights of the ramps that begin at the centres."""
    n = len(centres)
    weights = torch.zeros(n, n)
    for i in range(n - 1):
        slope = 1 / (centres[i + 1] - centres[i])
        weights[i, i] -= slope  # down from its own centre to the next
        weights[i, i + 1] += slope
        weights[i + 1, i] += slope  # and the next one's hat up
        weights[i + 1, i + 1] -= slope
    return weights

"""What is done to a trunk's maps before a network reads them: standardised by channel, pooled, joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Standardising(nn.Module):
    """Knows each channel's mean and deviation over some pictures."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @torch.no_grad()
    def fit_statistics(self, features: Tensor) -> None:
        """Takes them from the maps (N, C, H, W) of some pictures; until then they are 0 and 1."""
        self.mean.copy_(features.mean((0, 2, 3)))
        self.deviation.copy_(features.std((0, 2, 3)) + 1e-3)

    def standardise(self, features: Tensor) -> Tensor:
        """Channels minus their mean, over their deviation. (N, C, H, W) to the same."""
        return (features - self.mean[:, None, None]) / self.deviation[:, None, None]


class Standard(Standardising):
    """That as a layer. (N, C, H, W) to the same."""

    def forward(self, features: Tensor) -> Tensor:
        return self.standardise(features)


class Standards(nn.ModuleList):
    """A :class:`Standard` for each of several maps. (N, C_i, H_i, W_i) each to a list of the same."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(Standard(count) for count in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [standard(features) for standard, features in zip(self, maps, strict=True)]

    def fit_statistics(self, maps: Sequence[Tensor]) -> None:
        """Takes each channel's mean and deviation over some pictures, by which it is standardised from then on."""
        for standard, features in zip(self, maps, strict=True):
            standard.fit_statistics(features)  # type: ignore[operator]


def pool(features: Tensor, side: int) -> Tensor:
    """Means of equal blocks: (N, C, n · side, n · side) to (N, C, side, side).

    Raises:
        ValueError: blocks of equal size don't fill the map.
    """
    if features.shape[2] % side or features.shape[2] != features.shape[3]:
        raise ValueError(f"a map of {features.shape[2]}×{features.shape[3]} has no {side}×{side} equal square blocks")
    return F.avg_pool2d(features, features.shape[2] // side)


def join(maps: Sequence[Tensor], side: int | None = None) -> Tensor:
    """Maps of several scales as one of ``side`` × ``side``, the last one's by default, by means over blocks.

    Shapes:
        maps: (N, C_i, n · side, n · side) float each; returns (N, sum of C_i, side, side).

    Raises:
        ValueError: as :func:`pool`.
    """
    side = maps[-1].shape[2] if side is None else side
    return torch.cat([pool(features, side) for features in maps], 1)

"""MANIQA, behind its trunk: attention between channels, Swin blocks at one scale, a score and a weight a place.

Yang et al., "MANIQA: Multi-dimension Attention Network for No-Reference Image Quality Assessment", arXiv:2204.08958,
section 3. Widths are free, so that the systems that build on it, and their small networks, share the blocks. Maps keep
their size throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.models.dgiqa.swin import Block


class Maniqa(nn.Module):
    """All between the trunk and the heads: two rounds of transposed attention, 1×1 convolution, Swin stages.

    Shapes:
        (N, inputs, side, side) float, such as the tokens of some blocks of a ViT as a map behind each other;
        returns (N, width // 2, side, side).

    Args:
        width: channels of the first round; the second has half of them. Both are multiples of ``heads``.
        side: of the map; a multiple of ``window``.
        hidden: width inside the perceptrons of the Swin blocks, the same in both rounds.
        attentions: transposed attention blocks of each round.
        depths, scale, dropout: see :class:`SwinStages`.
        scrambled: see :class:`TransposedAttention`.
    """

    def __init__(
        self,
        inputs: int,
        width: int = 768,
        *,
        side: int = 28,
        heads: int = 4,
        window: int = 4,
        hidden: int = 768,
        attentions: int = 2,
        depths: Sequence[int] = (2, 2),
        scale: float = 0.8,
        dropout: float = 0.1,
        scrambled: bool = True,
    ) -> None:
        super().__init__()

        def attention() -> nn.Sequential:
            return nn.Sequential(*(TransposedAttention(side**2, dropout, scrambled) for _ in range(attentions)))

        def stages(channels: int) -> SwinStages:
            return SwinStages(
                channels,
                side=side,
                heads=heads,
                window=window,
                hidden=hidden,
                depths=depths,
                scale=scale,
                dropout=dropout,
            )

        self.attention1 = attention()
        self.conv1 = nn.Conv2d(inputs, width, 1)
        self.stages1 = stages(width)
        self.attention2 = attention()
        self.conv2 = nn.Conv2d(width, width // 2, 1)
        self.stages2 = stages(width // 2)

    def forward(self, features: Tensor) -> Tensor:
        features = self.stages1(self.conv1(self.attention1(features)))
        out: Tensor = self.stages2(self.conv2(self.attention2(features)))
        return out


class TransposedAttention(nn.Module):
    """Transposed attention block (TAB): channels attend to each other, each one a token of ``places`` numbers.

    One head, the residual sum, no norm (figure 3 of the paper).

    Shapes:
        features: (N, C, places) float, or (N, C, H, W) with H * W = places; returns the same shape.

    Args:
        scrambled: as the authors' code does and so their weights need it, what is attended is transposed and then read
            in rows of ``places`` as if it weren't; the sum then adds numbers of other channels and places. False is the
            paper's equation.
    """

    def __init__(self, places: int, dropout: float = 0.1, scrambled: bool = True) -> None:
        super().__init__()
        self.query = nn.Linear(places, places)
        self.key = nn.Linear(places, places)
        self.value = nn.Linear(places, places)
        self.dropout = nn.Dropout(dropout)
        self.scrambled = scrambled

    def forward(self, features: Tensor) -> Tensor:
        channels = features.flatten(2).unsqueeze(1)  # (N, 1, C, L): the exporter wants an axis of heads
        attended = F.scaled_dot_product_attention(self.query(channels), self.key(channels), self.value(channels))
        attended = attended.squeeze(1)
        if self.scrambled:
            attended = attended.transpose(1, 2)
        out: Tensor = features + self.dropout(attended.reshape(features.shape))
        return out


class SwinStages(nn.Module):
    """Stages of Swin blocks at one scale, each closed by a 3×3 convolution and added, scaled, to the stream.

    Shapes:
        features: (N, channels, side, side) float; returns the same shape.

    Args:
        window: side of the windows; every second block shifts them by half, unless one is the whole map.
        depths: blocks of each stage.
        scale: of what a stage adds.
        dropout: before the first stage.
        drop_path: of the last block, falling linearly to 0 at the first.
    """

    def __init__(
        self,
        channels: int,
        *,
        side: int,
        heads: int = 4,
        window: int = 4,
        hidden: int = 768,
        depths: Sequence[int] = (2, 2),
        scale: float = 0.8,
        dropout: float = 0.1,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if side % window:
            raise ValueError(f"windows of {window} places don't fill a map of {side}")
        if channels % heads:
            raise ValueError(f"{channels} channels can't be shared out to {heads} heads")
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.stages = nn.ModuleList()
        for number, depth in enumerate(depths):
            first = sum(depths[:number])
            blocks = (
                Block(
                    channels,
                    heads,
                    side,
                    shift=0 if side == window else (i % 2) * (window // 2),
                    drop_path=drop_path * (first + i) / max(1, sum(depths) - 1),
                    window=window,
                    hidden=hidden,
                )
                for i in range(depth)
            )
            self.stages.append(
                nn.ModuleDict({"blocks": nn.Sequential(*blocks), "conv": nn.Conv2d(channels, channels, 3, padding=1)})
            )

    def forward(self, features: Tensor) -> Tensor:
        features = self.dropout(features)
        for stage in self.stages:
            tokens = stage["blocks"](features.permute(0, 2, 3, 1))  # type: ignore[index]
            convolved = F.relu(stage["conv"](tokens.permute(0, 3, 1, 2)))  # type: ignore[index]
            features = features + self.scale * convolved
        return features


class DualHead(nn.Module):
    """A score and a weight for each place (patch weighting, section 3.4).

    Shapes:
        features: (N, channels, H, W) float. ``forward`` gives (N,), the weighted mean of the scores, not negative;
        ``read`` gives both, (N, H * W) each: scores from 0, weights in 0..1.
    """

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.score = _perceptron(channels, dropout)
        self.weight = _perceptron(channels, dropout)

    def forward(self, features: Tensor) -> Tensor:
        scores, weights = self.read(features)
        return (scores * weights).sum(1) / weights.sum(1)

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        tokens = features.flatten(2).transpose(1, 2)  # (N, L, C)
        return F.relu(self.score(tokens)).squeeze(2), self.weight(tokens).sigmoid().squeeze(2)


def _perceptron(channels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Dropout(dropout), nn.Linear(channels, 1))

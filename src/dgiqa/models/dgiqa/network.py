"""DGIQA, the paper's network: colour and depth of a crop to its quality.

Ramesh et al., "DGIQA: Depth-guided Feature Attention and Refinement for Generalizable Image Quality
Assessment", arXiv:2505.24002; widths, order and constants as the authors' released network has them.
Two Swin-T that share nothing, a bridge for each stage of each, depth-guided attention with refinement on
7×7 tokens of 960 channels, a dilated stack, one number.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.models.dgiqa.blocks import DepthCAR, DilatedStack, TransformerCNNBridge, gather
from dgiqa.models.dgiqa.swin import CHANNELS, SwinTiny

#: Channels of the four bridges; together the width of Depth-CAR.
BRIDGES = (64, 128, 256, 512)
HEADS = 16
DILATED = 1024


class DGIQA(nn.Module):
    """uint8 colour and depth to a score.

    Shapes:
        color: (V, 224, 224, 3) uint8 sRGB; depth: (V, 224, 224) uint8, 255 nearest.
        Returns (V,) float32 in 0..1, higher is better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.color_trunk = SwinTiny()
        self.depth_trunk = SwinTiny()
        self.color_bridges = _bridges()
        self.depth_bridges = _bridges()
        self.depth_car = DepthCAR(sum(BRIDGES), HEADS)
        self.dilated = DilatedStack(sum(BRIDGES), DILATED)
        self.head = nn.Linear(DILATED, 1)
        self.normalise = Normalise()

    def forward(self, color: Tensor, depth: Tensor) -> Tensor:
        # The depth map goes in as a grey picture, with ImageNet's statistics like the colour.
        grey = depth.unsqueeze(-1).expand(-1, -1, -1, 3)
        return self.score(self.normalise(color), self.normalise(grey))

    def score(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Scores of normalised pictures.

        Shapes:
            rgb, depth: (N, 3, 224, 224) float; returns (N,) in 0..1.
        """
        color_map = self._describe(rgb, self.color_trunk, self.color_bridges)  # (N, 960, 7, 7)
        depth_map = self._describe(depth, self.depth_trunk, self.depth_bridges)
        context = self.dilated(self.depth_car(color_map, depth_map))  # (N, 1024, 7, 7)
        out: Tensor = torch.sigmoid(self.head(context.mean((2, 3)))).squeeze(1)
        return out

    def _describe(self, picture: Tensor, trunk: nn.Module, bridges: nn.ModuleList) -> Tensor:
        """All stages of one trunk, bridged, at the size of the last."""
        maps = [bridge(features) for bridge, features in zip(bridges, trunk(picture), strict=True)]
        return gather(maps, maps[-1].shape[2:])


class Normalise(nn.Module):
    """uint8 pixels to floats with the mean and deviation of ImageNet. (N, H, W, 3) to (N, 3, H, W)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants, not weights: they don't belong into a checkpoint.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() / 255 - self.mean) / self.deviation).permute(0, 3, 1, 2)


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights. The paper's network has no settings."""
    return DGIQA(**card.settings)


def _bridges() -> nn.ModuleList:
    return nn.ModuleList(TransformerCNNBridge(a, b) for a, b in zip(CHANNELS, BRIDGES, strict=True))

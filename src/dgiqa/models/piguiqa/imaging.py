"""How water made a picture: what share of the scene's light arrived, how much light the water added, patch by patch.

Xian et al., "PIGUIQA", arXiv:2412.15527, after the model of Jaffe and McGlamery. Of light c in red, green, blue:

    I_c = J_c T_c + B_c,    T_c = e_c exp(-d_c l),    B_c = w_c (1 - exp(-b_c l))

I: the picture; J: the scene; l: distance, by pixel; e: daylight left at the scene; d, b: attenuation and scattering by
distance; w: the water's own light. Everything is linear light, not sRGB. :mod:`dgiqa.distortions.underwater` has the
same formula the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Least share of light that a scene is recovered through.
LEAST = 0.05
#: Light below which a patch is black, and has no shares.
BLACK = 1e-3
#: Maps of distortion: lost on the way, added by the water, in red, green and blue.
MAPS = 6


class Water(NamedTuple):
    """(N, 3, H, W) each, 0..1: the share of the scene's light that arrives, and the light that the water adds."""

    transmission: Tensor
    backscatter: Tensor


def to_linear(color: Tensor) -> Tensor:
    """(V, H, W, 3) uint8 sRGB to (V, 3, H, W) linear light, 0..1."""
    rgb = color.permute(0, 3, 1, 2).float() / 255
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


class ImagingModel(nn.Module):
    """Estimates the water of a picture: a distance by pixel, twelve numbers of the water, the formula above.

    Features are brought to one width and summed from the coarsest to the finest, each beside the picture's own light.
    A distance has no unit: only its products with attenuation and scattering count.

    Shapes:
        light: (N, 3, H, W) linear; features: (N, channels_i, H_i, W_i) float, fine to coarse, each half the one
        before, H a multiple of H_0. Returns :class:`Water` of the light's size.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)
        self.laterals = nn.ModuleList(nn.Conv2d(c + 3, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.distance = nn.Conv2d(width, 1, 1)
        self.water = nn.Sequential(nn.Linear(width + 9, 2 * width), nn.ReLU(), nn.Linear(2 * width, 12))

    def forward(self, light: Tensor, features: Sequence[Tensor]) -> Water:
        summed, coarsest = None, None
        for i in reversed(range(len(features))):
            seen = F.avg_pool2d(light, light.shape[2] // features[i].shape[2])
            # The root spreads the dark tones in which water lies.
            level = self.laterals[i](torch.cat([self.norms[i](features[i]), seen.sqrt()], 1))
            if summed is None:
                coarsest = seen
            else:
                level = level + F.interpolate(summed, scale_factor=2.0, mode="nearest")
            summed = F.relu(self.smooth[i](F.relu(level)))
        assert summed is not None
        assert coarsest is not None
        distance = F.interpolate(
            F.softplus(self.distance(summed)), size=light.shape[2:], mode="bilinear", align_corners=False
        )
        tones = torch.cat([coarsest.mean((2, 3)), coarsest.amin((2, 3)), coarsest.amax((2, 3))], 1).sqrt()
        water = self.water(torch.cat([summed.mean((2, 3)), tones], 1))[:, :, None, None]
        daylight, attenuation, scattering, color = water.chunk(4, 1)
        return form(distance, daylight.sigmoid(), F.softplus(attenuation), F.softplus(scattering), color.sigmoid())


def form(distance: Tensor, daylight: Tensor, attenuation: Tensor, scattering: Tensor, color: Tensor) -> Water:
    """The formula at the head of this file.

    Shapes: distance (N, 1, H, W); the water's (N, 3, 1, 1) each; none is negative.
    """
    return Water(daylight * torch.exp(-attenuation * distance), color * (1 - torch.exp(-scattering * distance)))


def distortion_maps(light: Tensor, water: Water, patch: int) -> Tensor:
    """What the water did to each patch: the share of the scene's light that was lost, and the share of the picture's
    light that is the water's.

    The scene is recovered by the formula, through a transmission of at least LEAST, and is no lighter than white.

    Shapes:
        light: (N, 3, H, W) linear, H and W multiples of ``patch``; returns (N, 6, H / patch, W / patch) in 0..1: lost
        in red, green, blue; added in red, green, blue.
    """
    transmission, backscatter = water
    added = torch.minimum(backscatter, light)
    scene = ((light - added) / transmission.clamp(min=LEAST)).clamp(max=1)
    lost = F.avg_pool2d(scene * (1 - transmission), patch) / F.avg_pool2d(scene, patch).clamp(min=BLACK)
    return torch.cat([lost, F.avg_pool2d(added, patch) / F.avg_pool2d(light, patch).clamp(min=BLACK)], 1)

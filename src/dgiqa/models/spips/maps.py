"""The five maps of SPIPS: where a picture differs from its original, as pixels, structure and deep features see it.

Lao, Yu, "Scene Perceived Image Perceptual Score (SPIPS): combining global and local perception for image quality
assessment", arXiv:2504.17234. Each map lies in 0..1, 0 where both pictures are equal: lower is better. PSNR and SSIM
are those of :mod:`dgiqa.models.full_reference` before the mean over the picture; the bounds are constants, so that a
map's strength isn't lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dgiqa.models.full_reference import ms_ssim
from dgiqa.models.full_reference._filters import gaussian
from dgiqa.models.full_reference.ssim import DEVIATION, K1, K2, WINDOW

#: Features of the picture, and of its original.
Layers = tuple[Tensor, Tensor]

#: Pixels of the picture a side of one pixel of the maps.
STRIDE = 8
#: Added to the mean square error, which makes 80 dB the most that there is.
_LEAST, _MOST = 1e-8, 80.0
#: Least contrast and structure of MS-SSIM's map: small powers of nothing are steep.
_FLOOR = 1e-3
_TINY = 1e-10


def compare(x: Tensor, y: Tensor, early: Sequence[Layers], late: Sequence[Layers]) -> Tensor:
    """The five maps: PSNR, SSIM, MS-SSIM, perceptual (early layers), semantic (late layers).

    Shapes:
        x, y: (V, 3, H, W) float in 0..1, H and W multiples of 32; layers: pairs of (V, C, h, w) float.
        Returns (V, 5, H/8, W/8) float in 0..1, 0 where equal.
    """
    height, width = x.shape[2] // STRIDE, x.shape[3] // STRIDE
    maps = [psnr_map(x, y), ssim_map(x, y), ms_ssim_map(x, y)]
    maps += [torch.stack([_to(_unlike(*pair), height, width) for pair in pairs]).mean(0) for pairs in (early, late)]
    return torch.cat(maps, 1)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """(V, 1, H, W) mean over the channels; its mean is the mean square error of PSNR."""
    return (x - y).square().mean(1, keepdim=True)


def psnr_map(x: Tensor, y: Tensor) -> Tensor:
    """(V, 1, H/8, W/8): 1 less the decibels of each block of 8×8 pixels, of 80."""
    error = F.avg_pool2d(squared_error(x, y), STRIDE)
    return (1 + 10 / _MOST * torch.log10(error + _LEAST)).clamp(0, 1)


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """(V, 1, H/8, W/8): half of what SSIM, -1..1, lacks to 1."""
    height, width = x.shape[2] // STRIDE, x.shape[3] // STRIDE
    side = max(1, round(min(x.shape[2:]) / 256))
    whole, _ = similarity(F.avg_pool2d(x, side), F.avg_pool2d(y, side))
    return (1 - _to(_widened(whole.mean(1, keepdim=True)), height, width)) / 2


def ms_ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """(V, 1, H/8, W/8): what the product over the scales, each to the power of its weight, lacks to 1."""
    height, width = x.shape[2] // STRIDE, x.shape[3] // STRIDE
    scales = multi_scale(x, y)
    weights = ms_ssim.WEIGHTS[: len(scales)] / ms_ssim.WEIGHTS[: len(scales)].sum()
    product = torch.ones_like(x[:, :, :height, :width])
    for scale, weight in zip(scales, weights, strict=True):
        product = product * _to(_widened(scale), height, width).clamp(min=_FLOOR) ** float(weight)
    return (1 - product.mean(1, keepdim=True)).clamp(0, 1)


def multi_scale(x: Tensor, y: Tensor) -> list[Tensor]:
    """Contrast and structure at each of MS-SSIM's scales, the coarsest with luminance: (V, 3, h, w) each.

    A picture that is too small for five scales has those that hold a window.
    """
    parts: list[tuple[Tensor, Tensor]] = []
    while len(parts) < len(ms_ssim.WEIGHTS) and min(x.shape[2:]) >= WINDOW:
        parts.append(similarity(x, y))
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return [structure for _, structure in parts[:-1]] + [parts[-1][0]]


def similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM at each place, and its part of contrast and structure: (V, 3, H - 10, W - 10) each."""
    c1, c2 = K1**2, K2**2
    mean_x, mean_y = _filtered(x), _filtered(y)
    # Variances don't change with an offset, and about the middle of the range less is lost to rounding.
    x, y = x - 0.5, y - 0.5
    from_x, from_y = mean_x - 0.5, mean_y - 0.5
    var_x, var_y = _filtered(x * x) - from_x**2, _filtered(y * y) - from_y**2
    both = _filtered(x * y) - from_x * from_y
    structure = (2 * both + c2) / (var_x + var_y + c2)
    whole = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * structure
    return whole, structure


def _filtered(planes: Tensor) -> Tensor:
    """Each channel by the Gaussian window, down and across, where it lies inside."""
    window = torch.tensor(gaussian(WINDOW, DEVIATION), dtype=planes.dtype, device=planes.device)
    channels = planes.shape[1]
    down = window.reshape(1, 1, WINDOW, 1).expand(channels, -1, -1, -1)
    across = window.reshape(1, 1, 1, WINDOW).expand(channels, -1, -1, -1)
    return F.conv2d(F.conv2d(planes, down, groups=channels), across, groups=channels)


def _widened(valid: Tensor) -> Tensor:
    """The size of the picture again, by repeating the edge where no window fits."""
    return F.pad(valid, (WINDOW // 2,) * 4, mode="replicate")


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    """(N, 1, h, w) squared difference of features of unit length a pixel, of 4."""
    a, b = (features * (features.square().sum(1, keepdim=True) + _TINY).rsqrt() for features in (a, b))
    return (a - b).square().sum(1, keepdim=True) / 4


def _to(plane: Tensor, height: int, width: int) -> Tensor:
    """Means over blocks, or linear between pixels where the plane is smaller."""
    if plane.shape[2] >= height:
        return F.avg_pool2d(plane, plane.shape[2] // height)
    return F.interpolate(plane, size=(height, width), mode="bilinear", align_corners=False)

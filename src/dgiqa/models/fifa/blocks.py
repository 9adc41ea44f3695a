"""The parts of the landmark network: blur pooling, the residual hourglass, the frequency filter, places of heat maps.

Hourglass: Newell et al., arXiv:1603.06937, section 3. Blur pooling: Zhang, "Making Convolutional Networks
Shift-Invariant Again", arXiv:1904.11486, section 3.2. FF-Parser: Wu et al., "MedSegDiff", arXiv:2211.00611, section
3.3. Places: Nibali et al., "Numerical Coordinate Regression", arXiv:1801.07372, section 4.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlurPool(nn.Module):
    """Halves a map without aliasing: the binomial filter 1-2-1 in both directions, then every second value.

    Shapes: (N, C, H, W) to (N, C, H / 2, W / 2), H and W even.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(line, line).expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.kernel, stride=2, groups=x.shape[1])


class Residual(nn.Module):
    """Norm, ReLU and convolution three times, 1×1, 3×3, 1×1, the middle half as wide; the sum with the input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = outputs // 2
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, middle, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(middle), nn.Conv2d(middle, middle, 3, padding=1)
        self.norm3, self.conv3 = nn.BatchNorm2d(middle), nn.Conv2d(middle, outputs, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.conv3(F.relu(self.norm3(y)))
        out: Tensor = y + (x if self.skip is None else self.skip(x))
        return out


class Hourglass(nn.Module):
    """Down ``levels`` times and up again, with what was lost kept beside it. Anti-aliased: the maximum is taken
    densely, then blurred and thinned out (section 3.2 of the blur pooling paper).

    Shapes: (N, C, H, W) to the same, H and W multiples of 2 to the power of ``levels``.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.beside = Residual(width, width)
        self.shrink = BlurPool(width)
        self.before = Residual(width, width)
        self.inner: nn.Module = Hourglass(width, levels - 1) if levels > 1 else Residual(width, width)
        self.after = Residual(width, width)

    def forward(self, x: Tensor) -> Tensor:
        small = self.shrink(F.max_pool2d(F.pad(x, (0, 1, 0, 1), "replicate"), 2, 1))
        small = self.after(self.inner(self.before(small)))
        out: Tensor = self.beside(x) + F.interpolate(small, scale_factor=2.0, mode="nearest")
        return out


class FrequencyFilter(nn.Module):
    """FF-Parser: each frequency of each channel times a learned complex number, which is a circular convolution as
    large as the map. It starts as the identity.

    The transforms are products with matrices of cosines and sines, so that every runtime has them.

    Shapes: (N, C, side, side) to the same.
    """

    row_cos: Tensor
    row_sin: Tensor
    cos: Tensor
    sin: Tensor
    share: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        half = side // 2 + 1
        start = torch.zeros(2, channels, side, half)
        start[0] = 1
        self.weight = nn.Parameter(start + 0.02 * torch.randn(start.shape))
        turn = 2 * math.pi / side * torch.outer(torch.arange(side), torch.arange(side)).remainder(side).double()
        share = torch.full((half,), 2.0)  # real maps: the other half of the frequencies is the mirror of this one
        share[0] = 1
        share[-1] = 1 if side % 2 == 0 else 2
        for name, values in (
            ("row_cos", turn[:, :half].cos()), ("row_sin", turn[:, :half].sin()), ("cos", turn.cos()),
            ("sin", turn.sin()), ("share", share / side**2),
        ):  # fmt: skip
            self.register_buffer(name, values.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        real, imaginary = x @ self.row_cos, -(x @ self.row_sin)
        real, imaginary = self.cos @ real + self.sin @ imaginary, self.cos @ imaginary - self.sin @ real
        a, b = self.weight[0], self.weight[1]
        real, imaginary = a * real - b * imaginary, a * imaginary + b * real
        real, imaginary = self.cos @ real - self.sin @ imaginary, self.cos @ imaginary + self.sin @ real
        out: Tensor = (real * self.share) @ self.row_cos.T - (imaginary * self.share) @ self.row_sin.T
        return out


class Places(nn.Module):
    """Soft-argmax: the mean place of each heat map, whose softmax is taken as probabilities.

    Shapes: (N, K, side, side) to (N, K, 2), x and y as shares 0..1 of the picture's sides.
    """

    at: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("at", (torch.arange(side) + 0.5) / side, persistent=False)

    def forward(self, heat: Tensor) -> Tensor:
        shares = heat.flatten(2).softmax(2).reshape(heat.shape)
        return torch.stack([shares.sum(2) @ self.at, shares.sum(3) @ self.at], 2)

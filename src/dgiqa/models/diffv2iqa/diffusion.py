"""SR3: a denoiser that sees the spoiled picture, and its sampler.

Saharia et al., "Image Super-Resolution via Iterative Refinement", arXiv:2104.07636, sections 2 and 3; widths, order and
constants as the SR3 code has them that DiffV2IQA (arXiv:2402.14401) restores pictures with. Pictures are in -1..1. A
noise level is the share of the picture that is left, the root of the cumulative product of alphas: 1 is no noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.types import Float32

Float64 = npt.NDArray[np.float64]

#: Steps of the schedule that is trained on.
TRAINING_STEPS = 2000
#: What a step may take away at most, so that the last one leaves something.
LARGEST_BETA = 0.999
#: Offset of the cosine, section 3.2 of Nichol and Dhariwal, arXiv:2102.09672.
OFFSET = 0.008
#: Seed of the fixed noise.
SEED = 2104_07636


class Denoiser(nn.Module):
    """The U-Net: the noise in a noisy picture, given the spoiled one.

    Shapes:
        spoiled, noisy: (N, 3, H, W) float, H and W multiples of 2^(levels - 1); level: (N,) 0..1.
        Returns (N, 3, H, W).

    Args:
        inner: channels at full size.
        multiples: channels of each level in units of ``inner``; each level halves the size.
        attending: levels, counted from 0, whose blocks attend; the first block of the middle does in any case. Level 3
            is 16 pixels wide for a picture of 128.
        blocks: of each level on the way down; one more on the way up.
        groups: of the group norms.
        prior: 0 is the paper's. Above 0, the noise is first guessed by a formula, as if the original were the spoiled
            picture with normal errors of this deviation, and the network gives what is missing, in units of what is
            left to guess: preconditioning, Karras et al., arXiv:2206.00364, section 5. It needs far less training.
    """

    def __init__(
        self,
        *,
        inner: int = 64,
        multiples: Sequence[int] = (1, 2, 4, 8, 8),
        attending: Sequence[int] = (3,),
        blocks: int = 2,
        dropout: float = 0.2,
        groups: int = 32,
        prior: float = 0.0,
    ) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, attends: bool) -> Block:
            return Block(inputs, outputs, inner, attends=attends, dropout=dropout, groups=groups)

        self.inner, self.prior = inner, prior
        self.level = nn.Sequential(nn.Linear(inner, 4 * inner), nn.SiLU(), nn.Linear(4 * inner, inner))
        self.first = nn.Conv2d(6, inner, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, kept = inner, [inner]
        last = len(multiples) - 1
        for number, multiple in enumerate(multiples):
            layers = nn.ModuleList()
            for _ in range(blocks):
                layers.append(block(channels, multiple * inner, number in attending))
                channels = multiple * inner
                kept.append(channels)
            if number < last:
                layers.append(Shrink(channels))
                kept.append(channels)
            self.down.append(layers)
        self.middle = nn.ModuleList([block(channels, channels, True), block(channels, channels, False)])
        for number in range(last, -1, -1):
            layers = nn.ModuleList()
            for _ in range(blocks + 1):
                layers.append(block(channels + kept.pop(), multiples[number] * inner, number in attending))
                channels = multiples[number] * inner
            if number:
                layers.append(Grow(channels))
            self.up.append(layers)
        self.last = nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, spoiled: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        known = self.level(encode_level(level, self.inner))
        x = self.first(torch.cat([spoiled, noisy], 1))
        kept = [x]
        for layers in self.down:
            for layer in layers:  # type: ignore[attr-defined]
                x = layer(x, known)
                kept.append(x)
        for layer in self.middle:
            x = layer(x, known)
        for layers in self.up:
            for layer in layers:  # type: ignore[attr-defined]
                x = layer(torch.cat([x, kept.pop()], 1) if isinstance(layer, Block) else x, known)
        out: Tensor = self.last(x)
        if not self.prior:
            return out
        share = level[:, None, None, None]
        noise, error = 1 - share**2, (self.prior * share) ** 2  # variances of what the noisy picture holds
        guess = noise.sqrt() / (noise + error) * (noisy - share * spoiled)
        return guess + (error / (noise + error)).sqrt() * out


def encode_level(level: Tensor, width: int) -> Tensor:
    """(N, width): sines, then cosines, of (N,) noise levels at ``width / 2`` frequencies from 1 to nearly 1/10000."""
    frequencies = torch.exp(-math.log(1e4) / (width // 2) * torch.arange(width // 2, device=level.device))
    angles = level[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """Two 3×3 convolutions, each normalised and activated before; the noise level is added between them.

    Shapes: (N, inputs, H, W) and (N, known) to (N, outputs, H, W).
    """

    def __init__(
        self, inputs: int, outputs: int, known: int, *, attends: bool, dropout: float = 0.0, groups: int = 32
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.level = nn.Linear(known, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = Attention(outputs, groups) if attends else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x))) + self.level(known)[:, :, None, None]
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        out: Tensor = self.attention(y + self.shortcut(x))
        return out


class Attention(nn.Module):
    """All places attend to each other, with one head; the sum with the input. (N, channels, H, W) to the same."""

    def __init__(self, channels: int, groups: int = 32) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        places = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1)  # (N, 1, HW, 3C)
        query, key, value = places.chunk(3, 3)
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.out(attended.squeeze(1).transpose(1, 2).reshape(x.shape))
        return out


class Shrink(nn.Module):
    """Half the size, by a 3×3 convolution. The noise level is not used; all layers take it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Grow(nn.Module):
    """Twice the size: each pixel four times, then a 3×3 convolution. The noise level is not used."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Restoration(nn.Module):
    """Samples the restored picture in ``steps``, and gives the last three samples that are kept.

    The sampler is the paper's, ancestral. Its noise is fixed, so that a picture has one restoration: one noise picture,
    stored with the weights, is the start, and each step adds it moved to another place.

    Shapes:
        spoiled: (N, 3, side, side) float in -1..1.
        Returns d0, d1, d2, each like ``spoiled``: the samples after the last step, which has no noise, and
        ``every`` and 2 * ``every`` steps before, which have more and more.

    Raises:
        ValueError: too few steps for three samples; pictures of another size than the noise.
    """

    noise: Tensor

    def __init__(self, denoiser: Denoiser, *, side: int, steps: int = 50, every: int = 5) -> None:
        super().__init__()
        if not 0 < 2 * every < steps:
            raise ValueError(f"{steps} steps don't give three samples that are {every} steps apart")
        self.denoiser, self.steps, self.every = denoiser, steps, every
        self.register_buffer("noise", torch.tensor(fixed_noise((3, side, side))))

    def forward(self, spoiled: Tensor) -> list[Tensor]:
        if spoiled.shape[1:] != self.noise.shape:
            raise ValueError(f"pictures of {tuple(spoiled.shape[1:])} don't fit noise of {tuple(self.noise.shape)}")
        left = cosine_schedule(self.steps)
        kept = []
        x = self._noise_of(self.steps).expand_as(spoiled)
        for step in range(self.steps - 1, -1, -1):
            now, then = left[step], left[step - 1] if step else 1.0
            level = torch.full_like(spoiled[:, 0, 0, 0], math.sqrt(now))
            noise = self.denoiser(spoiled, x, level)
            clean = ((x - math.sqrt(1 - now) * noise) / math.sqrt(now)).clamp(-1, 1)
            # The posterior of one step, section 2.3 of the paper: a mean of both, and some noise anew.
            of_clean, of_noisy, spread = posterior(now, then)
            x = of_clean * clean + of_noisy * x
            if step:
                x = x + spread * self._noise_of(step)
            if step % self.every == 0:
                kept.append(x.clamp(-1, 1))
        return kept[:-4:-1]

    def loss(self, spoiled: Tensor, original: Tensor) -> Tensor:
        """Mean absolute error of the predicted noise at a random level of each picture, section 2.2.

        Shapes:
            spoiled, original: (N, 3, H, W) float in -1..1, of any size that the denoiser takes; returns a number.
        """
        roots = torch.from_numpy(np.sqrt(np.append(1.0, cosine_schedule(TRAINING_STEPS)))).to(original)
        step = torch.randint(1, TRAINING_STEPS + 1, (len(original),), device=original.device)
        level = torch.lerp(roots[step], roots[step - 1], torch.rand(len(original), device=original.device))
        share = level[:, None, None, None]
        noise = torch.randn_like(original)
        noisy = share * original + (1 - share**2).sqrt() * noise
        return F.l1_loss(self.denoiser(spoiled, noisy, level), noise)

    def _noise_of(self, step: int) -> Tensor:
        """(3, side, side) of one step: the fixed noise, moved by steps that don't divide its side."""
        side = self.noise.shape[1]
        return torch.roll(self.noise, (37 * step % side, 59 * step % side), (1, 2))


def cosine_schedule(steps: int) -> Float64:
    """(steps,) what each step of noise leaves of the picture's variance, falling; equation 17 of arXiv:2102.09672."""
    at = (np.arange(steps + 1) / steps + OFFSET) / (1 + OFFSET)
    curve = np.cos(at * np.pi / 2) ** 2
    betas = np.minimum(1 - curve[1:] / curve[:-1], LARGEST_BETA)
    left: Float64 = np.cumprod(1 - betas)
    return left


def posterior(now: float, then: float) -> tuple[float, float, float]:
    """The step before, given the picture and the step now: shares of both in its mean, and its deviation.

    Args:
        now, then: what is left of the variance after this step of noise, and after the one before.
    """
    alpha = now / then
    of_clean = (1 - alpha) * math.sqrt(then) / (1 - now)
    of_noisy = (1 - then) * math.sqrt(alpha) / (1 - now)
    return of_clean, of_noisy, math.sqrt((1 - alpha) * (1 - then) / (1 - now))


def fixed_noise(shape: tuple[int, ...]) -> Float32:
    """Normal noise that 16 bits hold, the same everywhere: NumPy promises the bits of this generator, no more."""
    count = math.prod(shape)
    bits = np.random.PCG64(SEED).random_raw(2 * count).reshape(2, -1)
    radius, angle = (bits >> np.uint64(11)) * 2.0**-53  # 0..1, without 1
    normal = np.sqrt(-2 * np.log(1 - radius)) * np.cos(2 * np.pi * angle)  # Box and Muller
    noise: Float32 = normal.reshape(shape).astype(np.float16).astype(np.float32)
    return noise

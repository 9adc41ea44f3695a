"""The blocks of SaTQA: streams, the multi-stream block that joins them, patch attention.

Shi, Gao, Qin, "Transformer-Based No-Reference Image Quality Assessment via Supervised Contrastive Learning",
arXiv:2312.06995. Deformable convolution is of Dai et al., arXiv:1703.06211, the gate of Woo et al. (CBAM),
arXiv:1807.06521. Blocks take and give (N, C, H, W) floats and keep H and W.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.models.trunks.vit import Perceptron, SelfAttention


class DeformableConv(nn.Module):
    """A convolution whose taps each look beside their place, by offsets that another convolution reads off the map.

    The offsets start at 0: an ordinary convolution with zeros around the map.
    """

    taps: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.offset = nn.Conv2d(inputs, 2 * kernel**2, kernel, padding=kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel)  # holds the weights; its taps are laid out by ``sample``
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        reach = torch.arange(kernel) - kernel // 2
        taps = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), -1).reshape(-1, 2)
        self.register_buffer("taps", taps.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        offsets = self.offset(x).reshape(len(x), len(self.taps), 2, *x.shape[2:])
        sampled = sample(x, offsets + self.taps[:, :, None, None])
        return F.conv2d(sampled.flatten(1, 2), self.conv.weight.flatten(1)[:, :, None, None], self.conv.bias)


def sample(x: Tensor, away: Tensor) -> Tensor:
    """Values bilinearly between pixels, at K places around each pixel; 0 beyond the border.

    Shapes:
        x: (N, C, H, W) float, H and W at least 2; away: (N, K, 2, H, W) float, rows and columns from the pixel itself.
        Returns (N, C, K, H, W).
    """
    height, width = x.shape[2:]
    rows = away[:, :, 0] + torch.arange(height, device=x.device, dtype=x.dtype)[:, None]
    columns = away[:, :, 1] + torch.arange(width, device=x.device, dtype=x.dtype)
    # grid_sample counts from -1 at the first pixel's centre to 1 at the last one's, columns first.
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], -1)
    found = F.grid_sample(x, grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=True)
    return found.reshape(len(x), x.shape[1], -1, height, width)


class PooledStream(nn.Module):
    """The strongest of neighbours on half the pixels, a depthwise separable convolution, back to the size it had."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        half = F.gelu(self.pointwise(self.depthwise(F.max_pool2d(x, 3, 2, 1))))
        return F.interpolate(half, size=x.shape[2:], mode="bilinear", align_corners=False)


class AttentionStream(nn.Module):
    """Self-attention; a token is a pixel of the map."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = self.attention(x.flatten(2).transpose(1, 2))
        return attended.transpose(1, 2).reshape(x.shape)


class Gate(nn.Module):
    """Weighs channels by their mean and maximum over places, then places by theirs over channels (CBAM)."""

    def __init__(self, channels: int, hidden: int, kernel: int = 7) -> None:
        super().__init__()
        self.channels = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.places = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        by_channel = torch.sigmoid(self.channels(x.mean((2, 3))) + self.channels(x.amax((2, 3))))
        x = x * by_channel[:, :, None, None]
        by_place = torch.sigmoid(self.places(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))
        return x * by_place


class MultiStreamBlock(nn.Module):
    """Channels shared out to three streams, joined, gated, and summed with the input.

    Args:
        split: channels of the deformable, the pooled and the attention stream; together those of the map.
        heads: of the attention stream.
        hidden: width of the gate's perceptron.
    """

    def __init__(self, split: tuple[int, int, int], heads: int, hidden: int) -> None:
        super().__init__()
        self.split = split
        self.norm = nn.LayerNorm(sum(split), eps=1e-6)  # over the channels of each place
        self.deformable = DeformableConv(split[0], split[0])
        self.pooled = PooledStream(split[1])
        self.attention = AttentionStream(split[2], heads)
        self.gate = Gate(sum(split), hidden)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).split(self.split, 1)
        joined = torch.cat([self.deformable(first), self.pooled(second), self.attention(third)], 1)
        out: Tensor = x + self.gate(joined)
        return out


class PatchAttention(nn.Module):
    """How the picture is spoiled asks, what is seen answers.

    The answers alone go on: neither the queries nor the map are summed with them.

    Shapes:
        asking: (N, L, asks) float; answering: (N, M, width) float; returns (N, L, width).
    """

    def __init__(self, asks: int, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels can't be shared out to {heads} heads")
        self.heads = heads
        self.query = nn.Linear(asks, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mlp = Perceptron(width, ratio * width)

    def forward(self, asking: Tensor, answering: Tensor) -> Tensor:
        query, key, value = self.query(asking), self.key(answering), self.value(answering)
        heads = [p.reshape(*p.shape[:2], self.heads, -1).transpose(1, 2) for p in (query, key, value)]
        answers = F.scaled_dot_product_attention(heads[0], heads[1], heads[2]).transpose(1, 2).flatten(2)
        out: Tensor = answers + self.mlp(answers)
        return out

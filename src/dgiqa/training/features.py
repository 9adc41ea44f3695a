"""What training reads again and again, computed once: low trunk features and depth maps of every picture.

The three lowest blocks of the colour trunk stay as ImageNet made them, so their output (24 channels at stride 4)
is computed once for each picture and its mirror image, and kept as int8 with one scale per channel: the rounding
is under 1 % of a channel's range. The depth map is kept as the means of 4×4 cells, as the network reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgiqa.cards import Recipe
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit_size, resize
from dgiqa.models.dgiqa_mobile.mobilenet import MobileNetV2
from dgiqa.stream import in_order
from dgiqa.types import UInt8

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


def compute_features(
    paths: Sequence[Path],
    trunk: MobileNetV2,
    recipe: Recipe,
    depth_map: Callable[[UInt8], UInt8],
    folder: Path,
) -> Features:
    """Computes or reopens the features of square pictures ``paths`` under ``folder``; stopped runs go on."""
    folder.mkdir(parents=True, exist_ok=True)
    side = recipe.short_side // 4
    low = _array(folder / "low.npy", np.int8, (len(paths), 2, side, side, CHANNELS))
    depth = _array(folder / "depth.npy", np.uint8, (len(paths), side, side))
    scale = _scale(paths, trunk, recipe, folder / "scale.npy")
    _fill(low, folder / "low.json", paths, lambda path: _rounded(low_features(trunk, picture(path, recipe)), scale))
    _fill(depth, folder / "depth.json", paths, lambda path: cells(depth_map(picture(path, recipe))))
    return Features(low, depth, scale)


def picture(path: Path, recipe: Recipe) -> UInt8:
    """The picture as the recipe resizes it, (H, W, 3)."""
    pixels = decode(path, background=recipe.background).pixels
    return resize(pixels, *fit_size(pixels.shape[1], pixels.shape[0], recipe), recipe.kernel)


def cells(depth: UInt8) -> UInt8:
    """(H, W) to (H/4, W/4): means of 4×4 cells, rounded."""
    height, width = depth.shape
    means = depth.reshape(height // 4, 4, width // 4, 4).astype(np.float32).mean((1, 3))
    rounded: UInt8 = np.rint(means).astype(np.uint8)
    return rounded


def low_features(trunk: MobileNetV2, pixels: UInt8) -> Tensor:
    """(2, 24, H/4, W/4): the frozen blocks' output for the picture and its mirror image."""
    x = torch.from_numpy(np.stack([pixels, pixels[:, ::-1]])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        low: Tensor = trunk.stem(x.contiguous(memory_format=torch.channels_last))
        for block in trunk.blocks[:FROZEN]:
            low = block(low)
    return low


def _rounded(low: Tensor, scale: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """(2, H/4, W/4, 24) int8."""
    steps = np.clip(np.rint(low.permute(0, 2, 3, 1).numpy() / scale), -127, 127)
    return np.asarray(steps, np.int8)


def _scale(paths: Sequence[Path], trunk: MobileNetV2, recipe: Recipe, file: Path) -> npt.NDArray[np.float32]:
    if not file.exists():
        sample = [low_features(trunk, picture(path, recipe)).abs().amax((0, 2, 3)) for path in paths[:200]]
        np.save(file, torch.stack(sample).amax(0).numpy() / 127)
    loaded: npt.NDArray[np.float32] = np.load(file)
    return loaded


def _array(file: Path, dtype: type, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    mode = "r+" if file.exists() else "w+"
    return np.lib.format.open_memmap(file, mode, dtype, shape)


def _fill(
    array: npt.NDArray[Any], marker: Path, paths: Sequence[Path], compute: Callable[[Path], npt.NDArray[Any]]
) -> None:
    """Puts ``compute`` of each picture into ``array``, from where an earlier, stopped run had come to."""
    start, done = time.monotonic(), json.loads(marker.read_text()) if marker.exists() else 0
    for i, value in enumerate(in_order(compute, paths[done:], WORKERS), done):
        array[i] = value
        if (i + 1) % 500 == 0 or i + 1 == len(paths):
            marker.write_text(json.dumps(i + 1))
            print(f"{marker.stem} {i + 1}/{len(paths)}  {time.monotonic() - start:.0f} s", flush=True)

"""What the measures share: grey, Gaussian windows, filters along rows and columns, means over blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dgiqa.types import UInt8

Plane = npt.NDArray[np.float64]

#: Luma of sRGB values (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])


def grey(picture: UInt8) -> Plane:
    """(H, W) luma, 0 to 255."""
    return np.asarray(picture @ LUMA, np.float64)


def gaussian(size: int, deviation: float) -> npt.NDArray[np.float64]:
    """(size,) window of sum 1."""
    at = np.arange(size) - (size - 1) / 2
    window = np.exp(-(at**2) / (2 * deviation**2))
    return np.asarray(window / window.sum(), np.float64)


def filtered(plane: Plane, window: npt.NDArray[np.float64]) -> Plane:
    """(H, W) by ``window`` down and across, where it lies inside the plane: (H - n + 1, W - n + 1)."""
    for axis in (0, 1):
        length = plane.shape[axis] - len(window) + 1
        plane = sum(w * plane.take(range(i, i + length), axis) for i, w in enumerate(window))
    return plane


def blocks(plane: Plane, side: int) -> Plane:
    """Means over blocks of ``side`` × ``side``; what is left over at the right and below is dropped."""
    if side == 1:
        return plane
    height, width = plane.shape[0] // side, plane.shape[1] // side
    cut = plane[: height * side, : width * side]
    return np.asarray(cut.reshape(height, side, width, side).mean((1, 3)), np.float64)


def gradients(plane: Plane, down: npt.NDArray[np.float64]) -> tuple[Plane, Plane]:
    """(H, W) by a 3 × 3 kernel and by its transpose; 0 outside the plane."""
    height, width = plane.shape
    padded = np.pad(plane, 1)
    found = []
    for kernel in (down, down.T):
        total = np.zeros((height, width))
        for i in range(3):
            for j in range(3):
                if kernel[i, j]:
                    total += kernel[i, j] * padded[i : i + height, j : j + width]
        found.append(total)
    return found[0], found[1]

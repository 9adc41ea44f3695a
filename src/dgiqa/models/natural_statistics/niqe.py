"""NIQE (Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality Analyzer", SPL 2013): how far the
statistics of a picture's patches are from those of pristine photographs.

36 local statistics at two scales of each patch of 96 pixels; a Gaussian over the sharp patches of pristine photographs,
fitted by ``python -m dgiqa.training.classics``, against one over all patches of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dgiqa.errors import ImageTooSmall
from dgiqa.models.natural_statistics.local import asymmetric, cut, halved, luma, normalised, products
from dgiqa.types import UInt8

#: Pixels along a patch; share of the sharpest patch's deviation from which a pristine one counts.
PATCH, SHARP = 96, 0.75


def measure(picture: UInt8, parameters: Mapping[str, npt.NDArray[np.float64]]) -> float:
    """0 (as pristine) to some 20; less is better.

    Raises:
        ImageTooSmall: a side has fewer pixels than a patch.
    """
    rows, _ = patches(picture)
    mean = rows.mean(0)
    covariance = np.cov(rows, rowvar=False) if len(rows) > 1 else np.zeros((rows.shape[1],) * 2)
    apart = parameters["mean"] - mean
    return float(np.sqrt(apart @ np.linalg.pinv((parameters["covariance"] + covariance) / 2) @ apart))


def patches(picture: UInt8) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(n, 36) the statistics of each patch, and (n,) its mean local deviation: how sharp it is."""
    height, width = (n // PATCH * PATCH for n in picture.shape[:2])
    if not height or not width:
        raise ImageTooSmall(f"NIQE looks at patches and needs {PATCH} pixels a side", hint="use BRISQUE")
    plane, scales, sharp = luma(picture)[:height, :width], [], np.zeros(0)
    for scale in range(2):
        plane = halved(plane) if scale else plane
        side = PATCH >> scale
        values, deviation = normalised(plane)
        if not scale:
            sharp = np.array([part.mean() for part in cut(deviation, side)])
        scales.append(np.array([_features(part) for part in cut(values, side)]))
    return np.concatenate(scales, 1), sharp


def _features(values: npt.NDArray[np.float64]) -> list[float]:
    shape, _, left, right = asymmetric(values)
    row = [shape, (left + right) / 2]
    for product in products(values):
        row += asymmetric(product)
    return row

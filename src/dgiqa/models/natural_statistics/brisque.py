"""BRISQUE (Mittal, Moorthy, Bovik, TIP 2012): 36 local statistics at two scales, and a regression to opinion.

The paper regresses by a support vector machine with a Gaussian kernel; here a ridge with that kernel over some training
pictures does it, fitted by ``python -m dgiqa.training.classics``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dgiqa.errors import ImageTooSmall
from dgiqa.models.natural_statistics.local import asymmetric, halved, luma, normalised, products, symmetric
from dgiqa.types import UInt8

#: Numbers of a picture; pixels along a side that they need.
COUNT, LEAST = 36, 16


def measure(picture: UInt8, parameters: Mapping[str, npt.NDArray[np.float64]]) -> float:
    """Opinion, about 0 (bad) to 1.

    Raises:
        ImageTooSmall: a side has fewer than ``LEAST`` pixels.
    """
    seen = np.clip(features(picture), parameters["low"], parameters["high"])  # what it was not fitted to, it can't know
    row = (seen - parameters["mean"]) / parameters["scale"]
    away = ((parameters["centres"] - row) ** 2).sum(1)
    return float(np.exp(-parameters["gamma"] * away) @ parameters["weights"] + parameters["offset"])


def features(picture: UInt8) -> npt.NDArray[np.float64]:
    """(36,) the statistics of both scales."""
    if min(picture.shape[:2]) < LEAST:
        raise ImageTooSmall(f"BRISQUE looks at two scales and needs {LEAST} pixels a side", hint="choose another model")
    plane, row = luma(picture), list[float]()
    for scale in range(2):
        plane = halved(plane) if scale else plane
        values, _ = normalised(plane, dark=True)
        row += symmetric(values)
        for product in products(values):
            shape, mean, left, right = asymmetric(product)
            row += [shape, mean, left**2, right**2]
    return np.array(row)

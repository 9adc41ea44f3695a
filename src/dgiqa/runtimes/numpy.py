"""NumPy, for measures that are formulas. Part of the base install.

A card's ``weights.numpy.file`` is what the measure was fitted to, such as ``brisque.npz``, read by the code of that
name in the architecture's folder; or, of a formula that is fitted to nothing, the code itself, such as ``ssim.py``. Its
checksum stands in the card like that of any weights, so that a label pins the measure down.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import CardError, WeightsError
from dgiqa.runtimes import no_weights
from dgiqa.types import Float32, Views
from dgiqa.weights.fetch import is_built_in, locate

#: Kinds of weights it takes.
TAKES = ("numpy",)


class Measure:
    """A formula of a picture, or of a picture and its original, a view at a time."""

    def __init__(self, measure: Callable[..., float], *, compares: bool, sign: float) -> None:
        self._measure, self._compares, self._sign = measure, compares, sign

    def run(self, views: Views) -> Float32:
        """(V,) values; of a measure of which less is better, their negatives."""
        if self._compares:
            assert views.reference is not None
            pairs = zip(views.color, views.reference, strict=True)
            values = [self._measure(picture, original) for picture, original in pairs]
        else:
            values = [self._measure(picture) for picture in views.color]
        return np.array(values, np.float32) * np.float32(self._sign)


def open_network(card: ModelCard) -> Measure:
    """The card's measure.

    Raises:
        RuntimeMissing: the card has none.
        CardError: it is not a file of the package: code from elsewhere is never run.
        WeightsError: what it was fitted to is damaged.
    """
    if "numpy" not in card.weights:
        raise no_weights(card, "numpy")
    name, _, ending = card.weights["numpy"].file.partition(".")
    if not is_built_in(card) or not name.isidentifier():
        raise CardError(
            f"{card.name}: weights.numpy: only a built-in card may name code", hint="take the built-in card"
        )
    module: Any = importlib.import_module(f"dgiqa.models.{card.arch}.{name}")
    compares = card.reference == "full"
    sign = -1.0 if card.settings.get("lower_is_better") else 1.0
    measure: Callable[..., float] = module.compare if compares else module.measure
    if ending == "npz":
        measure = partial(measure, parameters=_parameters(locate(card, "numpy")))
    return Measure(measure, compares=compares, sign=sign)


def _parameters(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; nothing in it is run."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name], np.float64) for name in arrays}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: can't be read ({error})", hint="the file is damaged; get it again") from error

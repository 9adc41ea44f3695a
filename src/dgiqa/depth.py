"""Depth of a whole picture, as a map of the same size. A depth network has a card like any other model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import UsageError
from dgiqa.imaging.resize import fit, resize_float
from dgiqa.models import find_card
from dgiqa.runtimes import Runtime, open_runtime, weights_for
from dgiqa.types import Float32, UInt8, Views


class DepthEstimator:
    """A depth network fed as its card says; its map stretched to 0..255 over the picture."""

    def __init__(self, card: ModelCard, network: Runtime) -> None:
        self.card = card
        self._network = network

    def __call__(self, pixels: UInt8) -> UInt8:
        height, width = pixels.shape[:2]
        small = fit(pixels, self.card.recipe)
        nearness = resize_float(self._network.run(Views(small[None]))[0], width, height)
        low, high = float(nearness.min()), float(nearness.max())
        if high - low < 1e-6:  # a picture without any depth, such as one plain colour
            return np.zeros((height, width), np.uint8)
        stretched: UInt8 = np.rint((nearness - low) * (255 / (high - low))).astype(np.uint8)
        return stretched


def open_depth(name: str | Path | ModelCard, runtime: str | None = None) -> DepthEstimator:
    """The depth estimator of that card or name, in ``runtime`` if it has weights for that, else in its own.

    Raises:
        UsageError: the card is of another kind.
        ModelNotFound, CardError, RuntimeMissing, WeightsError: each with the way out.
    """
    card = name if isinstance(name, ModelCard) else find_card(name)
    if card.kind != "depth":
        raise UsageError(f"{card.name} gives {card.kind}, not depth", hint="dgiqa models lists the depth models")
    return DepthEstimator(card, open_runtime(card, runtime if weights_for(card, runtime) else None))


def as_metres(nearness: UInt8) -> Float32:
    """A relative depth map as distances from 2 to 100 metres, for faults that grow with distance."""
    return np.asarray(1 / (0.01 + 0.49 * nearness.astype(np.float32) / 255), np.float32)

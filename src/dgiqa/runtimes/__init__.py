"""Runtimes: one file each, one method, ``run(views)``. Found by file name.

Every runtime gets the same uint8 views; normalisation is inside the network. On a CPU a runtime gives the network
one view at a time: that is fastest for the caches, and the arithmetic of a view never depends on its neighbours,
so a score is the same alone and in any batch, to the last bit.
"""

from __future__ import annotations

import importlib
import pkgutil
import statistics
import time
from typing import Any, Protocol

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import RuntimeMissing
from dgiqa.types import Float32, Views

#: Views that are timed of each runtime.
_TRIES = 5
#: Side of that view for a model that looks at pictures in their own size.
_NATIVE_SIDE = 256


class Runtime(Protocol):
    """A network that is ready to run."""

    def run(self, views: Views) -> Float32:
        """(V,) raw scores of the views, or (V, 2): each with its spread, the error that the network expects of it.

        A depth network gives (V, h, w) relative inverse depth.
        """
        ...


def list_runtimes() -> list[str]:
    """Names of the runtimes that exist, installed or not."""
    return [module.name for module in pkgutil.iter_modules(__path__) if module.name != "fake"]


def open_runtime(card: ModelCard, runtime: str | None = None) -> Runtime:
    """The network of ``card`` in the runtime of that name, or in the first one the card has weights for.

    Raises:
        RuntimeMissing: no such runtime, no weights for it, or its extra is not installed.
        WeightsError: the weights are missing or damaged.
    """
    opened: Runtime = _module(runtime or next(iter(card.weights))).open_network(card)
    return opened


def weights_for(card: ModelCard, runtime: str | None) -> str | None:
    """Which of the card's weights that runtime takes; None for none. Without a runtime, the card's first."""
    if runtime is None:
        return next(iter(card.weights))
    return next((kind for kind in _module(runtime).TAKES if kind in card.weights), None)


def fastest(card: ModelCard) -> str:
    """The runtime that scores a view of ``card`` soonest on this machine, of those that are installed and take its
    weights; measured, some seconds.

    Raises:
        RuntimeMissing: there is none.
    """
    side = card.recipe.crop or card.recipe.short_side or _NATIVE_SIDE
    color = np.zeros((1, side, side, 3), np.uint8)
    original = color if card.reference == "full" else None
    view = Views(color, color[..., 0] if card.recipe.depth else None, reference=original)
    seconds = {}
    for name in list_runtimes():
        if weights_for(card, name) is None:
            continue
        try:
            network = open_runtime(card, name)
        except RuntimeMissing:
            continue
        network.run(view)
        seconds[name] = statistics.median(_seconds(network, view) for _ in range(_TRIES))
    if not seconds:
        raise RuntimeMissing(
            f"{card.name}: no runtime that is installed takes its weights", hint="dgiqa models lists them"
        )
    return min(seconds, key=seconds.__getitem__)


def _seconds(network: Runtime, view: Views) -> float:
    start = time.perf_counter()
    network.run(view)
    return time.perf_counter() - start


def _module(runtime: str) -> Any:
    if runtime not in list_runtimes():
        raise RuntimeMissing(f"{runtime}: no such runtime", hint=f"there are {', '.join(list_runtimes())}")
    return importlib.import_module(f"{__name__}.{runtime}")


def no_weights(card: ModelCard, runtime: str) -> RuntimeMissing:
    """The error for a card that has no weights for ``runtime``."""
    others = " or ".join(f"--runtime {name}" for name in card.weights)
    return RuntimeMissing(f"{card.name} has no weights for the runtime {runtime}", hint=f"use {others}")

"""Runtimes: one file each, one method, ``run(views)``. Found by file name.

Every runtime gets the same uint8 views; normalisation is inside the network. On a CPU a runtime gives the network
one view at a time: that is fastest for the caches, and the arithmetic of a view never depends on its neighbours,
so a score is the same alone and in any batch, to the last bit.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol

from dgiqa.cards import ModelCard
from dgiqa.errors import RuntimeMissing
from dgiqa.types import Float32, Views


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
    name = runtime or next(iter(card.weights))
    if name not in list_runtimes():
        raise RuntimeMissing(f"{name}: no such runtime", hint=f"there are {', '.join(list_runtimes())}")
    module = importlib.import_module(f"{__name__}.{name}")
    opened: Runtime = module.open_network(card)
    return opened


def no_weights(card: ModelCard, runtime: str) -> RuntimeMissing:
    """The error for a card that has no weights for ``runtime``."""
    others = " or ".join(f"--runtime {name}" for name in card.weights)
    return RuntimeMissing(f"{card.name} has no weights for the runtime {runtime}", hint=f"use {others}")

"""ONNX Runtime, the runtime of the base install.

One thread a session: workers are what uses the cores, and a small network gains nothing from more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import WeightsError
from dgiqa.runtimes import no_weights
from dgiqa.types import Float32, Views
from dgiqa.weights.fetch import locate

#: Kinds of weights it takes.
TAKES = ("onnx",)


class OnnxNetwork:
    """An ONNX file with inputs ``color`` and, for a quality network, ``depth``. Safe to share by threads."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = {i.name for i in session.get_inputs()}

    def run(self, views: Views) -> Float32:
        feeds: dict[str, Any] = {"color": views.color}
        if "depth" in self.inputs:
            feeds["depth"] = views.depth
        one_by_one = (
            self._session.run(None, {name: array[i : i + 1] for name, array in feeds.items()})[0]
            for i in range(len(views))
        )
        return np.concatenate(list(one_by_one)).astype(np.float32, copy=False)


def open_network(card: ModelCard) -> OnnxNetwork:
    """The card's ONNX file as a network.

    Raises:
        RuntimeMissing: the card has no ONNX weights.
        WeightsError: the file is missing or damaged.
    """
    if "onnx" not in card.weights:
        raise no_weights(card, "onnx")
    path = locate(card, "onnx")
    network = open_file(path, hint="the file is damaged or no ONNX file; get it again")
    wanted = {"color", "depth"} if card.recipe.depth else {"color"}
    if network.inputs != wanted:
        raise WeightsError(
            f"{path}: the network takes {', '.join(sorted(network.inputs))}, the recipe of {card.name} gives "
            f"{', '.join(sorted(wanted))}",
            hint="export it with these inputs, or correct recipe.depth",
        )
    return network


def open_file(path: Path, *, hint: str = "") -> OnnxNetwork:
    """Any ONNX file with those inputs.

    Raises:
        WeightsError: ONNX Runtime can't open it.
    """
    return OnnxNetwork(open_session(path, name=str(path), hint=hint))


def open_session(model: Path | bytes, *, name: str, hint: str = "") -> Any:
    """A session of a file or of its bytes; ``name`` says in errors what it is.

    Raises:
        WeightsError: ONNX Runtime can't open it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
        raise WeightsError(f"{name}: ONNX Runtime can't open the weights ({error})", hint=hint) from error

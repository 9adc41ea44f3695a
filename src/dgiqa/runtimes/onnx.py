"""ONNX Runtime, the runtime of the base install.

One thread a session: workers are what uses the cores, and a small network gains nothing from more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import WeightsError
from dgiqa.models import find_card
from dgiqa.runtimes import no_weights
from dgiqa.types import Float32, Views
from dgiqa.weights.fetch import locate

#: Kinds of weights it takes.
TAKES = ("onnx",)


class OnnxNetwork:
    """An ONNX file with inputs ``color`` and, as its card says, ``depth`` or ``reference``. Threads may share it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = {i.name for i in session.get_inputs()}

    def run(self, views: Views) -> Float32:
        feeds: dict[str, Any] = {"color": views.color}
        if "depth" in self.inputs:
            feeds["depth"] = views.depth
        if "reference" in self.inputs:
            feeds["reference"] = views.reference
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
    files = files_of(card)
    path = files[-1]
    network = OnnxNetwork(
        open_session(joined(files), name=str(path), hint="the file is damaged or no ONNX file; get it again")
    )
    wanted = inputs_of(card)
    if network.inputs != wanted:
        raise WeightsError(
            f"{path}: the network takes {', '.join(sorted(network.inputs))}, the recipe of {card.name} gives "
            f"{', '.join(sorted(wanted))}",
            hint="export it with these inputs, or correct recipe.depth",
        )
    return network


def inputs_of(card: ModelCard) -> set[str]:
    """Names of what the card's recipe and reference give a network."""
    more = {"depth": bool(card.recipe.depth), "reference": card.reference == "full"}
    return {"color"} | {name for name, given in more.items() if given}


def files_of(card: ModelCard) -> list[Path]:
    """The ONNX files that make the card's graph, in the order in which they are read, its own last.

    Raises:
        WeightsError: a file is missing or damaged, or the card whose tensors are shared is of another version.
    """
    own, shares = locate(card, "onnx"), card.weights["onnx"].shares
    if not shares:
        return [own]
    shared = find_card(shares.split("@")[0])
    if shared.label != shares:
        raise WeightsError(
            f"{own}: shares the tensors of {shares}, and what is here is {shared.label}", hint="train it anew"
        )
    return [locate(shared, "onnx"), own]


def joined(files: Sequence[Path]) -> Path | bytes:
    """One graph of several files: two ONNX files one behind the other are read as one (see
    :mod:`dgiqa.explain.explainer`). A single one stays the file that it is.
    """
    return files[0] if len(files) == 1 else b"".join(file.read_bytes() for file in files)


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

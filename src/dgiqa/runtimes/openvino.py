"""OpenVINO, which runs the same ONNX files. Extra ``dgiqa[openvino]``.

One thread a request and 32-bit arithmetic: scores stay within the tolerance, and workers are what uses the cores.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import RuntimeMissing, WeightsError
from dgiqa.runtimes import no_weights
from dgiqa.runtimes.onnx import files_of, joined
from dgiqa.types import Float32, Views

#: Kinds of weights it takes.
TAKES = ("onnx",)


class OpenVinoNetwork:
    """A compiled network with the inputs of :class:`dgiqa.runtimes.onnx.OnnxNetwork`. Safe to share by threads."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._inputs = [port.any_name for port in compiled.inputs]
        self._own = threading.local()  # a request is one thread's

    def run(self, views: Views) -> Float32:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        arrays = {"color": views.color, "depth": views.depth, "reference": views.reference}
        found = []
        for i in range(len(views)):
            feeds = {name: arrays[name][i : i + 1] for name in self._inputs}  # type: ignore[index]
            found.append(np.array(request.infer(feeds)[0]))  # a copy: the next view takes its place
        return np.concatenate(found).astype(np.float32, copy=False)


def open_network(card: ModelCard) -> OpenVinoNetwork:
    """The card's ONNX file, compiled for this CPU.

    Raises:
        RuntimeMissing: OpenVINO is not installed, or the card has no ONNX weights.
        WeightsError: the file is missing or damaged.
    """
    if "onnx" not in card.weights:
        raise no_weights(card, "openvino")
    try:
        import openvino
    except ImportError as error:
        raise RuntimeMissing(
            "the openvino runtime needs OpenVINO, which is not installed", hint="pip install 'dgiqa[openvino]'"
        ) from error
    files = files_of(card)
    # A stream a core, a thread a stream: with one stream the requests of several workers would wait for each other.
    cores = os.cpu_count() or 1
    properties = {"INFERENCE_NUM_THREADS": cores, "NUM_STREAMS": cores, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        core, graph = openvino.Core(), joined(files)
        model = core.read_model(graph, b"") if isinstance(graph, bytes) else core.read_model(graph)
        compiled = core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise WeightsError(
            f"{files[-1]}: OpenVINO can't open the weights ({error})",
            hint="the file is damaged or no ONNX file; get it again",
        ) from error
    return OpenVinoNetwork(compiled)

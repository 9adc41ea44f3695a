"""Exported files leave nothing between two convolutions that ONNX Runtime could merge into them.

A graph that isn't merged gives the same scores and takes nearly twice as long, so no other test would tell.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402

from dgiqa.export.half import LEAST  # noqa: E402
from dgiqa.export.onnx import trace  # noqa: E402
from dgiqa.models import list_models  # noqa: E402
from dgiqa.runtimes.onnx import files_of, joined  # noqa: E402

EMBEDDED = [
    card
    for kind in ("quality", "depth")
    for card in list_models(kind)
    if "onnx" in card.weights and card.weights["onnx"].embedded
]


def merged(graph: Path | bytes, folder: Path) -> Any:
    """The graph that ONNX Runtime runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "merged.onnx")
    options.log_severity_level = 3  # warns that the merged graph suits this machine only
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "merged.onnx").graph


@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
def test_embedded_networks_run_merged(card, tmp_path: Path) -> None:
    graph = merged(joined(files_of(card)), tmp_path)
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] + kinds["FusedConv"] > 50
    assert not {"CastLike", "SplitToSequence", "BatchNormalization"} & kinds.keys()
    maker = {name: node.op_type for node in graph.node for name in node.output}
    left = [node.name for node in graph.node if node.op_type == "Clip" and "Conv" in maker.get(node.input[0], "")]
    assert not left, "a clip behind a convolution is to be part of it"
    large = {tensor.name for tensor in graph.initializer if math.prod(tensor.dims) >= LEAST}
    widened = [node.input[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in large]
    assert not widened, "weights of 16 bits are to be widened once, when the file is opened"


def test_a_new_export_merges_and_keeps_the_parameters_names(tmp_path: Path) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, bias=False)
            self.norm = nn.BatchNorm2d(16, eps=1e-3)
            self.last = nn.Linear(16, 1, bias=False)

        def forward(self, color):
            x = nn.functional.pad(color.permute(0, 3, 1, 2).float(), (0, 1, 0, 1))
            return self.last(nn.functional.relu6(self.norm(self.conv(x))).mean((2, 3)))[:, 0]

    network = Small().eval()
    model = trace(network, ["color"], (torch.zeros(1, 32, 64, 3, dtype=torch.uint8),))
    path = tmp_path / "small.onnx"
    path.write_bytes(model.SerializeToString())
    kept = {tensor.name for tensor in model.graph.initializer}
    assert {name for name in network.state_dict() if not name.endswith("num_batches_tracked")} <= kept
    kinds = {node.op_type for node in merged(path, tmp_path).node}
    assert not {"BatchNormalization", "Clip", "Pad"} & kinds

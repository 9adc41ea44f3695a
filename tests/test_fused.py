"""Exported files leave nothing between two convolutions that ONNX Runtime could merge into them.

A graph that isn't merged gives the same scores and takes nearly twice as long, so no other test would tell.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402

from dgiqa.export.onnx import trace  # noqa: E402
from dgiqa.models import list_models  # noqa: E402
from dgiqa.weights.fetch import locate  # noqa: E402

EMBEDDED = [
    card
    for kind in ("quality", "depth")
    for card in list_models(kind)
    if "onnx" in card.weights and card.weights["onnx"].embedded
]


def merged(path: Path, folder: Path) -> Counter[str]:
    """How often each kind of node stands in the graph that ONNX Runtime runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "merged.onnx")
    options.log_severity_level = 3  # warns that the merged graph suits this machine only
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "merged.onnx").graph.node)


@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
def test_embedded_networks_run_merged(card, tmp_path: Path) -> None:
    nodes = merged(locate(card, "onnx"), tmp_path)
    assert nodes["Conv"] + nodes["FusedConv"] > 50
    left = {kind: nodes[kind] for kind in ("BatchNormalization", "Clip", "CastLike", "SplitToSequence") if nodes[kind]}
    assert not left
    assert nodes["Cast"] < 10, "weights of 16 bits are to be widened once, when the file is opened"


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
    nodes = merged(path, tmp_path)
    assert not {"BatchNormalization", "Clip", "Pad"} & nodes.keys()

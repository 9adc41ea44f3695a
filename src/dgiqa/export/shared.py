"""One trunk for many networks: its tensors lie in one ONNX file, and each network's own file is read behind it.

The trunk's file holds tensors alone, the network's file nodes, inputs, outputs and the tensors of its own; each is no
graph by itself, and one behind the other they are (see :mod:`dgiqa.explain.explainer`). The card's ``shares`` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from dgiqa.errors import WeightsError
from dgiqa.export.half import round_weights, store_half
from dgiqa.export.onnx import trace

#: How networks call their trunk: the start of its tensors' names.
PREFIX = "trunk."


def tensors_of(trunk: nn.Module) -> Any:
    """The ONNX message with the tensors of ``trunk`` alone, rounded to 16 bits where they are large, in place.

    Its versions of the format and of the operators are those that this installation's exporter writes.
    """

    class _Copy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    round_weights(trunk)
    library = trace(_Copy(), ["x"], (torch.zeros(1),), free=())
    library.graph.Clear()
    library.graph.name = "main_graph"
    for name, tensor in trunk.state_dict().items():
        library.graph.initializer.append(onnx.numpy_helper.from_array(tensor.float().numpy(), PREFIX + name))
    store_half(library)
    del library.graph.node[:]  # the casts stand in the networks' files
    return library


def part_from(library: Any, whole: Any) -> Any:
    """What ``whole`` has beyond ``library``.

    Raises:
        WeightsError: a tensor of the trunk is another one than in ``library``, or the formats' versions differ.
    """
    versions = [{(o.domain, o.version) for o in model.opset_import} for model in (library, whole)]
    if versions[0] != versions[1] or library.ir_version != whole.ir_version or whole.functions:
        raise WeightsError("the trunk's file is of another version of ONNX", hint="write both with one exporter")
    shared = {tensor.name: tensor for tensor in library.graph.initializer}
    own = onnx.ModelProto()
    own.graph.node.extend(whole.graph.node)
    own.graph.input.extend(whole.graph.input)
    own.graph.output.extend(whole.graph.output)
    for tensor in whole.graph.initializer:
        if tensor.name not in shared:
            own.graph.initializer.append(tensor)
        elif tensor.raw_data != shared[tensor.name].raw_data or tensor.data_type != shared[tensor.name].data_type:
            raise WeightsError(f"{tensor.name} is another tensor than the shared trunk's", hint="keep the trunk frozen")
    return own


def split(whole: Path, library: Path) -> None:
    """Rewrites the ONNX file ``whole`` as the part that is read behind ``library``. Raises as :func:`part_from`."""
    part = part_from(onnx.load(library), onnx.load(whole))
    whole.write_bytes(part.SerializeToString())

"""Weights stored as 16-bit floats: half the size of the file; all arithmetic stays in 32 bits.

The network's large tensors are rounded before it is judged and exported, so the file holds exactly what was measured.
In the graph each such tensor is followed by a cast, which runtimes fold away when they load it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

#: Tensors with fewer values stay as they are: they weigh nothing, and norms and biases are delicate.
LEAST = 1024


@torch.no_grad()
def round_weights(network: nn.Module) -> None:
    """Rounds the large parameters of ``network`` to what 16 bits can hold, in place.

    Raises:
        ValueError: a value is too large for 16 bits, by the parameter's name.
    """
    for name, parameter in network.named_parameters():
        if parameter.numel() >= LEAST:
            rounded = parameter.half().float()
            if not torch.isfinite(rounded).all():
                raise ValueError(f"{name}: {parameter.abs().max().item():g} is too large for 16 bits")
            parameter.copy_(rounded)


def store_half(model: Any) -> None:
    """Stores an ONNX model's large initialisers as float16 where that loses nothing, in place."""
    import onnx

    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < LEAST:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name, wide = tensor.name, f"{tensor.name}.float32"
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, name))
        casts.append(onnx.helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.FLOAT))
        for node in graph.node:
            for i, used in enumerate(node.input):
                if used == name:
                    node.input[i] = wide
    for i, cast in enumerate(casts):
        graph.node.insert(i, cast)

"""A trained network to an ONNX file, refused unless both give the same numbers.

The file holds everything from uint8 pixels on, normalisation included, and keeps the parameters' names, so that
the torch runtime can take its weights from it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dgiqa.cards import ModelCard
from dgiqa.errors import UsageError, WeightsError
from dgiqa.export.half import round_weights, store_half
from dgiqa.runtimes.onnx import inputs_of, open_file
from dgiqa.types import Views

#: Largest difference between torch and ONNX Runtime that an export may have, in raw units.
TOLERANCE = 1e-4
#: Side of the views that are tried where pictures come in their own size.
NATIVE = 256


def export(network: nn.Module, card: ModelCard, path: Path, *, half: bool = False) -> float:
    """Writes ``path`` and returns the largest difference to torch over views of three shapes.

    A network that gives (V, 2) is compared in both, the raw score and its spread.

    Height and width stay free for a recipe whose views are whole pictures. With ``half`` large tensors are rounded to
    16 bits, in ``network`` as well, and stored so.

    Raises:
        UsageError: the network says of itself that it can't be exported (``exportable``).
        WeightsError: the difference is over TOLERANCE; ``path`` stays as it was.
    """
    if not getattr(network, "exportable", True):
        raise UsageError(f"{card.name} can't be exported: it asks another program while it scores")
    network = network.eval()
    if half:
        round_weights(network)
    side = _side(card)
    names = sorted(inputs_of(card))  # in the order in which networks take them
    views = example(names, (side, side + (card.recipe.multiple if not card.recipe.crop else 0)))
    model = trace(network, names, views, free=() if card.recipe.crop else (1, 2))
    part = path.with_name(path.name + ".part")
    if half:
        store_half(model)
    part.write_bytes(model.SerializeToString())
    difference = _difference(network, card, part, names)
    if not difference <= TOLERANCE:
        part.unlink()
        raise WeightsError(
            f"{path}: the exported network differs from torch by {difference:g}, over the {TOLERANCE:g} allowed"
        )
    part.replace(path)
    return difference


def trace(
    network: nn.Module,
    names: list[str],
    views: tuple[torch.Tensor, ...],
    *,
    free: tuple[int, ...] = (1, 2),
    outputs: Sequence[str] = ("raw",),
) -> Any:
    """The ONNX model of ``network``, in eval mode, with inputs ``names``; the sizes of the axes ``free`` stay open."""
    sizes = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
    # By the formula: fused kernels for attention give results in strides that the exporter doesn't expect.
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            views,
            dynamo=True,
            input_names=names,
            output_names=list(outputs),
            dynamic_shapes=tuple(sizes for _ in names),
            verbose=False,
            optimize=False,  # folding batch norm away would lose the parameters' names
        )
    assert program is not None
    _fold(program.model, set(network.state_dict()))
    return _without_traces(program.model_proto)


def _fold(model: Any, parameters: set[str]) -> None:
    """Replaces what depends on no input by its value, in place; ``parameters`` stay as they are.

    The exporter computes a convolution's missing bias and a clip's bounds in the graph. As long as they aren't
    constants, ONNX Runtime neither merges batch norm and clip into the convolution before them nor keeps its blocked
    layout from one to the next: the embedded default took 1.7 times as long.
    """
    from onnxscript import optimizer

    def should(node: Any) -> bool | None:
        reads_parameter = any(value is not None and value.name in parameters for value in node.inputs)
        return False if reads_parameter and node.op_type not in ("Shape", "CastLike") else None

    optimizer.fold_constants(model, should_fold=should)
    optimizer.remove_unused_nodes(model)


def _without_traces(model: Any) -> Any:
    """The exporter notes the source line of every node, with paths of the machine; the file shall not."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
    ):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]  # shapes and types of values that are no longer there
    return model


def _side(card: ModelCard) -> int:
    """Of the views that are tried."""
    return card.recipe.crop or card.recipe.short_side or NATIVE


def example(names: list[str], size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """A view of noise of that (height, width) for each input, the same every time."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"color": (1, *size, 3), "depth": (1, *size), "reference": (1, *size, 3)}
    return tuple(torch.randint(0, 256, shapes[n], generator=generator, dtype=torch.uint8) for n in names)


def _difference(network: nn.Module, card: ModelCard, path: Path, names: list[str]) -> float:
    exported, worst = open_file(path), 0.0
    side, step = _side(card), 0 if card.recipe.crop else 5 * card.recipe.multiple
    for size in {(side, side), (side, side + step), (side + step, side)}:
        views = example(names, size)
        with torch.no_grad():
            wanted = network(*views).numpy()
        seen = {name: tensor.numpy() for name, tensor in zip(names, views, strict=True)}
        found = exported.run(Views(seen["color"], seen.get("depth"), reference=seen.get("reference")))
        if found.shape != wanted.shape:  # subtracting would broadcast
            return float("inf")
        worst = max(worst, float(np.abs(found - wanted).max()))
    return worst

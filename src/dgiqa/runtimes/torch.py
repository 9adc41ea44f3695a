"""PyTorch, for networks that have no ONNX file, for GPUs and for research. Extra ``dgiqa[torch]``.

Weights come from safetensors, or from the card's ONNX file by parameter name, so that one file is the truth for
both runtimes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import RuntimeMissing, WeightsError
from dgiqa.models import build_network
from dgiqa.runtimes import no_weights
from dgiqa.runtimes.onnx import files_of
from dgiqa.types import Float32, Views
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import read_state

#: Kinds of weights it takes, the first that a card has.
TAKES = ("torch", "onnx")


class TorchNetwork:
    """A module in eval mode on ``device``: view by view on a CPU, all views at once on a GPU."""

    def __init__(self, module: Any, device: str) -> None:
        self._module = module.eval().to(device)
        self._device = device

    def run(self, views: Views) -> Float32:
        import torch

        step = 1 if self._device == "cpu" else max(1, len(views))
        arrays = [array for array in (views.color, views.depth, views.reference) if array is not None]
        with torch.inference_mode():
            results = [
                self._module(*(torch.tensor(a[i : i + step], device=self._device) for a in arrays))
                for i in range(0, len(views), step)
            ]
        out: Float32 = torch.cat(results).float().cpu().numpy()
        return out


def open_network(card: ModelCard) -> TorchNetwork:
    """The card's network with its weights, on the GPU if there is one. Raises as :func:`load_module` does."""
    module = load_module(card)
    import torch

    return TorchNetwork(module, "cuda" if torch.cuda.is_available() else "cpu")


def load_module(card: ModelCard) -> Any:
    """The card's network with its weights, a torch.nn.Module.

    Raises:
        RuntimeMissing: torch is not installed, or the card has no weights that torch can take.
        WeightsError: the file is missing, damaged, or doesn't fit the network.
    """
    kind = next((kind for kind in TAKES if kind in card.weights), None)
    if kind is None:
        raise no_weights(card, "torch")
    try:
        import torch
    except ImportError as error:
        raise RuntimeMissing(
            "the torch runtime needs PyTorch, which is not installed", hint="pip install 'dgiqa[torch]'"
        ) from error
    files = files_of(card) if kind == "onnx" else [locate(card, kind)]
    module = build_network(card)
    arrays = {name: array for file in files for name, array in read_state(file).items()}
    wanted = module.state_dict()
    if kind == "onnx":  # an ONNX file also holds constants, and drops counters that inference never reads
        arrays = {name: array for name, array in arrays.items() if name in wanted}
        optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    else:
        optional = set()
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    wrong = sorted((set(wanted) - optional) ^ (set(state) - optional))
    wrong += sorted(n for n in set(wanted) & set(state) if wanted[n].shape != state[n].shape)
    if wrong:
        raise WeightsError(
            f"{files[-1]}: the weights don't fit {card.arch}: {len(wrong)} tensors differ, first {wrong[0]}",
            hint="a checkpoint of the authors goes through dgiqa convert first",
        )
    module.load_state_dict(state, strict=False)
    return module

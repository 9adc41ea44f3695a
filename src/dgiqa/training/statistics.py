"""Statistics of whole pictures, for networks that offer ``statistics(color)``: computed once, kept in the cache.

A head that reads them wants them on one scale, and can be trained on them alone (:mod:`dgiqa.training.probe`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dgiqa.cards import Recipe
from dgiqa.errors import UsageError
from dgiqa.export.onnx import trace
from dgiqa.runtimes.onnx import open_file
from dgiqa.stream import in_order
from dgiqa.training import processes
from dgiqa.training.batches import Batches
from dgiqa.training.pictures import Fault
from dgiqa.types import Float32, UInt8, Views


def fit_statistics(network: nn.Module, batches: Batches, device: torch.device) -> None:
    """Shows ``train.statistics`` pictures of the first set, evenly spaced, to a network that scales by them.

    Such a network offers ``fit_statistics(rows)``, rows (n, S).
    """
    offered, rated = getattr(network, "fit_statistics", None), batches.sets[0]
    count = min(batches.plan.train.statistics, len(rated))
    if not callable(offered):
        return
    chosen = np.unique(np.linspace(0, len(rated) - 1, count).astype(np.intp))
    network.eval()
    rows = statistics_of([(rated.paths[i], None) for i in chosen], network, batches, device) if count else None
    with torch.no_grad():
        offered(rows)


def statistics_of(
    pictures: Sequence[tuple[Path, Fault | None]], network: nn.Module, batches: Batches, device: torch.device
) -> Tensor:
    """(n, S) of whole pictures; processes share the work, and all know the result. Rows are kept in the cache."""
    look = _look(network, batches.plan.model.recipe, device)
    key = _key(network)

    def row(i: int) -> Float32:
        path, fault = pictures[i]
        return batches.pictures.kept_row(path, fault, key, look)

    own = range(processes.rank(), len(pictures), processes.ranks())
    table: Float32 | None = None
    bar = tqdm(total=len(own), unit="picture", desc="statistics", disable=None if processes.rank() == 0 else True)
    with bar:
        for i, found in zip(own, in_order(row, own, batches.plan.train.workers), strict=True):
            table = np.zeros((len(pictures), len(found)), np.float32) if table is None else table
            table[i] = found
            bar.update()
    if table is None:
        raise UsageError("fewer pictures than processes", hint="start fewer processes")
    return torch.from_numpy(processes.add_up(table, device)).to(device)


def _key(network: nn.Module) -> str:
    """12 hex digits of the weights that the statistics depend on: the colour trunk's, or all if there is none."""
    part = getattr(network, "color_trunk", network)
    values = (value.cpu().contiguous().numpy().tobytes() for value in part.state_dict().values())
    return hashlib.sha256(b"".join(values)).hexdigest()[:12]


def _look(network: nn.Module, recipe: Recipe, device: torch.device) -> Callable[[UInt8], Float32]:
    """``network.statistics`` of one picture; on a CPU by ONNX Runtime, which takes a third of torch's time."""
    if device.type != "cpu":

        def by_torch(color: UInt8) -> Float32:
            with torch.inference_mode():
                row: Tensor = network.statistics(torch.from_numpy(np.ascontiguousarray(color))[None].to(device))  # type: ignore[operator]
            return row[0].float().cpu().numpy()

        return by_torch
    side = recipe.crop or recipe.short_side
    model = trace(
        _Statistics(network), ["color"], (torch.zeros(1, side, side + recipe.multiple, 3, dtype=torch.uint8),)
    )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "statistics.onnx"
        file.write_bytes(model.SerializeToString())
        session = open_file(file)
    return lambda color: session.run(Views(np.ascontiguousarray(color)[None]))[0]


class _Statistics(nn.Module):
    """A network's statistics as its output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, color: Tensor) -> Tensor:
        found: Tensor = self.network.statistics(color)  # type: ignore[operator]
        return found

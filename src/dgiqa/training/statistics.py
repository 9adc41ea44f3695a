"""Statistics of whole pictures, for networks that offer ``statistics(color)``: computed once, kept in the cache.

A head that reads them wants them on one scale, and can be trained on them alone (:mod:`dgiqa.training.probe`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dgiqa.errors import UsageError
from dgiqa.stream import in_order
from dgiqa.training import processes
from dgiqa.training.batches import Batches
from dgiqa.training.looks import look_statistics
from dgiqa.training.pictures import Fault
from dgiqa.types import Float32


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
    look = look_statistics(network, batches.plan, batches.pictures.first, device)

    def row(i: int) -> Float32:
        path, fault = pictures[i]
        return batches.pictures.kept_row(path, fault, look)

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

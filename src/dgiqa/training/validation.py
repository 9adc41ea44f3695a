"""Scores of held-out pictures, made as scoring makes them: whole pictures in their views, the mean over the views.

While first stages are kept, a picture is one view, however long; the verdict in the end is made as scoring makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dgiqa.imaging.views import make_views
from dgiqa.metrics.correlation import plcc, srcc
from dgiqa.stream import in_order
from dgiqa.training import processes
from dgiqa.training.batches import Batches, Group
from dgiqa.training.sets import Rated
from dgiqa.types import Float32, Image


@dataclass(frozen=True)
class Agreement:
    """A set's held-out pictures: how many, and how their scores agree with people's; NaN where that has no meaning."""

    name: str
    n: int
    srcc: float
    plcc: float


def validate(network: nn.Module, batches: Batches, held: Rated, device: torch.device) -> Agreement:
    """Agreement on ``held``; processes share the work and all know the result."""
    raw = predict(network, batches, held, device)[:, 0]
    try:
        found = round(srcc(raw, held.mos), 6), round(plcc(raw, held.mos), 6)
    except ValueError:  # fewer than 3, or all alike
        found = float("nan"), float("nan")
    return Agreement(held.name, len(held), *found)


def predict(network: nn.Module, batches: Batches, rated: Rated, device: torch.device) -> Float32:
    """(n, 1 or 2) raw scores, and spreads of a network that gives them."""
    network.eval()
    own = range(processes.rank(), len(rated), processes.ranks())
    rows = []
    with torch.inference_mode():
        for group in show(rated, batches, own):
            scores, _ = forward(network, (group,), device)
            rows.append(scores.mean(0).cpu().numpy())
    width = len(rows[0]) if rows else 1
    if processes.ranks() > 1:  # a process without a picture doesn't know the width
        width = int(processes.add_up(np.bincount([processes.rank()], minlength=processes.ranks()) * width, device)[0])
    table = np.zeros((len(rated), width), np.float32)
    for place, row in zip(own, rows, strict=True):
        table[place] = row
    return processes.add_up(table, device)


def show(rated: Rated, batches: Batches, chosen: Sequence[int] | None = None) -> Iterator[Group]:
    """Each picture's views, in order, read ahead by threads."""

    def one(i: int) -> Group:
        color, depth = batches.scored.see(rated.paths[i])
        depth = batches.control(batches.scored, depth, rated.paths, i)
        if batches.scored.first is not None:
            return Group(np.arange(1), np.array(color)[None], None if depth is None else depth[None])
        image = Image(np.ascontiguousarray(color), str(rated.paths[i]))
        views = make_views(image, batches.scored.recipe, None if depth is None else lambda _: depth)
        return Group(np.arange(len(views)), views.color, views.depth)

    return in_order(one, range(len(rated)) if chosen is None else chosen, batches.plan.train.workers, background=True)


def forward(network: nn.Module, groups: Sequence[Group], device: torch.device) -> tuple[Tensor, Tensor]:
    """(m, 1 or 2) float32 scores of the groups' pictures in the order of their places, and those places, sorted."""
    found, places = [], []
    for group in groups:
        arrays = (group.color,) if group.depth is None else (group.color, group.depth)
        out = network(*(torch.from_numpy(np.ascontiguousarray(a)).to(device, non_blocking=True) for a in arrays))
        found.append(out.float() if out.ndim == 2 else out.float()[:, None])
        places.append(group.places)
    order = np.argsort(np.concatenate(places))
    together = torch.cat(found)[torch.from_numpy(order).to(device)]
    return together, torch.from_numpy(np.concatenate(places)[order]).to(device)

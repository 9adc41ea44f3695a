"""The loss of a batch: the recipe's losses, weighted, each set on its own scale."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgiqa.errors import UsageError
from dgiqa.training import losses
from dgiqa.training.batches import Batch
from dgiqa.training.optimiser import Scales
from dgiqa.training.recipe import Plan


def objective(scores: Tensor, batch: Batch, scales: Scales, plan: Plan) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and each part of it before it is weighted.

    Args:
        scores: (batch.size, 1 or 2) float32: raw scores of the rated pictures, the pairs' better and worse ones; and
            their spreads. Of a network of several members (batch.size, 2 members): score and spread of each; then
            each has its own loss, and their mean is the loss.

    Raises:
        UsageError: the recipe wants a spread, and the network gives none.
    """
    if plan.loss.spread and scores.shape[1] < 2:
        raise UsageError(f"loss.spread: the network of {plan.model.arch} gives no spread", hint="set loss.spread=0")
    each = [_member(member, batch, scales, plan) for member in torch.split(scores, 2, 1)]
    parts = {name: torch.stack([member[name] for member in each]).mean() for name in each[0]}
    total = sum((getattr(plan.loss, name) * part for name, part in parts.items()), 0.0 * scores.sum())
    return total, {name: part.detach() for name, part in parts.items()}


def _member(scores: Tensor, batch: Batch, scales: Scales, plan: Plan) -> dict[str, Tensor]:
    weights, n = plan.loss, len(batch.mos)
    parts = _rated(scores[:n], batch, scales, plan)
    if weights.ladder and len(batch.steps):
        better, worse = scores[n:, 0].chunk(2)
        if plan.ladders.loss == "margin":
            steps = torch.from_numpy(batch.steps).to(scores.device)
            parts["ladder"] = losses.steps_apart(better, worse, steps, plan.ladders.margin)
        else:
            parts["ladder"] = losses.surely_worse(better, worse, weights.scale)
    return parts


def _rated(scores: Tensor, batch: Batch, scales: Scales, plan: Plan) -> dict[str, Tensor]:
    weights = plan.loss
    owner = torch.from_numpy(batch.owner).to(scores.device)
    gain = scales.gains()[owner]
    found = gain * scores[:, 0] + scales.offsets()[owner]
    wanted, deviations, targets = (
        torch.from_numpy(column).to(scores.device) for column in (batch.mos, batch.deviations, batch.targets)
    )
    parts: dict[str, Tensor] = {}
    if weights.l1:
        parts["l1"] = losses.l1(found, wanted)
    if weights.mse:
        parts["mse"] = losses.mse(found, wanted)
    if weights.spread:
        parts["spread"] = losses.spread(found, gain.detach() * scores[:, 1], wanted)
    if weights.distil and (taught := np.flatnonzero(np.isfinite(batch.targets))).size:
        places = torch.from_numpy(taught).to(scores.device)
        parts["distil"] = losses.mse(found[places], targets[places])
    for name in ("plcc", "plcc_mse", "rank", "fidelity", "norm_in_norm"):
        if getattr(weights, name):
            parts[name] = found.new_zeros(())
    for number in np.unique(batch.owner):
        places = torch.from_numpy(np.flatnonzero(batch.owner == number)).to(scores.device)
        share, x, y = len(places) / len(batch.mos), found[places], wanted[places]
        if weights.plcc:
            parts["plcc"] = parts["plcc"] + share * losses.plcc(x, y)
        if weights.plcc_mse:
            parts["plcc_mse"] = parts["plcc_mse"] + share * losses.plcc_mse(x, y)
        if weights.rank:
            parts["rank"] = parts["rank"] + share * losses.rank(x, y, weights.margin)
        if weights.fidelity:
            parts["fidelity"] = parts["fidelity"] + share * losses.fidelity(x, y, weights.scale, deviations[places])
        if weights.norm_in_norm:
            parts["norm_in_norm"] = parts["norm_in_norm"] + share * losses.norm_in_norm(x, y)
    return parts

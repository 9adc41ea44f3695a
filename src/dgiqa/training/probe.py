"""A head start: the head alone, on statistics of whole pictures that are computed once.

A trunk that is fine-tuned under a random head forgets what it knew; under a head that fits already it doesn't (Kumar
et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", arXiv:2202.10054). It is
also cheap: a pass over the pictures, then a hundred epochs in minutes. For networks that offer ``statistics(color)``
and ``probe(statistics)``, their score from these alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dgiqa.errors import UsageError
from dgiqa.training import processes
from dgiqa.training.batches import Batch, Batches
from dgiqa.training.ladders import LadderMaker
from dgiqa.training.objective import objective
from dgiqa.training.optimiser import Scales
from dgiqa.training.pictures import Fault
from dgiqa.training.recipe import Plan
from dgiqa.training.sets import Rated
from dgiqa.training.statistics import statistics_of

#: Of the optimiser's batches and dropout, apart from those of the run itself.
_STREAM = 20_000


def probe(network: nn.Module, plan: Plan, batches: Batches, ladders: LadderMaker | None, device: torch.device) -> None:
    """Trains what ``network.probe`` reads, on the first set and on ladders, as ``plan.probe`` says.

    Raises:
        UsageError: the network offers no probe.
    """
    if not callable(getattr(network, "probe", None)):
        raise UsageError(f"probe: the network of {plan.model.arch} offers none", hint="set probe.epochs=0")
    if getattr(network.head, "hidden", True) is None:
        raise UsageError("probe: the head reads no statistics", hint="set probe.epochs=0")
    network.eval()
    rated = batches.sets[0]
    pictures: list[tuple[Path, Fault | None]] = [(path, None) for path in rated.paths]
    rungs = ladders.whole(plan.probe.ladders) if ladders else []
    pictures += [(rung.path, rung.fault) for ladder in rungs for rung in ladder]
    found = statistics_of(pictures, network, batches, device)
    severities = [[rung.fault.severity for rung in ladder] for ladder in rungs]
    if processes.rank() == 0:
        spoiled = found[len(rated) :].reshape(len(rungs), -1, found.shape[1]) if rungs else found[:0]
        fit_head(network, plan, rated, found[: len(rated)], spoiled, np.array(severities, np.float32))
    processes.as_the_first(network)


def fit_head(
    network: nn.Module,
    plan: Plan,
    rated: Rated,
    rows: Tensor,
    ladders: Tensor | None = None,
    steps: np.ndarray | None = None,
) -> None:
    """Trains what ``network.probe`` reads: AdamW, the rate on one cycle, the losses the run's.

    Args:
        rated: the pictures' marks.
        rows: (n, S) their statistics.
        ladders: (m, rungs, S) of spoiled pictures; ``steps``: (m, rungs) their severities.
    """
    probe = plan.probe
    ladders = rows.new_zeros(0, 0, rows.shape[1]) if ladders is None else ladders
    steps = np.empty((0, 0), np.float32) if steps is None else steps
    rng = np.random.default_rng([_STREAM, plan.train.seed])
    torch.manual_seed(_STREAM + plan.train.seed)
    parameters = list(network.head.parameters())  # type: ignore[union-attr]
    optimiser = torch.optim.AdamW(parameters, probe.rate, weight_decay=probe.decay)
    size = min(probe.batch, len(rated))
    total = max(1, round(probe.epochs * (len(rated) // size)))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, probe.rate, total + 1)
    scales = Scales(1).to(rows.device)
    pairs = probe.pairs if len(ladders) else 0
    order: np.ndarray = np.empty(0, np.intp)
    network.head.train()  # type: ignore[union-attr]
    for _ in tqdm(range(total), desc="probe", unit="step", disable=None, file=sys.stderr):
        if len(order) < size:
            order = rng.permutation(len(rated))
        chosen, order = order[:size], order[size:]
        whose = rng.integers(0, max(1, len(ladders)), pairs)
        two = np.sort([rng.choice(steps.shape[1], 2, replace=False) for _ in range(pairs)]).reshape(pairs, 2)
        shown = [rows[torch.from_numpy(chosen)]]
        shown += [ladders[torch.from_numpy(whose), torch.from_numpy(two[:, end])] for end in (0, 1) if pairs]
        apart = steps[whose, two[:, 1]] - steps[whose, two[:, 0]] if pairs else np.empty(0, np.float32)
        batch = Batch(
            (),
            np.zeros(size, np.intp),
            rated.mos[chosen],
            rated.deviations[chosen],
            rated.targets[chosen],
            apart.astype(np.float32),
        )
        loss, _ = objective(network.probe(torch.cat(shown)), batch, scales, plan)  # type: ignore[operator]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        cycle.step()
    network.head.eval()  # type: ignore[union-attr]

"""A head start: the head alone, on statistics of whole pictures that are computed once.

A trunk that is fine-tuned under a random head forgets what it knew; under a head that fits already it doesn't (Kumar
et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", arXiv:2202.10054). It is
also cheap: a pass over the pictures, then a hundred epochs in minutes. For networks that offer ``statistics(color)``
and ``probe(statistics)``, their score from these alone.
"""

from __future__ import annotations

import hashlib
import sys
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
from dgiqa.training import processes
from dgiqa.training.batches import Batch, Batches, read_ahead
from dgiqa.training.ladders import LadderMaker
from dgiqa.training.objective import objective
from dgiqa.training.optimiser import Scales
from dgiqa.training.pictures import Fault
from dgiqa.training.recipe import Plan
from dgiqa.types import Float32, UInt8, Views

#: Of the optimiser's batches and dropout, apart from those of the run itself.
_STREAM = 20_000


def probe(network: nn.Module, plan: Plan, batches: Batches, ladders: LadderMaker | None, device: torch.device) -> None:
    """Trains what ``network.probe`` reads, on the first set and on ladders, as ``plan.probe`` says.

    Raises:
        UsageError: the network offers no probe.
    """
    if not (callable(getattr(network, "statistics", None)) and callable(getattr(network, "probe", None))):
        raise UsageError(f"probe: the network of {plan.model.arch} offers none", hint="set probe.epochs=0")
    network.eval()
    rated = batches.sets[0]
    pictures: list[tuple[Path, Fault | None]] = [(path, None) for path in rated.paths]
    rungs = ladders.whole(plan.probe.ladders) if ladders else []
    pictures += [(rung.path, rung.fault) for ladder in rungs for rung in ladder]
    found = statistics_of(pictures, network, batches, device)
    severities = [[rung.fault.severity for rung in ladder] for ladder in rungs]
    if processes.rank() == 0:
        spoiled = found[len(rated) :].reshape(len(rungs), -1, found.shape[1]) if rungs else found[:0]
        _fit(network, plan, batches, found[: len(rated)], spoiled, np.array(severities, np.float32))
    processes.as_the_first(network)


def statistics_of(
    pictures: Sequence[tuple[Path, Fault | None]], network: nn.Module, batches: Batches, device: torch.device
) -> Tensor:
    """(n, S) of whole pictures; processes share the work, and all know the result. Rows are kept in the cache."""
    look = _look(network, batches.plan.model.recipe, device)
    trunk = {name: value for name, value in network.state_dict().items() if not name.startswith("head.")}
    key = hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in trunk.values())).hexdigest()[:12]

    def row(i: int) -> Float32:
        path, fault = pictures[i]
        return batches.pictures.kept_row(path, fault, key, look)

    own = range(processes.rank(), len(pictures), processes.ranks())
    table: Float32 | None = None
    bar = tqdm(total=len(own), unit="picture", desc="statistics", disable=None if processes.rank() == 0 else True)
    with bar:
        for i, found in zip(own, read_ahead(row, own, batches.plan.train.workers), strict=True):
            table = np.zeros((len(pictures), len(found)), np.float32) if table is None else table
            table[i] = found
            bar.update()
    if table is None:
        raise UsageError("fewer pictures than processes", hint="start fewer processes")
    return torch.from_numpy(processes.add_up(table, device)).to(device)


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


def _fit(network: nn.Module, plan: Plan, batches: Batches, rated: Tensor, ladders: Tensor, steps: np.ndarray) -> None:
    """AdamW over shuffled batches, the rate on one cycle; the losses are the run's."""
    probe, first = plan.probe, batches.sets[0]
    rng = np.random.default_rng([_STREAM, plan.train.seed])
    torch.manual_seed(_STREAM + plan.train.seed)
    parameters = list(network.head.parameters())  # type: ignore[union-attr]
    optimiser = torch.optim.AdamW(parameters, probe.rate, weight_decay=probe.decay)
    size = min(probe.batch, len(rated))
    total = max(1, round(probe.epochs * (len(rated) // size)))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, probe.rate, total + 1)
    scales = Scales(1).to(rated.device)
    pairs = probe.pairs if len(ladders) else 0
    order: np.ndarray = np.empty(0, np.intp)
    network.head.train()  # type: ignore[union-attr]
    for _ in tqdm(range(total), desc="probe", unit="step", disable=None, file=sys.stderr):
        if len(order) < size:
            order = rng.permutation(len(rated))
        chosen, order = order[:size], order[size:]
        whose = rng.integers(0, max(1, len(ladders)), pairs)
        two = np.sort([rng.choice(steps.shape[1], 2, replace=False) for _ in range(pairs)]).reshape(pairs, 2)
        shown = [rated[torch.from_numpy(chosen)]]
        shown += [ladders[torch.from_numpy(whose), torch.from_numpy(two[:, end])] for end in (0, 1) if pairs]
        apart = steps[whose, two[:, 1]] - steps[whose, two[:, 0]] if pairs else np.empty(0, np.float32)
        batch = Batch(
            (),
            np.zeros(size, np.intp),
            first.mos[chosen],
            first.deviations[chosen],
            first.targets[chosen],
            apart.astype(np.float32),
        )
        loss, _ = objective(network.probe(torch.cat(shown)), batch, scales, plan)  # type: ignore[operator]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        cycle.step()
    network.head.eval()  # type: ignore[union-attr]

"""The training loop: recipe → weights → card. Plain torch, for a CPU, a GPU or several under torchrun.

    for each step:  batches → network → objective → gradients of all processes → AdamW → moving average
    now and then:   validation, a checkpoint

What happens at a step follows from the recipe and the step's number alone, so a run that was killed goes on from its
last checkpoint to the very same weights.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dgiqa.errors import ImageError, RuntimeMissing, UsageError
from dgiqa.training import processes
from dgiqa.training.batches import Batch, Batches
from dgiqa.training.checkpoint import Checkpoints, Log
from dgiqa.training.finish import finish
from dgiqa.training.ladders import LadderMaker
from dgiqa.training.looks import frozen_for, look_first
from dgiqa.training.objective import objective
from dgiqa.training.optimiser import Scales, freeze, make_optimiser, move_average, set_rate, set_training
from dgiqa.training.pictures import Pictures
from dgiqa.training.probe import probe
from dgiqa.training.recipe import Plan
from dgiqa.training.sets import Parts, read_sets
from dgiqa.training.start import start_depth, start_network
from dgiqa.training.statistics import fit_statistics
from dgiqa.training.validation import forward, validate

#: Numbers for random streams of a step: one for each process.
_RANKS = 4096


@dataclass
class Run:
    """What a run is made of. Every process has one; all their states are the same after each step."""

    plan: Plan
    out: Path
    device: torch.device
    sets: list[Parts]
    batches: Batches
    network: nn.Module
    averaged: nn.Module
    scales: Scales
    optimiser: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    checkpoints: Checkpoints
    log: Log


def train(
    plan: Plan,
    out: Path,
    *,
    roots: Mapping[str, Path],
    cache: Path | None = None,
    keep: bool = False,
    command: str = "",
) -> Path:
    """Trains as ``plan`` says, from the last checkpoint in ``out`` if there is one; returns the draft card's path.

    Args:
        out: folder of the run: checkpoints, log, and in the end the card and the exported network.
        roots: folders of the data sets by name.
        cache: folder for depth maps; ``out/cache`` by default. Runs may share one.
        keep: whether resized pictures are kept there, too.
        command: what made the run, for the card.

    Raises:
        UsageError: the recipe and the data make no sense together, or ``out`` holds another run.
        CardError, WeightsError, RuntimeMissing: each with the way out.
    """
    device = processes.join(_device(plan))
    try:
        run = prepare(plan, out, device, roots=roots, cache=cache or out / "cache", keep=keep)
        fit(run)
        run.batches.scored.first = None  # the verdict is on pixels
        return finish(plan, out, run.averaged, run.checkpoints, run.sets, run.batches, device, command)
    except ImageError as error:
        raise UsageError(f"a picture of the data can't be read: {error}") from error
    finally:
        processes.leave()


def prepare(plan: Plan, out: Path, device: torch.device, *, roots: Mapping[str, Path], cache: Path, keep: bool) -> Run:
    """Everything read, built and, after a stop, put back to where the run was."""
    sets = read_sets(plan, roots)
    depth_map, label = start_depth(plan)
    scored = Pictures(plan.model.recipe, depth_map, label, cache, keep)
    pictures = scored if plan.seen == plan.model.recipe else Pictures(plan.seen, depth_map, label, cache, keep)
    fitted = [parts.fitted for parts in sets]
    unrated = _unrated(plan)
    ladders = _ladders(plan, sets, unrated)
    batches = Batches(plan, fitted, pictures, ladders, processes.rank(), processes.ranks(), scored)
    sums = {parts.fitted.name: parts.fitted.sum() + parts.held.sum() for parts in sets}
    if unrated:
        sums["ladders.pictures"] = hashlib.sha256("\n".join(path.name for path in unrated).encode()).hexdigest()[:16]
    checkpoints = Checkpoints(out, plan, sums)
    _repeatable(device)
    network = start_network(plan).to(device)
    state = checkpoints.read()
    if state is not None:
        network.load_state_dict(state["network"])
    pictures.first = scored.first = look_first(network, plan, device)
    freeze(network, [*plan.model.freeze, *frozen_for(network, plan)])
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scales = Scales(len(sets)).to(device)
    optimiser = make_optimiser(network, scales, plan.train)
    scaler = torch.amp.GradScaler(device.type, enabled=plan.train.amp == "fp16")
    if state is None:
        fit_statistics(network, batches, device)
        if plan.probe.epochs:
            probe(network, plan, batches, ladders, device)
    averaged = copy.deepcopy(network).requires_grad_(False).eval()
    if state is not None:
        averaged.load_state_dict(state["averaged"])
        scales.load_state_dict(state["scales"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
    log = Log(out, checkpoints.step)
    return Run(plan, out, device, sets, batches, network, averaged, scales, optimiser, scaler, checkpoints, log)


def fit(run: Run) -> None:
    """Every step from where the run stands to the last one."""
    train, total = run.plan.train, run.batches.total
    every = train.validate or run.batches.steps_per_epoch
    _say(_beginning(run))
    if run.plan.probe.epochs and not run.checkpoints.file.exists():  # what the head start alone is worth
        _validate(run, 0)
        _save(run, 0)
    set_training(run.network)
    bar = tqdm(total=total, initial=run.checkpoints.step, unit="step", disable=None if processes.rank() == 0 else True)
    with bar, closing(run.log), closing(run.batches.ahead(run.checkpoints.step)) as steps:
        means = _Means(run)
        for step, batches in steps:
            means.add(take_step(run, step, batches))
            done, last = step + 1, step + 1 == total
            bar.update()
            if done % train.log == 0 or last:
                bar.set_postfix(loss=means.report(done))
            if validates := done % every == 0 or last:
                _validate(run, done)
            if done % train.checkpoint == 0 or validates:
                means.check(done)
                _save(run, done)


class _Means:
    """Losses since the last line of the log."""

    def __init__(self, run: Run) -> None:
        self._run, self._start = run, time.monotonic()
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            total, count = self._sums.get(name, (torch.zeros_like(value), 0))
            self._sums[name] = total + value, count + 1

    def check(self, done: int) -> dict[str, float]:
        """The means; each over the steps that had such a loss.

        Raises:
            UsageError: one of them is no number.
        """
        means = {name: round(float(total) / count, 6) for name, (total, count) in self._sums.items()}
        if not all(map(math.isfinite, means.values())):
            raise UsageError(
                f"the loss is no number any more at step {done}", hint="lower train.rate, or start from other weights"
            )
        return means

    def report(self, done: int) -> str:
        """Writes the line of step ``done``, begins anew, and returns the loss."""
        means, rate = self.check(done), self._run.optimiser.param_groups[0]["lr"]
        epoch = round(done / self._run.batches.steps_per_epoch, 3)
        seconds = round(time.monotonic() - self._start, 1)
        self._run.log.write({"step": done, "epoch": epoch, **means, "rate": rate, "seconds": seconds})
        self._sums = {}
        return f"{means['loss']:.4f}"


def take_step(run: Run, step: int, batches: list[Batch]) -> dict[str, Tensor]:
    """One optimiser step over the parts of its batch; returns the losses, each the mean over the parts."""
    train = run.plan.train
    torch.manual_seed((train.seed * 1_000_003 + step) * _RANKS + processes.rank())  # dropout
    set_rate(run.optimiser, step, run.batches.total, train)
    losses: dict[str, Tensor] = {}
    for batch in batches:
        scores = _scores(run, batch)
        loss, parts = objective(scores, batch, run.scales, run.plan)
        run.scaler.scale(loss / len(batches)).backward()  # type: ignore[no-untyped-call]
        for name, value in {"loss": loss.detach(), **parts}.items():
            losses[name] = losses.get(name, torch.zeros_like(value)) + value / len(batches)
    processes.sum_gradients(run.network.parameters())  # the scales' gradients are the same everywhere
    run.scaler.unscale_(run.optimiser)
    if train.clip:
        torch.nn.utils.clip_grad_norm_([*run.network.parameters(), *run.scales.parameters()], train.clip)
    run.scaler.step(run.optimiser)
    run.scaler.update()
    run.optimiser.zero_grad(set_to_none=True)
    processes.same_buffers(run.network)
    move_average(run.averaged, run.network, train.ema, step)
    return losses


def _scores(run: Run, batch: Batch) -> Tensor:
    """(batch.size, 1 or 2) float32 of all processes' pictures; gradients go through this process's own."""
    kind = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[run.plan.train.amp]
    with torch.autocast(run.device.type, dtype=kind, enabled=kind != torch.float32):
        own, places = forward(run.network, batch.groups, run.device)
    return processes.from_all(own, places, batch.size)


def _validate(run: Run, done: int) -> None:
    found = [validate(run.averaged, run.batches, parts.held, run.device) for parts in run.sets if len(parts.held)]
    lines = {line.name: line for line in found}
    for line in found:
        run.log.write({"step": done, "validation": line.name, "n": line.n, "srcc": line.srcc, "plcc": line.plcc})
        _say(f"step {done}: {line.name}, {line.n} held out: SRCC {line.srcc:.4f}, PLCC {line.plcc:.4f}")
    first = lines.get(run.sets[0].held.name)
    if first is not None and run.checkpoints.offer(done, first.srcc, run.averaged):
        run.log.write({"step": done, "best_so_far": first.srcc})


def _save(run: Run, done: int) -> None:
    state = {
        "network": run.network.state_dict(),
        "averaged": run.averaged.state_dict(),
        "scales": run.scales.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "scaler": run.scaler.state_dict(),
    }
    run.checkpoints.write(done, state)
    processes.wait()


def _unrated(plan: Plan) -> list[Path]:
    """The pictures without marks that ladders are made of, too."""
    if not plan.ladders.pairs or not plan.ladders.pictures:
        return []
    from dgiqa.sources import find

    found = list(find([str(plan.place(plan.ladders.pictures))]))
    if error := next((one.error for one in found if one.error), None):
        raise UsageError(f"ladders.pictures: {error}")
    if not found:
        raise UsageError(f"ladders.pictures: there are no pictures in {plan.ladders.pictures}")
    return sorted(Path(one.path) for one in found)


def _ladders(plan: Plan, sets: list[Parts], unrated: list[Path]) -> LadderMaker | None:
    if not plan.ladders.pairs:
        return None
    rated = [path for parts in sets for path in parts.fitted.paths]
    return LadderMaker(plan.ladders, rated, plan.train.seed, unrated)


def _beginning(run: Run) -> str:
    fitted, held = (sum(len(getattr(parts, name)) for parts in run.sets) for name in ("fitted", "held"))
    what = f"{fitted:,} pictures to train on, {held:,} held out; {run.batches.total:,} steps on {run.device}"
    return what + (f", going on after step {run.checkpoints.step:,}" if run.checkpoints.step else "")


def _say(text: str) -> None:
    """A line on standard error, above the progress bar."""
    if processes.rank() == 0:
        tqdm.write(f"dgiqa: {text}", file=sys.stderr)


def _repeatable(device: torch.device) -> None:
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def _device(plan: Plan) -> str:
    wanted = plan.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeMissing("train.device = 'cuda', but torch finds no GPU", hint="set train.device=cpu")
    found = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    if plan.train.amp == "fp16" and found == "cpu":
        raise UsageError("train.amp = 'fp16' is for GPUs", hint="set train.amp=no, or bf16")
    return found

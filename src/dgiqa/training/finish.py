"""The end of a run: the chosen weights become an ONNX file that passed parity, and a draft card beside it.

The held-out pictures of the first set give the card its calibration, its interval and the agreement it states, so
that ``dgiqa score PICTURE --model OUT/NAME.toml`` works at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dgiqa.calibration import LEAST, as_toml, calibrate
from dgiqa.cards import Measured, ModelCard, Network, Training, WeightsFile, read_card
from dgiqa.errors import UsageError
from dgiqa.export.half import round_weights
from dgiqa.export.onnx import export
from dgiqa.metrics.correlation import bootstrap_interval, plcc, srcc
from dgiqa.training import processes
from dgiqa.training.batches import Batches
from dgiqa.training.checkpoint import Checkpoints
from dgiqa.training.recipe import Plan
from dgiqa.training.sets import Parts, Rated
from dgiqa.training.start import blank_card, with_depth_path
from dgiqa.training.validation import predict
from dgiqa.types import Float32
from dgiqa.weights.files import sha256_of


def finish(
    plan: Plan,
    out: Path,
    averaged: nn.Module,
    checkpoints: Checkpoints,
    sets: Sequence[Parts],
    batches: Batches,
    device: torch.device,
    command: str = "",
) -> Path:
    """Writes ``NAME.onnx``, ``NAME.toml`` and ``held_out.json`` into ``out``; returns the card's path.

    Raises:
        WeightsError: torch and ONNX Runtime differ; no card is written.
    """
    chosen = _choose(plan, averaged, checkpoints)
    if plan.card.half:
        round_weights(averaged)
    held = sets[0].held
    scores = predict(averaged, batches, held, device)
    path = out / f"{plan.name}.toml"
    if processes.rank() == 0:
        _keep_scores(out, held, scores)
        card = with_depth_path(blank_card(plan), plan, out)
        network = averaged.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        card = dataclasses.replace(
            card,
            folder=out,
            network=size_of(network, card),
            weights={"onnx": _export(network, card, out, plan.card.half)},
            training=_training(plan, sets, chosen, command),
            **judged(held, scores, chosen_by=plan.train.select == "best"),
        )
        write_card(card, path)
    processes.wait()
    return path


def _choose(plan: Plan, averaged: nn.Module, checkpoints: Checkpoints) -> str:
    """Puts the weights in place that the recipe selects, and says which they are."""
    if plan.train.select == "last" or checkpoints.best is None:
        return f"the last weights, of step {checkpoints.step}" if checkpoints.step else "the head's start alone"
    state = torch.load(checkpoints.best_file, map_location="cpu", weights_only=True)
    averaged.load_state_dict(state["averaged"])
    return f"the weights of step {state['step']}, of {checkpoints.step}: the best on the held-out pictures"


def _keep_scores(out: Path, held: Rated, scores: Float32) -> None:
    rows = {
        "path": [path.name for path in held.paths],
        "raw": [round(float(raw), 6) for raw in scores[:, 0]],
        "spread": [round(float(row[1]), 6) for row in scores] if scores.shape[1] > 1 else [],
        "mos": [round(float(mos), 6) for mos in held.mos],
    }
    (out / "held_out.json").write_text(json.dumps(rows))


def _export(network: nn.Module, card: ModelCard, out: Path, half: bool) -> WeightsFile:
    file = out / card.weights["onnx"].file
    export(network, card, file, half=half)
    return WeightsFile(file.name, sha256=sha256_of(file), bytes=file.stat().st_size)


def size_of(network: nn.Module, card: ModelCard) -> Network:
    """Parameters and GMACs, counted."""
    side = card.recipe.crop or card.recipe.short_side
    views = [torch.zeros(1, side, side, 3, dtype=torch.uint8)]
    views += [torch.zeros(1, side, side, dtype=torch.uint8)] if card.recipe.depth else []
    views += views[:1] if card.reference == "full" else []
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.eval()(*views)
    parameters = sum(p.numel() for p in network.parameters())
    what = f"{side}×{side} view" + " and its depth" * bool(card.recipe.depth)
    what += " and its original" * (card.reference == "full")
    return Network(parameters, round(counter.get_total_flops() / 2e9, 3), what)


def _training(plan: Plan, sets: Sequence[Parts], chosen: str, command: str) -> Training:
    parts = [f"{p.fitted.name}: {len(p.fitted):,} pictures, {len(p.held):,} others held out" for p in sets]
    depth = "" if plan.train.depth in ("own", "none") else f"; depth was a control: {plan.train.depth}"
    started = plan.model.initialisation or ", ".join(
        f"{part} from {Path(source).name}"
        for part, source in {"all": plan.model.initial, **plan.model.trunks}.items()
        if source
    )
    return Training(
        data=plan.card.data or "; ".join(parts) + f"; {chosen}{depth}",
        initialisation=started or "random",
        teachers=plan.card.teachers,
        command=command,
    )


def judged(held: Rated, scores: Float32, *, chosen_by: bool = False) -> dict[str, Any]:
    """Calibration, interval and measured agreement; without enough held-out pictures the card has none of its own.

    Args:
        scores: (n, 1) raw scores, or (n, 2) with their spreads.
        chosen_by: whether the same pictures chose the weights.
    """
    raw, spread = scores[:, 0], scores[:, 1] if scores.shape[1] > 1 else None
    note = f"{held.name}, {len(held)} pictures that were held out of training"
    try:
        fit = calibrate(raw, held.mos, spread, fitted_on=note)
        low, high = bootstrap_interval(srcc, raw, held.mos)
        found = srcc(raw, held.mos)
        measured = Measured(
            held.name,
            "held out of training",
            len(held),
            srcc=round(found, 4),
            srcc_low=round(min(low, found), 4),
            srcc_high=round(max(high, found), 4),
            plcc=round(plcc(raw, held.mos), 4),
            note="the pictures that also gave the calibration" + ", and chose the weights" * chosen_by,
        )
    except (UsageError, ValueError) as error:
        print(
            f"dgiqa: the card has no calibration yet: {error}; {LEAST} rated pictures give it one: dgiqa calibrate",
            file=sys.stderr,
        )
        return {}
    return {"calibration": fit.calibration, "interval": fit.interval, "measured": (measured,)}


def write_card(card: ModelCard, path: Path) -> None:
    """Writes the card and reads it back."""
    part = path.with_name(path.name + ".part")
    arch = json.dumps(card.arch)
    part.write_text(f"arch = {arch}\n{as_toml(card, leave=('arch', 'name', 'folder'))}", encoding="utf-8")
    os.replace(part, path)
    read_card(path)

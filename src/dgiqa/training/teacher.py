"""Targets without the luck of one panel: what heads that never saw a picture say of it.

    recipe → statistics of a frozen trunk → k heads, each trained without one fold → CSV of path, target

A MOS is the mean of a few people's marks and carries their luck; a network that fits it learns that luck. What a head
trained on the other pictures says carries none of it, and its own errors are others. As ``data.targets`` with
``loss.distil`` beside the marks themselves (Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531; across folds, as in stacking: Wolpert, "Stacked generalization", Neural Networks 1992)::

    torchrun --nproc-per-node 2 -m dgiqa.training.teacher RECIPE --data NAME=DIR --out targets.csv [--set KEY=VALUE]...

The recipe's network, data, ``[probe]`` and ``[loss]`` hold. The trunk must not have seen the marks: ImageNet's, say.
``--beside FILE`` takes the mean with the targets of another trunk, which errs otherwise.
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dgiqa.exits import exit_code
from dgiqa.metrics.correlation import srcc
from dgiqa.training import processes
from dgiqa.training.batches import Batches
from dgiqa.training.pictures import Pictures
from dgiqa.training.probe import fit_head
from dgiqa.training.recipe import Plan, read_recipe
from dgiqa.training.sets import Rated, read_roots, read_sets, read_targets
from dgiqa.training.start import start_network
from dgiqa.training.statistics import fit_statistics, statistics_of
from dgiqa.types import Float32


def out_of_fold(network: nn.Module, plan: Plan, rated: Rated, rows: torch.Tensor, folds: int) -> Float32:
    """(n,) for each picture what a head says that was trained on the others; processes share the heads.

    Args:
        network: its head's start; left as it is.
        rows: (n, S) statistics of ``rated``.
        folds: each head is trained without one of so many parts.
    """
    found = np.zeros(len(rated), np.float32)
    fold = np.random.default_rng(plan.train.seed).permutation(len(rated)) % folds
    for part in range(processes.rank(), folds, processes.ranks()):
        fitted, left = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        judge = copy.deepcopy(network)
        fit_head(judge, plan, rated.some(fitted), rows[torch.from_numpy(fitted)])
        with torch.inference_mode():
            found[left] = judge.eval().probe(rows[torch.from_numpy(left)])[:, 0].numpy()  # type: ignore[operator]
    return processes.add_up(found, rows.device)


def main(arguments: list[str] | None = None) -> None:
    """Writes the targets of the first set's pictures that are trained on, and says how they agree with their MOS."""
    parser = argparse.ArgumentParser(prog="python -m dgiqa.training.teacher", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="targets of another; the mean is written",
    )
    parser.add_argument("--folds", type=int, default=6, metavar="N", help="heads, each without its part (default 6)")
    args = parser.parse_args(arguments)
    plan = read_recipe(args.recipe, args.set)
    rated = read_sets(plan, read_roots(args.data))[0].fitted
    plan = replace(plan, data=plan.data[:1])
    others = [read_targets(file, rated.paths) for file in args.beside]
    device = processes.join("cpu")
    try:
        network, pictures = start_network(plan), Pictures(plan.model.recipe, None, "", args.cache)
        batches = Batches(plan, [rated], pictures, None, processes.rank(), processes.ranks())
        fit_statistics(network, batches, device)
        rows = statistics_of([(path, None) for path in rated.paths], network, batches, device)
        targets = out_of_fold(network, plan, rated, rows, args.folds)
        targets = np.nanmean([targets, *others], 0, np.float32)  # others may lack some
        if processes.rank() == 0:
            _write(args.out, rated, targets)
            print(f"{len(rated)} targets; SRCC with the MOS {srcc(targets, rated.mos):.4f}", file=sys.stderr)
    finally:
        processes.leave()


def _write(file: Path, rated: Rated, targets: Float32) -> None:
    """The CSV file, whole or not at all."""
    part = file.with_name(file.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("path", "target"))
        table.writerows((p.as_posix(), f"{t:.5f}") for p, t in zip(rated.paths, targets, strict=True))
    os.replace(part, file)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))

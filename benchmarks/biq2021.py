"""How well a model agrees with people on BIQ2021's official test part, by subset and scene-disjoint, with controls.

    python benchmarks/biq2021.py --data BIQ2021 [--model default] [--workers 2] [--out result.json]

The controls replace what the network sees of depth, everything else equal: a constant, and the depth of another
picture (a fixed shuffle); or the one view of the whole picture by the mean over a grid of crops. A gain over a constant
that the shuffled control keeps is no gain from depth.
The scene-disjoint row is the set's part test-disjoint: without pictures that have a near duplicate in the train part.
Intervals are bootstrap 95 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from pathlib import Path

import numpy as np

import dgiqa
from dgiqa.datasets import Split, read_split
from dgiqa.depth import DepthEstimator, open_depth
from dgiqa.metrics.correlation import bootstrap_interval, plcc, srcc
from dgiqa.models import find_card
from dgiqa.runtimes import open_runtime
from dgiqa.types import Score, UInt8

#: Side of the crops of a grid, for a model that looks at the whole picture.
CROP = 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    split = read_split("biq2021", "test", args.data)
    disjoint = set(read_split("biq2021", "test-disjoint", args.data).paths)
    alone = np.array([path in disjoint for path in split.paths])
    scorer = dgiqa.load(args.model, None)
    report: dict[str, object] = {"model": scorer.model, "dataset": "biq2021", "split": "official test"}
    start = time.monotonic()
    raw = scores(scorer, split, args.workers)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report |= {
        "pictures_per_second": round(len(split) / seconds, 1),
        "peak_memory_mb": round(peak),
        "workers": args.workers,
    }
    report["rows"] = rows(raw, split, alone)
    if not args.no_controls:
        for name, control, threads in controls(args.model, split, args.workers):
            report[f"control: {name}"] = rows(scores(control, split, threads), split, alone)
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def scores(scorer: dgiqa.Scorer, split: Split, workers: int) -> np.ndarray:
    """(n,) raw scores; a picture that fails stops the measurement."""
    raw = []
    for result in scorer.score_all(split.paths, workers=workers):
        if not isinstance(result, Score):
            raise SystemExit(str(result.error))
        raw.append(result.raw)
    return np.array(raw)


def rows(raw: np.ndarray, split: Split, alone: np.ndarray) -> dict[str, dict[str, object]]:
    """SRCC and PLCC with intervals, over all, by subset, and without near duplicates of train."""
    subsets = np.array(split.subsets)
    chosen = {"all": np.ones(len(split), bool)} | {s: subsets == s for s in sorted(set(split.subsets))}
    chosen["scene-disjoint"] = alone
    return {name: row(raw[mask], split.mos[mask]) for name, mask in chosen.items()}


def row(raw: np.ndarray, mos: np.ndarray) -> dict[str, object]:
    found: dict[str, object] = {"n": len(raw)}
    for name, metric in (("srcc", srcc), ("plcc", plcc)):
        interval = bootstrap_interval(metric, raw, mos, samples=1000)
        found[name] = round(metric(raw, mos), 4)
        found[f"{name}_interval"] = [round(value, 4) for value in interval]
    return found


def controls(model: str, split: Split, workers: int) -> list[tuple[str, dgiqa.Scorer, int]]:
    """The same network with other depths and with other views; and how many threads each may have."""
    card = find_card(model)
    network = open_runtime(card)
    depth = open_depth(card.recipe.depth)
    crops = dataclasses.replace(card, recipe=dataclasses.replace(card.recipe, views="grid", crop=CROP))
    shuffled = _Shuffled(card.recipe.short_side, depth, split)
    return [
        ("constant depth", dgiqa.Scorer(card, network, lambda p: np.full(p.shape[:2], 128, np.uint8)), workers),
        ("another picture's depth", dgiqa.Scorer(card, network, shuffled), 1),  # it counts the pictures
        (f"the mean of a grid of crops of {CROP}", dgiqa.Scorer(crops, network, depth), workers),
    ]


class _Shuffled:
    """Gives the i-th picture asked for the depth of another one; the pictures are square and of one size."""

    def __init__(self, side: int, depth: DepthEstimator, split: Split) -> None:
        from dgiqa.imaging.decode import decode
        from dgiqa.imaging.resize import resize

        order = np.random.default_rng(0).permutation(len(split))
        self._maps = (depth(resize(decode(split.paths[i]).pixels, side, side, "bicubic")) for i in order)

    def __call__(self, pixels: UInt8) -> UInt8:
        found = next(self._maps)
        assert found.shape == pixels.shape[:2]
        return found


if __name__ == "__main__":
    main()

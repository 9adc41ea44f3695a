"""What decoding JPEGs at a reduced scale does to scores, and how much sooner they come.

    python benchmarks/reduced.py FOLDER [FOLDER...] [--model CARD] [--reduce 1.4 2] [--out FILE.json]

Every JPEG is scored from all its pixels, and with each value of the recipe's ``reduce``: the least ratio of the decoded
short side to the one that the recipe resizes to. Changes are in points of 100, over the pictures that were reduced.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np

import dgiqa
from dgiqa.depth import open_depth
from dgiqa.errors import ImageError
from dgiqa.metrics.correlation import srcc
from dgiqa.models import find_card
from dgiqa.runtimes import open_runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--reduce", nargs="+", type=float, default=[1.0, 1.4, 2.0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    card = find_card(args.model)
    network, depth = open_runtime(card), open_depth(card.recipe.depth) if card.recipe.depth else None
    scorers = {"full": dgiqa.Scorer(card, network, depth)}
    for value in args.reduce:
        own = dataclasses.replace(card, recipe=dataclasses.replace(card.recipe, reduce=value))
        scorers[f"reduce {value:g}"] = dgiqa.Scorer(own, network, depth, fast=True)
    report = {str(folder): compare(folder, scorers) for folder in args.folders}
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def compare(folder: Path, scorers: dict[str, dgiqa.Scorer]) -> dict[str, object]:
    quality: dict[str, list[float]] = {name: [] for name in scorers}
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    for found in dgiqa.find([folder]):
        if found.error is not None or not found.path.lower().endswith((".jpg", ".jpeg")):
            continue
        for name, scorer in scorers.items():  # taking turns, the one that sees all pixels first
            start = time.perf_counter()
            try:
                score = scorer.score(found)
            except ImageError as error:
                print(f"left out: {error}", file=sys.stderr)
                break
            quality[name].append(score.quality)
            seconds[name].append(time.perf_counter() - start)
    full = np.array(quality.pop("full"))
    rows: dict[str, object] = {
        "pictures": len(full),
        "full: median ms": round(1e3 * float(np.median(seconds["full"])), 1),
    }
    for name, values in quality.items():
        change = np.array(values) - full
        reduced = np.abs(change[change != 0])
        if not len(reduced):
            rows[name] = "no picture was large enough"
            continue
        rows[name] = {
            "reduced": len(reduced),
            "largest change": round(float(reduced.max()), 3),
            "99 in 100 below": round(float(np.quantile(reduced, 0.99)), 3),
            "mean change": round(float(reduced.mean()), 3),
            "mean shift": round(float(change[change != 0].mean()), 3),
            "rank agreement": round(srcc(np.array(values), full), 5),
            "of the full time": round(float(np.median(np.divide(seconds[name], seconds["full"]))), 2),
        }
    return rows


if __name__ == "__main__":
    main()

"""What each part of the network is worth: every part left out or changed, on one budget, over several seeds.

    python benchmarks/ablations.py --data BIQ2021 --cache CACHE --out FOLDER [--seeds 3] [--only NAMES]

Each run is ``dgiqa train recipes/ablation.toml``: the colour trunk stays as ImageNet left it, what stands on it is
trained. A run that is there already is not made again. For each variant: SRCC on the held-out pictures, the mean over
seeds and its range; and the difference to the whole network with a 95 % interval, from resampling seeds and
pictures together. A difference whose interval holds 0 is none that this budget can show.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from dgiqa.metrics.correlation import srcc

RECIPE = Path(__file__).parents[1] / "recipes" / "ablation.toml"

#: Settings over the recipe, by variant. ``stack`` judges by the fused map alone, as the paper does; ``both`` reads the
#: trunk's statistics beside it, as the embedded default does.
STACK = ("model.settings.hidden=0", "probe.epochs=0")
VARIANTS: dict[str, tuple[str, ...]] = {
    "stack": STACK,
    "stack, colour alone": (*STACK, "model.settings.asks=alone"),
    "stack, constant depth": (*STACK, "train.depth=constant"),
    "stack, another's depth": (*STACK, "train.depth=shuffled"),
    "stack, colour asks depth": (*STACK, "model.settings.asks=color"),
    "stack, no gate": (*STACK, "model.settings.gated=false"),
    "stack, no refinement": (*STACK, "model.settings.refined=false"),
    "stack, not dilated": (*STACK, "model.settings.dilated=false"),
    "both": (),
    "both, colour alone": ("model.settings.asks=alone",),
    "both, constant depth": ("train.depth=constant",),
    "both, another's depth": ("train.depth=shuffled",),
}
#: Resamples of an interval.
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    args = parser.parse_args()
    chosen = args.only.split(",")
    if unknown := set(chosen) - set(VARIANTS):
        parser.error(f"unknown variants: {', '.join(sorted(unknown))}; known: {', '.join(VARIANTS)}")
    for seed in range(args.seeds):
        for name in chosen:
            train(name, seed, args)
    report = {}
    for name in chosen:
        whole = name.split(",")[0]
        runs, wholes = (read(args.out, n, args.seeds) for n in (name, whole if whole in chosen else name))
        report[name] = compare(runs, wholes)
        row = report[name]
        print(
            f"{name:<28}{row['srcc']:>7.4f}  {row['lowest']:.4f} to {row['highest']:.4f}"
            + ("" if name == whole else f"  {row['difference']:+.4f} [{row['from']:+.4f}, {row['to']:+.4f}]")
        )
    (args.out / "ablations.json").write_text(json.dumps(report, indent=1) + "\n")


def train(name: str, seed: int, args: argparse.Namespace) -> None:
    """The run of a variant and a seed, unless it is there."""
    out = folder(args.out, name, seed)
    if (out / "held_out.json").exists():
        return
    settings = [*VARIANTS[name], f"train.seed={seed}", *args.settings]
    command = [sys.executable, "-m", "dgiqa", "train", str(RECIPE), "--data", f"biq2021={args.data}"]
    command += ["--cache", str(args.cache), "--out", str(out), "--keep-pictures"]
    print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    subprocess.run([*command, *(part for setting in settings for part in ("--set", setting))], check=True)


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"


def read(out: Path, name: str, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, n) raw scores of the held-out pictures, and their (n,) MOS."""
    rows = [json.loads((folder(out, name, seed) / "held_out.json").read_text()) for seed in range(seeds)]
    return np.array([row["raw"] for row in rows]), np.array(rows[0]["mos"])


def compare(runs: tuple[np.ndarray, np.ndarray], wholes: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Mean SRCC over seeds, its range, and the difference to the whole network's, with its interval."""
    (raw, mos), (other, _) = runs, wholes
    each, whole = ([srcc(row, mos) for row in rows] for rows in (raw, other))
    rng, differences = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        pictures = rng.integers(0, len(mos), len(mos))
        a, b = (rows[rng.integers(0, len(rows), len(rows))] for rows in (raw, other))
        found = [np.mean([srcc(row[pictures], mos[pictures]) for row in rows]) for rows in (a, b)]
        differences.append(found[0] - found[1])
    low, high = np.quantile(differences, [0.025, 0.975])
    return {
        "srcc": float(np.mean(each)),
        "lowest": min(each),
        "highest": max(each),
        "difference": float(np.mean(each) - np.mean(whole)),
        "from": float(low),
        "to": float(high),
        "seeds": len(raw),
        "pictures": len(mos),
    }


if __name__ == "__main__":
    main()

"""What each part of the network is worth: every part left out or changed, on one budget, over several seeds.

    python benchmarks/ablations.py --data BIQ2021 --trunk efficientnet-lite0-57934424.pth --cache CACHE --out FOLDER

Each run is ``dgiqa train recipes/ablation.toml``, which says where the trunk's file comes from: the trunk stays as
ImageNet left it, what stands on it is trained. A run that is there already with the same settings is not made again.
For each variant: SRCC on the held-out pictures, its mean over seeds and its range; and the difference to the whole
network with a 95 % interval, of the choice of pictures (paired bootstrap) and of seeds (Student's t) together. The
pictures that are trained on are the same in all runs, and many comparisons are not corrected for being many.
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

#: Settings over the recipe, by variant, named WHOLE, WHAT CHANGES. ``stack`` judges by the fused map alone; ``both``
#: reads the trunk's statistics beside it, as the embedded default does; ``head`` reads these alone, and is trained on
#: ratings only, or on pictures spoiled by some kinds of faults as well.
STACK = ("model.settings.hidden=0", "probe.epochs=0")
HEAD = ("train.epochs=0", "model.settings.pixels=4.0", "model.settings.members=4")
LADDERS = (*HEAD, "ladders.pairs=2", "ladders.start=0.0", "loss.ladder=3.0", "probe.ladders=300")
VARIANTS: dict[str, tuple[str, ...]] = {
    "stack": STACK,
    "stack, colour alone": (*STACK, "model.settings.asks=alone"),
    "stack, constant depth": (*STACK, "train.depth=constant"),
    "stack, another's depth": (*STACK, "train.depth=shuffled"),
    "stack, colour asks depth": (*STACK, "model.settings.asks=color"),
    "stack, no gate": (*STACK, "model.settings.gated=false"),
    "stack, no refinement": (*STACK, "model.settings.refined=false"),
    "stack, not dilated": (*STACK, "model.settings.stack=plain"),
    "stack, no stack": (*STACK, "model.settings.stack=none"),
    "both": (),
    "both, colour alone": ("model.settings.asks=alone",),
    "both, constant depth": ("train.depth=constant",),
    "both, another's depth": ("train.depth=shuffled",),
    "head": HEAD,
    "head, KADID-10k's kinds": (*LADDERS, "ladders.kinds={kadid = 1.0}"),
    "head, natural kinds": (*LADDERS, "ladders.kinds={natural = 1.0}"),
    "head, all kinds": (*LADDERS, "ladders.kinds={all = 1.0}"),
}
#: Resamples of an interval.
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=VARIANTS, metavar="VARIANT", help="may be given again")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    args = parser.parse_args()
    wanted = args.only or list(VARIANTS)
    chosen = [name for name in VARIANTS if name in {*wanted, *map(whole_of, wanted)}]
    for seed in range(args.seeds):
        for name in chosen:
            train(name, seed, args)
    report = {}
    for name in chosen:
        (raw, mos), (whole, _) = (read(args.out, each, args.seeds) for each in (name, whole_of(name)))
        row = report[name] = compare(raw, mos, None if name == whole_of(name) else whole)
        text = f"{name:<28}{row['srcc']:>7.4f}  {row['lowest']:.4f} to {row['highest']:.4f}"
        print(text + (f"  {row['difference']:+.4f} [{row['from']:+.4f}, {row['to']:+.4f}]" if "from" in row else ""))
    (args.out / "ablations.json").write_text(json.dumps(report, indent=1) + "\n")


def whole_of(name: str) -> str:
    """What a variant is compared with."""
    return name.partition(",")[0]


def train(name: str, seed: int, args: argparse.Namespace) -> None:
    """The run of a variant and a seed, unless it is there, with the same settings."""
    out = folder(args.out, name, seed)
    settings = [*VARIANTS[name], f"train.seed={seed}", *args.settings]
    done = out / "settings.json"
    if done.exists() and json.loads(done.read_text()) == [RECIPE.read_text(), *settings]:
        return
    command = [sys.executable, "-m", "dgiqa", "train", str(RECIPE), "--data", f"biq2021={args.data}"]
    command += ["--cache", str(args.cache), "--out", str(out), "--set", f"model.trunks.color_trunk={args.trunk}"]
    print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    subprocess.run([*command, *(part for setting in settings for part in ("--set", setting))], check=True)
    done.write_text(json.dumps([RECIPE.read_text(), *settings]))


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"


def read(out: Path, name: str, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, n) raw scores of the held-out pictures, and their (n,) MOS."""
    rows = [json.loads((folder(out, name, seed) / "held_out.json").read_text()) for seed in range(seeds)]
    if any((row["path"], row["mos"]) != (rows[0]["path"], rows[0]["mos"]) for row in rows):
        raise SystemExit(f"{name}: its runs hold out different pictures")
    return np.array([row["raw"] for row in rows]), np.array(rows[0]["mos"])


def compare(raw: np.ndarray, mos: np.ndarray, whole: np.ndarray | None) -> dict[str, float]:
    """Mean SRCC over seeds and its range; against ``whole`` the difference, too, with its interval.

    NaN where a run gives every picture the same score.
    """
    each = [agreement(row, mos) for row in raw]
    found: dict[str, float] = {
        "srcc": float(np.mean(each)),
        "lowest": min(each),
        "highest": max(each),
        "seeds": len(raw),
        "pictures": len(mos),
    }
    if whole is None or np.isnan(each).any():
        return found
    others = [agreement(row, mos) for row in whole]
    drawn = np.mean([differences(a, b, mos) for a, b in zip(raw, whole, strict=True)], axis=0)
    if len(raw) > 1:
        error = np.sqrt((np.var(each, ddof=1) + np.var(others, ddof=1)) / len(raw))
        drawn = drawn + error * np.random.default_rng(0).standard_t(2 * len(raw) - 2, len(drawn))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return found | {"difference": float(np.mean(each) - np.mean(others)), "from": float(low), "to": float(high)}


def differences(a: np.ndarray, b: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """(RESAMPLES,) SRCC of ``a`` less that of ``b``, over pictures drawn with replacement, the same for every call."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, len(mos), (RESAMPLES, len(mos)))
    return np.array([srcc(a[i], mos[i]) - srcc(b[i], mos[i]) for i in places])


def agreement(raw: np.ndarray, mos: np.ndarray) -> float:
    try:
        return srcc(raw, mos)
    except ValueError:
        return float("nan")


if __name__ == "__main__":
    main()

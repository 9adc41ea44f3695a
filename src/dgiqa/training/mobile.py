"""Trains the embedded default, ``dgiqa_mobile``, on BIQ2021's train part, and writes its ONNX file and numbers.

    python -m dgiqa.training.mobile --data BIQ2021 --imagenet mobilenet_v2_imagenet.safetensors --out runs/mobile

A thousand pictures of the train part are held out, by a fixed seed: they choose nothing but the calibration and
tell how the run goes; the test part is never read. Each epoch ends in a checkpoint; started again, a run goes on
from the last one. The lowest blocks of the colour trunk are frozen (see features.py), all else is trained, on
random crops and mirror images, with a moving average of the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dgiqa.cards import Recipe
from dgiqa.datasets import read_split
from dgiqa.depth import open_depth
from dgiqa.metrics.correlation import plcc, srcc
from dgiqa.models.dgiqa_mobile.mobilenet import load_imagenet
from dgiqa.models.dgiqa_mobile.network import DGIQAMobile
from dgiqa.training.features import FROZEN, Features, compute_features

#: How the pictures are seen, in training and ever after; copied into the card.
RECIPE = Recipe(short_side=448, kernel="bicubic", views="whole", multiple=32, depth="depth_mobile.rendered")
#: Held-out pictures of the train part.
HELD_OUT = 1000
#: What the depth input is: the picture's own depth, or a control.
DEPTHS = ("own", "constant", "shuffled")


@dataclass(frozen=True)
class Plan:
    """The numbers of a run. Crops are sides in pixels, one per epoch."""

    crops: tuple[int, ...] = (320, 320, 320, 384, 384)
    batch: int = 16
    rate: float = 1e-3
    trunk_rate: float = 2e-4
    decay: float = 0.02
    average: float = 0.998
    plcc_weight: float = 0.1
    seed: int = 0
    depth: str = "own"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of BIQ2021")
    parser.add_argument("--imagenet", type=Path, required=True, help="folded MobileNetV2 weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crops", type=int, nargs="+", default=Plan.crops, help="side per epoch")
    parser.add_argument("--depth", choices=DEPTHS, default="own", help="a control for the study of depth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, help="use only that many (to try things)")
    args = parser.parse_args()
    plan = Plan(crops=tuple(args.crops), seed=args.seed, depth=args.depth)
    from safetensors.numpy import load_file

    torch.manual_seed(plan.seed)
    network = DGIQAMobile()
    load_imagenet(network.color_trunk, load_file(args.imagenet))
    split = read_split("biq2021", "train", args.data)
    paths, mos = split.paths[: args.pictures], split.mos[: args.pictures]
    depth_map = open_depth(RECIPE.depth)
    features = compute_features(paths, network.color_trunk, RECIPE, depth_map, args.out / "features")
    run = args.out / f"{plan.depth}-{plan.seed}"
    train(network, features, mos, plan, run)


def held_out(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the fitted and of the held-out pictures among the train part's ``n``; the same in every run."""
    order = np.random.default_rng(2021).permutation(n)
    count = min(HELD_OUT, n // 10)
    return np.sort(order[count:]), np.sort(order[:count])


def train(network: DGIQAMobile, features: Features, mos: np.ndarray, plan: Plan, run: Path) -> None:
    """Fits ``network`` in place; ``run`` gets a checkpoint and a log line an epoch, the averaged weights last."""
    run.mkdir(parents=True, exist_ok=True)
    fitted, held = held_out(len(features))
    depth_of = _depth_rows(len(features), plan)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for part in (network.color_trunk.stem, *network.color_trunk.blocks[:FROZEN]):
        part.requires_grad_(False)
    optimiser = _optimiser(network, plan)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    first = _resume(run / "checkpoint.pt", network, optimiser, average)
    steps_per_epoch = len(fitted) // plan.batch
    total = steps_per_epoch * len(plan.crops)
    for epoch in range(first, len(plan.crops)):
        start, losses = time.monotonic(), []
        rng = np.random.default_rng((plan.seed, epoch))
        torch.manual_seed(1000 * plan.seed + epoch)
        network.train()
        order = rng.permutation(fitted)
        for step in range(steps_per_epoch):
            now = epoch * steps_per_epoch + step
            _set_rate(optimiser, now, total)
            chosen = order[step * plan.batch : (step + 1) * plan.batch]
            low, depth = _batch(features, chosen, depth_of, plan, plan.crops[epoch], rng)
            loss = _loss(_score(network, low, depth), torch.from_numpy(mos[chosen]), plan)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            _move_average(average, network, min(plan.average, (1 + now) / (10 + now)))
            losses.append(loss.item())
            if step % 50 == 0:
                rate = (step + 1) * plan.batch / (time.monotonic() - start)
                print(
                    f"epoch {epoch} step {step}/{steps_per_epoch}  loss {np.mean(losses[-50:]):.4f}  {rate:.1f}/s",
                    flush=True,
                )
        averaged = DGIQAMobile()
        averaged.load_state_dict(average)
        found = predict(averaged, features, held, depth_of, plan)
        line = {"epoch": epoch, "loss": round(float(np.mean(losses)), 5)}
        line |= {"srcc": round(srcc(found, mos[held]), 4), "plcc": round(plcc(found, mos[held]), 4)}
        line["seconds"] = round(time.monotonic() - start)
        print(json.dumps(line), flush=True)
        with (run / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(state | {"average": average, "epoch": epoch + 1}, run / "checkpoint.part")
        (run / "checkpoint.part").replace(run / "checkpoint.pt")
    torch.save(average, run / "weights.pt")
    final = DGIQAMobile()
    final.load_state_dict(average)
    raw = predict(final, features, held, depth_of, plan)
    pairs = {"raw": [round(float(r), 6) for r in raw], "mos": [round(float(m), 4) for m in mos[held]]}
    (run / "held_out.json").write_text(json.dumps(pairs))


@torch.no_grad()
def predict(
    network: DGIQAMobile, features: Features, chosen: np.ndarray, depth_of: np.ndarray | None, plan: Plan
) -> np.ndarray:
    """Scores of whole pictures ``chosen``, one by one, as they will be scored."""
    network.eval()
    scores = []
    for i in chosen:
        low = torch.from_numpy(features.low[i, :1] * features.scale).permute(0, 3, 1, 2)
        depth = _depth(features, np.array([i]), depth_of, plan)[:, None]
        scores.append(_score(network, low, torch.from_numpy(depth)).item())
    return np.array(scores, np.float32)


def _score(network: DGIQAMobile, low: Tensor, depth: Tensor) -> Tensor:
    low = low.contiguous(memory_format=torch.channels_last)
    scores: Tensor = network.fuse([low, *network.color_trunk.from_block(low, FROZEN + 1)], depth)
    return scores


def _loss(found: Tensor, wanted: Tensor, plan: Plan) -> Tensor:
    """Squared error over its scale, and one minus the batch's linear correlation."""
    x, y = found - found.mean(), wanted - wanted.mean()
    correlation = (x * y).sum() / (x.norm() * y.norm() + 1e-6)
    loss: Tensor = 10 * F.mse_loss(found, wanted) + plan.plcc_weight * (1 - correlation)
    return loss


def _batch(
    features: Features,
    chosen: np.ndarray,
    depth_of: np.ndarray | None,
    plan: Plan,
    crop: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Random crops at the pictures' own scale, half of them mirrored."""
    side, whole = crop // 4, features.low.shape[2]
    mirrored = rng.integers(0, 2, len(chosen))
    corners = rng.integers(0, whole - side + 1, (len(chosen), 2))
    depth = _depth(features, chosen, depth_of, plan)
    lows, depths = [], []
    for k, i in enumerate(chosen):
        rows, columns = slice(corners[k, 0], corners[k, 0] + side), slice(corners[k, 1], corners[k, 1] + side)
        lows.append(features.low[i, mirrored[k]][rows, columns])
        depths.append((depth[k, :, ::-1] if mirrored[k] else depth[k])[rows, columns])
    low = torch.from_numpy(np.stack(lows) * features.scale).permute(0, 3, 1, 2)
    return low, torch.from_numpy(np.stack(depths)[:, None])


def _depth(features: Features, chosen: np.ndarray, depth_of: np.ndarray | None, plan: Plan) -> np.ndarray:
    """(n, H/4, W/4) float32 in -1..1."""
    rows = chosen if depth_of is None else depth_of[chosen]
    depth = features.depth[rows].astype(np.float32) / 127.5 - 1
    return np.zeros_like(depth) if plan.depth == "constant" else depth


def _depth_rows(n: int, plan: Plan) -> np.ndarray | None:
    """Whose depth each picture gets: its own (None), or in the shuffled control another's."""
    return np.random.default_rng(plan.seed).permutation(n) if plan.depth == "shuffled" else None


def _optimiser(network: DGIQAMobile, plan: Plan) -> torch.optim.Optimizer:
    trunk = [p for p in network.color_trunk.parameters() if p.requires_grad]
    inside = {id(p) for p in network.color_trunk.parameters()}
    fresh = [p for p in network.parameters() if id(p) not in inside]
    groups = [{"params": trunk, "lr": plan.trunk_rate}, {"params": fresh, "lr": plan.rate}]
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.AdamW(groups, weight_decay=plan.decay)


def _set_rate(optimiser: torch.optim.Optimizer, step: int, total: int, warm: int = 200) -> None:
    """Linear warm-up, then a cosine to a hundredth."""
    share = min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total)))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


@torch.no_grad()
def _move_average(average: dict[str, Tensor], network: DGIQAMobile, keep: float) -> None:
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)


def _resume(
    checkpoint: Path, network: DGIQAMobile, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]
) -> int:
    """Puts the last checkpoint in place, if there is one, and returns the epoch to go on with."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    average.update(state["average"])
    return int(state["epoch"])


if __name__ == "__main__":
    main()

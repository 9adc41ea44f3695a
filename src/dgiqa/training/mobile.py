"""Trains the embedded default, ``dgiqa_mobile``, on BIQ2021's train part, and writes its ONNX file and numbers.

    python -m dgiqa.training.mobile --data BIQ2021 --imagenet mobilenet_v2_imagenet.safetensors --out runs/mobile

A thousand pictures of the train part are held out, by a fixed seed: they choose nothing but the calibration and
tell how the run goes; the test part is never read. Each epoch ends in a checkpoint; started again, a run goes on
from the last one. The lowest blocks of the colour trunk are frozen (see features.py), all else is trained, on
random crops and mirror images, with a moving average of the weights. In the last epochs pairs of spoiled pictures
(see ladders.py) join each batch: what is spoiled more shall score lower.

Under torchrun each process takes its share of every batch, and gradients are averaged. On a CPU one process with one
thread for each core is half again as fast as one process with all of them:

    torchrun --nproc-per-node 2 -m dgiqa.training.mobile …
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
from dgiqa.training import processes
from dgiqa.training.features import FROZEN, Features, compute_features
from dgiqa.training.ladders import Ladders, compute_ladders

#: How the pictures are seen, in training and ever after; copied into the card.
RECIPE = Recipe(short_side=448, kernel="bicubic", views="whole", multiple=32, depth="depth_mobile.rendered")
#: Held-out pictures of the train part.
HELD_OUT = 1000
#: Pictures of the train part that are spoiled for ranking.
LADDERS = 2500
#: What the depth input is: the picture's own depth, or a control.
DEPTHS = ("own", "constant", "shuffled")


@dataclass(frozen=True)
class Plan:
    """The numbers of a run.

    ``crops`` are sides in pixels, one per epoch; ``pairs`` spoiled pairs join each batch from epoch ``pairs_from`` on,
    and shall differ by ``margin`` of the raw score for each step of severity.
    """

    crops: tuple[int, ...] = (320, 320, 320, 320, 320)
    batch: int = 16
    rate: float = 1e-3
    trunk_rate: float = 2e-4
    decay: float = 0.02
    average: float = 0.998
    plcc_weight: float = 0.1
    pairs: int = 4
    pairs_from: int = 3
    margin: float = 0.03
    rank_weight: float = 5.0
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

    processes.join()
    torch.manual_seed(plan.seed)
    network = DGIQAMobile()
    load_imagenet(network.color_trunk, load_file(args.imagenet))
    split = read_split("biq2021", "train", args.data)
    paths, mos = split.paths[: args.pictures], split.mos[: args.pictures]
    depth_map = open_depth(RECIPE.depth)
    inputs = (network.color_trunk, RECIPE, depth_map, args.out / "features")
    spoiled = np.random.default_rng(11).permutation(held_out(len(paths))[0])[:LADDERS]
    if processes.rank() == 0:  # the others find the work done
        compute_features(paths, *inputs)
        compute_ladders(paths, spoiled, *inputs)
    processes.wait()
    data = Data(compute_features(paths, *inputs), mos, compute_ladders(paths, spoiled, *inputs))
    run = args.out / f"{plan.depth}-{plan.seed}"
    train(network, data, plan, run)


@dataclass(frozen=True)
class Data:
    """What a run learns from: features and MOS of the train part, and its ladders (none for a plain run)."""

    features: Features
    mos: np.ndarray
    ladders: Ladders | None = None


def held_out(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the fitted and of the held-out pictures among the train part's ``n``; the same in every run."""
    order = np.random.default_rng(2021).permutation(n)
    count = min(HELD_OUT, n // 10)
    return np.sort(order[count:]), np.sort(order[:count])


def train(network: DGIQAMobile, data: Data, plan: Plan, run: Path) -> None:
    """Fits ``network`` in place; ``run`` gets a checkpoint and a log line an epoch, the averaged weights last."""
    run.mkdir(parents=True, exist_ok=True)
    features, mos = data.features, data.mos
    fitted, held = held_out(len(features))
    depth_of = _depth_rows(len(features), plan)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for part in (network.color_trunk.stem, *network.color_trunk.blocks[:FROZEN]):
        part.requires_grad_(False)
    optimiser = _optimiser(network, plan)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    averaged = DGIQAMobile()
    for epoch in range(_resume(run / "checkpoint.pt", network, optimiser, average), len(plan.crops)):
        start = time.monotonic()
        loss = _epoch(network, optimiser, average, data, (fitted, depth_of), plan, epoch)
        processes.agree(average)
        averaged.load_state_dict(average)
        found = predict(averaged, features, held, depth_of, plan)
        if processes.rank() == 0:
            line = {"epoch": epoch, "loss": round(loss, 5), "seconds": round(time.monotonic() - start)}
            line |= {"srcc": round(srcc(found, mos[held]), 4), "plcc": round(plcc(found, mos[held]), 4)}
            print(json.dumps(line), flush=True)
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save(state | {"average": average, "epoch": epoch + 1}, run / "checkpoint.part")
            (run / "checkpoint.part").replace(run / "checkpoint.pt")
    averaged.load_state_dict(average)
    raw = predict(averaged, features, held, depth_of, plan)
    if processes.rank() == 0:
        torch.save(average, run / "weights.pt")
        pairs = {"raw": [round(float(r), 6) for r in raw], "mos": [round(float(m), 4) for m in mos[held]]}
        (run / "held_out.json").write_text(json.dumps(pairs))


def _epoch(
    network: DGIQAMobile,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
    data: Data,
    chosen_from: tuple[np.ndarray, np.ndarray | None],
    plan: Plan,
    epoch: int,
) -> float:
    """One pass over the fitted pictures; returns the mean loss. Its randomness depends on plan and epoch alone."""
    fitted, depth_of = chosen_from
    start, losses = time.monotonic(), []
    order = np.random.default_rng((plan.seed, epoch)).permutation(fitted)
    rng = np.random.default_rng((plan.seed, epoch, 1 + processes.rank()))  # crops: each process its own
    torch.manual_seed(1000 * plan.seed + 10 * epoch + processes.rank())
    steps = len(fitted) // plan.batch
    network.train()
    for step in range(steps):
        now = epoch * steps + step
        _set_rate(optimiser, now, steps * len(plan.crops))
        chosen = order[step * plan.batch : (step + 1) * plan.batch][processes.rank() :: processes.ranks()]
        low, depth = _batch(data.features, chosen, depth_of, plan, plan.crops[epoch], rng)
        pairs = None
        if data.ladders is not None and epoch >= plan.pairs_from:
            pairs = _pairs(data, plan, plan.crops[epoch], rng)
            low, depth = torch.cat([low, pairs[0]]), torch.cat([depth, pairs[1]])
        found = _score(network, low, depth)
        loss = _loss(found[: len(chosen)], torch.from_numpy(data.mos[chosen]), plan)
        if pairs is not None:
            loss = loss + plan.rank_weight * _rank_loss(found[len(chosen) :], pairs[2], plan)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        processes.average_gradients(network)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _move_average(average, network, min(plan.average, (1 + now) / (10 + now)))
        losses.append(loss.item())
        if step % 50 == 0 and processes.rank() == 0:
            rate, recent = (step + 1) * plan.batch / (time.monotonic() - start), np.mean(losses[-50:])
            print(f"epoch {epoch} step {step}/{steps}  loss {recent:.4f}  {rate:.1f}/s", flush=True)
    return float(np.mean(losses))


@torch.no_grad()
def predict(
    network: DGIQAMobile, features: Features, chosen: np.ndarray, depth_of: np.ndarray | None, plan: Plan
) -> np.ndarray:
    """Scores of whole pictures ``chosen``, one by one, as they will be scored; processes share the work."""
    network.eval()
    scores = np.zeros(len(chosen), np.float32)
    for place in range(processes.rank(), len(chosen), processes.ranks()):
        i = chosen[place]
        low = torch.from_numpy(features.low[i, :1] * features.scale).permute(0, 3, 1, 2)
        depth = _depth(features, np.array([i]), depth_of, plan)[:, None]
        scores[place] = _score(network, low, torch.from_numpy(depth)).item()
    return processes.add_up(scores)


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


def _rank_loss(found: Tensor, steps: Tensor, plan: Plan) -> Tensor:
    """Hinge: the second half of ``found`` shall lie ``margin`` times ``steps`` under the first half."""
    better, worse = found.chunk(2)
    loss: Tensor = F.relu(plan.margin * steps - (better - worse)).mean()
    return loss


def _pairs(data: Data, plan: Plan, crop: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """This process's spoiled pairs, cut alike: maps and depth of the better ones, then of the worse; severity steps."""
    features, ladders = data.features, data.ladders
    assert ladders is not None
    side, whole = crop // 4, features.low.shape[2]
    lows: list[list[np.ndarray]] = [[], []]
    depths: list[list[np.ndarray]] = [[], []]
    steps = []
    for k in rng.integers(0, len(ladders.picture), max(1, plan.pairs // processes.ranks())):
        whose = (k + 1) % len(ladders.picture) if plan.depth == "shuffled" else k
        i, owner = ladders.picture[k], ladders.picture[whose]
        rungs = [
            (0, features.low[i, 0], features.depth[owner]),
            *zip(ladders.severity[k], ladders.low[k], ladders.depth[whose], strict=True),
        ]
        two = np.sort(rng.choice(3, 2, replace=False))
        top, left = rng.integers(0, whole - side + 1, 2)
        steps.append(rungs[two[1]][0] - rungs[two[0]][0])
        for part, rung in enumerate(two):
            lows[part].append(rungs[rung][1][top : top + side, left : left + side])
            depths[part].append(rungs[rung][2][top : top + side, left : left + side])
    low = torch.from_numpy(np.stack(lows[0] + lows[1]) * features.scale).permute(0, 3, 1, 2)
    depth = np.stack(depths[0] + depths[1]).astype(np.float32) / 127.5 - 1
    if plan.depth == "constant":
        depth = np.zeros_like(depth)
    return low, torch.from_numpy(depth[:, None]), torch.tensor(steps, dtype=torch.float32)


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
    return torch.optim.AdamW(groups, weight_decay=plan.decay, fused=True)


def _set_rate(optimiser: torch.optim.Optimizer, step: int, total: int, warm: int = 200) -> None:
    """Linear warm-up, then a cosine to a hundredth."""
    share = min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total)))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


@torch.no_grad()
def _move_average(average: dict[str, Tensor], network: DGIQAMobile, keep: float) -> None:
    state = network.state_dict()
    floating = [name for name, value in state.items() if value.dtype.is_floating_point]
    torch._foreach_lerp_([average[name] for name in floating], [state[name] for name in floating], 1 - keep)
    for name in state.keys() - set(floating):
        average[name].copy_(state[name])


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

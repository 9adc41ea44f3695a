"""Trains ``depth_mobile`` on scenes that the project renders itself, with no photograph's depth and no teacher.

    python -m dgiqa.training.depth --imagenet mobilenet_v2_imagenet.safetensors --data BIQ2021 --out runs/depth

The ImageNet trunk stays frozen: its features look alike on rendered and real pictures, and a decoder on top of
them is all that the rendered scenes have to teach. So features are computed once per scene, and the decoder
trains on those. The loss is the scale- and shift-invariant one of Ranftl et al. (MiDaS, arXiv:1907.01341,
section 5) with its gradient term, on inverse depth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dgiqa.datasets import read_split
from dgiqa.exits import exit_code
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import resize
from dgiqa.models.depth_mobile.network import Decoder, DepthMobile
from dgiqa.models.trunks.mobilenet import load_imagenet
from dgiqa.scenes import render
from dgiqa.types import UInt8

SIZE = 256
#: Channels and side of the cached trunk maps.
MAPS = ((24, 64), (32, 32), (96, 16))
#: Pictures kept in memory as textures, and their side.
TEXTURES, TEXTURE_SIZE = 600, 192
#: Disparity is 1 / (metres + this): nothing is infinitely near.
NEAR = 0.3

_textures: list[UInt8] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imagenet", type=Path, required=True, help="folded MobileNetV2 weights")
    parser.add_argument("--data", type=Path, required=True, help="BIQ2021: its train part lends surfaces their looks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    from safetensors.numpy import load_file

    network = DepthMobile().eval()
    load_imagenet(network.trunk, load_file(args.imagenet))
    network.trunk.requires_grad_(False)
    maps, targets = scene_features(network, args)
    train_decoder(network.decoder, maps, targets, args)
    torch.save(network.state_dict(), args.out / "depth.pt")


def scene_features(network: DepthMobile, args: argparse.Namespace) -> tuple[list[np.ndarray], np.ndarray]:
    """Trunk maps (float16) and disparity at stride 4 (float16) of every scene; the last tenth validates."""
    kept = [args.out / f"maps{i}.npy" for i in range(len(MAPS))] + [args.out / "disparity.npy"]
    shapes = [(args.scenes, c, s, s) for c, s in MAPS] + [(args.scenes, SIZE // 4, SIZE // 4)]
    marker = args.out / "scenes.json"
    state = {"scenes": args.scenes, "seed": args.seed, "size": SIZE}
    if marker.exists() and json.loads(marker.read_text()) == state:
        arrays = [np.load(path, mmap_mode="r") for path in kept]
        return arrays[:-1], arrays[-1]
    arrays = [
        np.lib.format.open_memmap(path, "w+", np.float16, shape) for path, shape in zip(kept, shapes, strict=True)
    ]
    start = time.monotonic()
    for first, pixels, disparity in _rendered(args):
        with torch.no_grad():
            x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
            found = network.trunk(x.contiguous(memory_format=torch.channels_last))
        for array, value in zip(arrays, [*(m.numpy() for m in found), disparity], strict=True):
            array[first : first + len(pixels)] = value
        if first % 512 == 0:
            print(f"scene {first}/{args.scenes}  {time.monotonic() - start:.0f} s", flush=True)
    marker.write_text(json.dumps(state))
    return arrays[:-1], arrays[-1]


def _rendered(args: argparse.Namespace, chunk: int = 16) -> Iterator[tuple[int, UInt8, np.ndarray]]:
    seeds = [list(range(i, min(i + chunk, args.scenes))) for i in range(0, args.scenes, chunk)]
    with get_context("spawn").Pool(2, _read_textures, (args.data, args.seed)) as pool:
        for chunk_seeds, (pixels, disparity) in zip(seeds, pool.imap(_render, seeds), strict=True):
            yield chunk_seeds[0], pixels, disparity


def _read_textures(root: Path, seed: int) -> None:
    paths = read_split("biq2021", "train", root).paths
    chosen = np.random.default_rng(seed).permutation(len(paths))[:TEXTURES]
    _textures.extend(resize(decode(paths[i]).pixels, TEXTURE_SIZE, TEXTURE_SIZE, "box") for i in chosen)


def _render(seeds: Sequence[int]) -> tuple[UInt8, np.ndarray]:
    scenes = [render(1_000_000 + seed, size=(SIZE, SIZE), textures=_textures) for seed in seeds]
    disparity = np.stack([1.0 / (scene.depth + NEAR) for scene in scenes])
    cells = disparity.reshape(len(seeds), SIZE // 4, 4, SIZE // 4, 4).mean((2, 4))
    return np.stack([scene.pixels for scene in scenes]), cells.astype(np.float16)


def train_decoder(decoder: Decoder, maps: Sequence[np.ndarray], targets: np.ndarray, args: argparse.Namespace) -> None:
    """Fits the decoder in place, one cosine over ``args.epochs``; the last epoch's weights are kept."""
    held = len(targets) // 10
    fitted = len(targets) - held
    steps = args.epochs * (fitted // args.batch)
    optimiser = torch.optim.AdamW(decoder.parameters(), args.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, total_steps=steps, pct_start=0.05)
    rng = np.random.default_rng(args.seed)
    for epoch in range(args.epochs):
        start, losses = time.monotonic(), []
        decoder.train()
        order = rng.permutation(fitted)
        for i in range(0, fitted - args.batch + 1, args.batch):
            chosen = np.sort(order[i : i + args.batch])
            loss = invariant_loss(decoder(*_tensors(maps, chosen)), _tensor(targets[chosen]))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        agreement = ordering(decoder, maps, targets, range(fitted, len(targets)))
        line = {
            "epoch": epoch,
            "loss": round(float(np.mean(losses)), 4),
            "held_out_order": round(agreement, 4),
        }
        line["seconds"] = round(time.monotonic() - start)
        print(json.dumps(line), flush=True)
        with (args.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        torch.save(decoder.state_dict(), args.out / "decoder.pt")


def invariant_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """MiDaS' loss: both maps less their median and over their mean deviation, absolute error and gradients.

    Shapes:
        (N, H, W) each; returns a scalar.
    """
    error = _normalised(found) - _normalised(wanted)
    loss = error.abs().clamp(max=3.0).mean()
    for scale in range(4):
        e = F.avg_pool2d(error[:, None], 2**scale)[:, 0] if scale else error
        loss = loss + 0.25 * ((e[:, 1:] - e[:, :-1]).abs().mean() + (e[:, :, 1:] - e[:, :, :-1]).abs().mean())
    return loss


def _normalised(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    centred = flat - flat.median(1, keepdim=True).values
    return (centred / centred.abs().mean(1, keepdim=True).clamp(min=1e-4)).view_as(x)


def ordering(decoder: Decoder, maps: Sequence[np.ndarray], targets: np.ndarray, indices: range) -> float:
    """Share of random point pairs, 20 % or more apart in disparity, that are ordered right."""
    decoder.eval()
    rng = np.random.default_rng(1)
    right = total = 0
    for i in range(indices.start, indices.stop, 16):
        chosen = np.arange(i, min(i + 16, indices.stop))
        with torch.no_grad():
            found = decoder(*_tensors(maps, chosen)).flatten(1).numpy()
        wanted = np.asarray(targets[chosen], np.float32).reshape(len(chosen), -1)
        a, b = rng.integers(0, wanted.shape[1], (2, 400))
        apart = np.maximum(wanted[:, a], wanted[:, b]) > 1.2 * np.minimum(wanted[:, a], wanted[:, b])
        agree = (found[:, a] > found[:, b]) == (wanted[:, a] > wanted[:, b])
        right, total = right + int((agree & apart).sum()), total + int(apart.sum())
    return right / total


def _tensors(maps: Sequence[np.ndarray], chosen: np.ndarray) -> list[Tensor]:
    return [_tensor(m[chosen]).contiguous(memory_format=torch.channels_last) for m in maps]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))

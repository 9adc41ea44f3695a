"""Near duplicates in BIQ2021: the lists behind its scene-disjoint parts.

    python benchmarks/near_duplicates.py --data BIQ2021 --imagenet mobilenet_v2_imagenet.safetensors --out found
    python benchmarks/near_duplicates.py … --out trial --limit 200      # the first 200 of each part, to try it

Two pictures are near duplicates when the cosine of their ImageNet MobileNetV2 features (1280 channels, mean over the
map, at 224 px) exceeds 0.9. Writes three files, to be put beside the data set's card:

- biq2021-near-duplicates.json: the test pictures that have a near duplicate in the train part; the part test-disjoint
  leaves them out.
- biq2021-scenes.csv: the scenes of the train part, pictures joined by a chain of near duplicates, for recipes with
  validation.disjoint = "scene".
- biq2021-groups.csv: the same over the whole set, for the card's key groups: seeded parts keep a scene together.

The features stay in features.npz; a run that finds them there, of the same pictures, does not compute them again.

It also prints how people's opinions of two near duplicates correlate, by subset: nearly the same picture ought to be
rated nearly the same, so the root of that correlation is about the most that any model's can be.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from dgiqa.datasets import Split, read_split
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import resize
from dgiqa.metrics.correlation import plcc
from dgiqa.models.trunks.mobilenet import ConvReLU6, MobileNetV2, load_imagenet
from dgiqa.runtimes.onnx import OnnxNetwork, open_file
from dgiqa.stream import in_order
from dgiqa.types import Views

THRESHOLD, SIDE = 0.9, 224


class Description(nn.Module):
    """uint8 (V, 224, 224, 3) to (V, 1280): the mean of the last map."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.trunk, self.last = MobileNetV2(), ConvReLU6(320, 1280, 1)
        load_imagenet(self.trunk, arrays)
        with torch.no_grad():
            self.last.conv.weight.copy_(torch.from_numpy(arrays["conv51.weight"].astype(np.float32)))
            self.last.conv.bias.copy_(torch.from_numpy(arrays["conv51.bias"].astype(np.float32)))

    def forward(self, color: Tensor) -> Tensor:
        return self.last(self.trunk(color.permute(0, 3, 1, 2).float() / 127.5 - 1)[-1]).mean((2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures of each part")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    parts = {part: read_split("biq2021", part, args.data) for part in ("train", "test")}
    if args.limit:
        parts = {part: split.some(part, np.arange(min(args.limit, len(split)))) for part, split in parts.items()}
    paths = [path for split in parts.values() for path in split.paths]
    vectors = features(paths, args.imagenet, args.out / "features.npz")
    train, test = np.split(vectors, [len(parts["train"])])
    nearest = (test @ train.T).max(1)
    found = np.flatnonzero(nearest > THRESHOLD).tolist()
    content = {"dataset": "biq2021", "split": "test", "cosine_over": THRESHOLD, "indices": found}
    (args.out / "biq2021-near-duplicates.json").write_text(json.dumps(content) + "\n")
    print(f"{len(found)} of {len(nearest)} test pictures have a near duplicate in train")
    for file, some in (("scenes", train), ("groups", vectors)):
        scenes = [scene for scene in chains(some) if len(scene) > 1]
        lines = [f"{paths[i].name},{number}" for number, scene in enumerate(scenes) for i in scene]
        (args.out / f"biq2021-{file}.csv").write_text("\n".join(["path,group", *lines]) + "\n")
        print(f"biq2021-{file}.csv: {len(lines)} of {len(some)} pictures share {len(scenes)} scenes")
    for subset in sorted(set(parts["train"].subsets)):
        print(agreement_of_twins(train, parts["train"], subset))


def features(paths: list[Path], imagenet: Path, cache: Path) -> np.ndarray:
    """(n, 1280) unit vectors, from ``cache`` where it holds those of the same pictures."""
    names = np.array([path.name for path in paths])
    if cache.exists():
        with np.load(cache) as kept:
            if np.array_equal(kept["names"], names):
                return kept["vectors"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "description.onnx"
        example = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
        module = Description(load_file(imagenet)).eval()
        torch.onnx.export(module, (example,), dynamo=True, input_names=["color"], verbose=False).save(str(file))
        network = open_file(file)
    vectors = describe(network, paths)
    np.savez(cache, names=names, vectors=vectors)
    return vectors


def agreement_of_twins(vectors: np.ndarray, split: Split, subset: str) -> str:
    """Pearson's correlation of the MOS of near duplicates, each pair both ways round."""
    chosen = np.flatnonzero(np.array(split.subsets) == subset)
    first, second = np.nonzero(np.triu(vectors[chosen] @ vectors[chosen].T, 1) > THRESHOLD)
    if len(first) < 2:
        return f"{subset}: {len(first)} pairs of near duplicates, too few to compare"
    mos = split.mos[chosen]
    r = plcc(np.r_[mos[first], mos[second]], np.r_[mos[second], mos[first]])
    apart = np.abs(mos[first] - mos[second]).mean()
    return f"{subset}: {len(first)} pairs of near duplicates, r of their MOS {r:.3f}, {apart:.3f} apart on average"


def chains(vectors: np.ndarray, rows: int = 500) -> list[list[int]]:
    """Indices of (n, d) unit vectors, joined where two are near duplicates; each chain sorted, by its first."""
    scene = list(range(len(vectors)))

    def root(i: int) -> int:
        while scene[i] != i:
            scene[i] = scene[scene[i]]
            i = scene[i]
        return i

    for first in range(0, len(vectors), rows):
        near = vectors[first : first + rows] @ vectors.T > THRESHOLD
        for i, j in zip(*np.nonzero(near), strict=True):
            a, b = sorted((root(first + int(i)), root(int(j))))
            scene[b] = a
    members: dict[int, list[int]] = {}
    for i in range(len(vectors)):
        members.setdefault(root(i), []).append(i)
    return list(members.values())


def describe(network: OnnxNetwork, paths: list[Path]) -> np.ndarray:
    """(n, 1280) unit vectors."""

    def one(path: Path) -> np.ndarray:
        return network.run(Views(resize(decode(path).pixels, SIDE, SIDE, "bilinear")[None]))[0]

    vectors = np.stack(list(in_order(one, paths, 2)))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()

"""Which BIQ2021 test pictures have a near duplicate in the train part: the list behind the scene-disjoint numbers.

    python benchmarks/near_duplicates.py --data BIQ2021 --imagenet mobilenet_v2_imagenet.safetensors

Two pictures are near duplicates when the cosine of their ImageNet MobileNetV2 features (1280, mean over the map, at
224 px) exceeds 0.9. Writes biq2021_near_duplicates.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from dgiqa.datasets import read_split
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import resize
from dgiqa.models.dgiqa_mobile.mobilenet import ConvReLU6, MobileNetV2, load_imagenet

THRESHOLD = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imagenet", type=Path, required=True)
    args = parser.parse_args()
    arrays = load_file(args.imagenet)
    trunk, last = MobileNetV2().eval(), ConvReLU6(320, 1280, 1).eval()
    load_imagenet(trunk, arrays)
    with torch.no_grad():
        last.conv.weight.copy_(torch.from_numpy(arrays["conv51.weight"].astype(np.float32)))
        last.conv.bias.copy_(torch.from_numpy(arrays["conv51.bias"].astype(np.float32)))
    parts = {part: read_split("biq2021", part, args.data) for part in ("train", "test")}
    features = {part: np.stack([describe(p, trunk, last) for p in split.paths]) for part, split in parts.items()}
    nearest = (features["test"] @ features["train"].T).max(1)
    found = np.flatnonzero(nearest > THRESHOLD).tolist()
    out = Path(__file__).with_name("biq2021_near_duplicates.json")
    content = {"dataset": "biq2021", "split": "test", "cosine_over": THRESHOLD, "indices": found}
    out.write_text(json.dumps(content) + "\n")
    print(f"{len(found)} of {len(nearest)} test pictures have a near duplicate in train; wrote {out.name}")


def describe(path: Path, trunk: MobileNetV2, last: ConvReLU6) -> np.ndarray:
    """(1280,) unit vector."""
    pixels = resize(decode(path).pixels, 224, 224, "bilinear")
    x = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        vector = last(trunk(x)[-1]).mean((2, 3))[0].numpy()
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit


if __name__ == "__main__":
    main()

"""The shared trunk, trained without ratings: pictures spoiled alike shall look alike to it (CONTRIQUE).

Madhusudana et al., "Image Quality Assessment using Contrastive Learning", arXiv:2110.13266, section III. Every
distortion at every severity is a class, every picture as it was taken is a class of its own; a batch holds both. Each
picture is seen twice, at full and at half scale, each time in a colour space of five and mirrored at random; what is
compared is the mean over each quarter. Small here: crops of 192 pixels, a MobileNetV2 that starts from ImageNet, some
hundred steps.

    python -m dgiqa.training.systems.contrique_encoder --data biq2021=BIQ2021 --trunk imagenet.safetensors --out DIR
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageFilter
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from dgiqa.distortions import KINDS, SEVERITIES, distort
from dgiqa.exits import exit_code
from dgiqa.export.shared import tensors_of
from dgiqa.imaging.decode import decode
from dgiqa.models import find_card
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2, load_imagenet
from dgiqa.training import small
from dgiqa.training.contrast import contrast
from dgiqa.training.publish import replace_table
from dgiqa.types import UInt8
from dgiqa.weights.files import read_state, sha256_of

CROP, BATCH, TEMPERATURE, RATE = 192, 16, 0.1, 2e-5
#: Channels of the trunk's maps together, and of what is compared.
FEATURES, COMPARED = sum(FrozenMobileNetV2.CHANNELS), 128


def main() -> None:
    parser = small.arguments(__doc__ or "", epochs=None)
    parser.add_argument("--trunk", type=Path, required=True, metavar="FILE", help="the ImageNet weights it starts from")
    parser.add_argument("--steps", type=int, default=1100, metavar="N")
    parser.add_argument("--seconds", type=float, default=0, metavar="S", help="stop after so long; 0 for the steps")
    args = parser.parse_args()
    study = small.study_of(args)
    trunk = FrozenMobileNetV2()
    load_imagenet(trunk, read_state(args.trunk))
    pretrain(trunk, [study.paths[i] for i in study.fitted], args.steps, args.seed, args.seconds)
    args.out.mkdir(parents=True, exist_ok=True)
    print(publish_trunk(trunk, args.out))


def pretrain(trunk: FrozenMobileNetV2, paths: list[Path], steps: int, seed: int = 0, seconds: float = 0) -> list[float]:
    """Trains ``trunk`` in place; returns the loss of each step.

    The rate follows the share of steps or of seconds that is gone: a cosine after a short rise.
    """
    rng = np.random.default_rng([seed, 11])
    torch.manual_seed(seed)
    projector = nn.Sequential(
        nn.Linear(FEATURES, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU(),
        nn.Linear(FEATURES, COMPARED, bias=False), nn.BatchNorm1d(COMPARED),
    )  # fmt: skip
    trunk.requires_grad_(True)
    groups = [{"params": trunk.parameters(), "lr": RATE, "top": RATE}]
    groups.append({"params": projector.parameters(), "lr": 1e-3, "top": 1e-3})
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-4)
    losses: list[float] = []
    start = time.monotonic()
    for step in tqdm(range(steps), desc="contrast", file=sys.stderr):
        gone = max(step / steps, (time.monotonic() - start) / seconds if seconds else 0)
        if gone >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = group["top"] * min(1.0, (step + 1) / 10) * 0.5 * (1 + np.cos(np.pi * gone))
        views, labels = draw(paths, rng)
        features = torch.cat([quarters(trunk, view) for view in views])
        loss = contrast(projector(features), labels.repeat_interleave(4).repeat(2), TEMPERATURE)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    trunk.requires_grad_(False)
    return losses


def draw(paths: list[Path], rng: np.random.Generator) -> tuple[list[Tensor], Tensor]:
    """Two views (BATCH, 3, CROP, CROP) in 0..1 of some pictures, at full and at half scale, and their classes (BATCH,).

    Half of the pictures are spoiled: their class is the kind and its severity. The others' class is their own, a number
    above those: classes are compared within a batch alone.
    """
    views: tuple[list[UInt8], list[UInt8]] = [], []
    labels = []
    for k, i in enumerate(rng.choice(len(paths), BATCH, replace=len(paths) < BATCH)):
        pixels = _square(decode(paths[i]).pixels, rng)
        if k % 2:
            labels.append(len(KINDS) * len(SEVERITIES) + k)
        else:
            kind, severity = rng.choice(len(KINDS)), int(rng.choice(SEVERITIES))
            pixels = distort(pixels, KINDS[kind], severity, seed=int(rng.integers(2**31)))
            labels.append(int(kind) * len(SEVERITIES) + severity - 1)
        top, left = rng.integers(CROP + 1, size=2)
        whole = PIL.Image.fromarray(pixels)
        for view, seen in zip(views, (whole.crop((left, top, left + CROP, top + CROP)), whole.reduce(2)), strict=True):
            shown = _SPACES[rng.integers(len(_SPACES))](seen)
            view.append(shown[:, ::-1] if rng.random() < 0.5 else shown)
    first, second = (torch.from_numpy(np.stack(view)).permute(0, 3, 1, 2).float() / 255 for view in views)
    return [first, second], torch.tensor(labels)


def quarters(trunk: FrozenMobileNetV2, rgb: Tensor) -> Tensor:
    """(4 N, FEATURES) the mean of all maps over each quarter of a picture, of length 1."""
    pooled = torch.cat([F.adaptive_avg_pool2d(maps, 2) for maps in trunk.of_floats(rgb)], 1)  # (N, FEATURES, 2, 2)
    return F.normalize(pooled.flatten(2).transpose(1, 2).reshape(-1, FEATURES), dim=1)


def publish_trunk(trunk: FrozenMobileNetV2, out: Path) -> Path:
    """Writes the trunk's ONNX file and its card into ``out``; returns the card's path."""
    card = find_card(small.TRUNK)
    file = out / card.weights["onnx"].file
    file.write_bytes(tensors_of(trunk).SerializeToString())
    stated = dataclasses.replace(card.weights["onnx"], sha256=sha256_of(file), bytes=file.stat().st_size)
    path: Path = out / card.file
    text = (card.folder / card.file).read_text(encoding="utf-8")
    path.write_text(replace_table(text, "weights.onnx", stated), encoding="utf-8")
    return path


def _square(pixels: UInt8, rng: np.random.Generator) -> UInt8:
    """A square of two crops' side out of the picture, which is repeated at its edges if it is smaller."""
    side = 2 * CROP
    height, width = pixels.shape[:2]
    pixels = np.pad(pixels, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), "reflect")
    top, left = (int(rng.integers(size - side + 1)) for size in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _centred(picture: PIL.Image.Image) -> UInt8:
    """Each channel minus its local mean (a Gaussian of deviation 7/6), stretched to 0..255."""
    pixels = np.asarray(picture, np.float32)
    blurred = picture.filter(PIL.ImageFilter.GaussianBlur(7 / 6))
    details = pixels - np.asarray(blurred, np.float32)
    least, most = details.min((0, 1)), details.max((0, 1))
    return np.asarray(np.rint(255 * (details - least) / np.maximum(most - least, 1)), np.uint8)


_TO_LAB = PIL.ImageCms.buildTransform(
    PIL.ImageCms.createProfile("sRGB"), PIL.ImageCms.createProfile("LAB"), "RGB", "LAB"
)
#: How a picture may be shown, section III: (H, W, 3) uint8 of an RGB picture.
_SPACES: tuple[Callable[[PIL.Image.Image], UInt8], ...] = (
    np.asarray,
    lambda picture: np.asarray(picture.convert("L").convert("RGB")),
    lambda picture: np.asarray(picture.convert("HSV")),
    lambda picture: np.asarray(PIL.ImageCms.applyTransform(picture, _TO_LAB)),
    _centred,
)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))

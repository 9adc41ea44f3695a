"""A small case for the training tests: pictures that fade into noise with their MOS, a tiny network, a recipe."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from dgiqa.training import processes
from dgiqa.training.loop import Run, fit, prepare
from dgiqa.training.recipe import Plan, read_recipe

RECIPE = """
[model]
arch = "dgiqa_mobile"
freeze = ["color_trunk.stem"]
recipe = { short_side = 96, kernel = "bicubic", views = "whole", multiple = 32, depth = "depth_mobile.rendered" }

[[data]]
dataset = "biq2021"
validation = { share = 0.2 }

[train]
steps = 6
batch = 4
crop = 64
rates = { color_trunk = 2e-4 }
checkpoint = 2
validate = 3
log = 1

[loss]
mse = 10.0
plcc = 0.1
spread = 0.1
ladder = 1.0

[ladders]
pairs = 2
start = 0.5
kinds = { noise = 1.0, haze = 1.0 }
"""


class Tiny(nn.Module):
    """A network without batch norm or dropout, so that processes and parts of a batch change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.color_trunk = nn.Conv2d(3, 6, 3, 2, 1)
        self.depth_trunk = nn.Conv2d(1, 2, 3, 2, 1)
        self.head = nn.Linear(14, 2)

    def forward(self, color: Tensor, depth: Tensor) -> Tensor:
        x = color.permute(0, 3, 1, 2).float() / 255
        x = self.color_trunk(10 * (x[..., 1:] - x[..., :-1]).abs())  # noise is what there is to see
        y = self.depth_trunk(depth[:, None].float() / 255 - 0.5)
        x = torch.cat([x.mean((2, 3)), x.square().mean((2, 3)), y.mean((2, 3))], 1)
        return self.head(x).sigmoid()

    def layers(self) -> list[list[nn.Parameter]]:
        """From the input to the head."""
        trunks = [*self.color_trunk.parameters(), *self.depth_trunk.parameters()]
        return [trunks, list(self.head.parameters())]


def write_set(root: Path, n: int = 50) -> Path:
    """A data set in BIQ2021's shape: the more noise, the lower the MOS."""
    (root / "Images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["Image Name,MOS"]
    for i in range(n):
        size = (128, 144) if i % 5 == 0 else (128, 128)
        smooth = np.linspace(40, 200, size[1])[None, :, None].repeat(size[0], 0).repeat(3, 2)
        pixels = np.clip(smooth + rng.normal(0, 1 + 40 * i / n, smooth.shape), 0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(root / "Images" / f"ss01 ({i}).png")
        lines.append(f"ss01 ({i}).png,{0.95 - 0.9 * i / n:.3f}")
    for part in ("Train", "Test"):
        (root / f"{part} (Images and MOS).csv").write_text("\n".join(lines) + "\n")
    return root


def plan_of(folder: Path, *settings: str, text: str = RECIPE) -> Plan:
    """The small recipe with ``settings`` over it."""
    path = folder / "small.toml"
    path.write_text(text)
    return read_recipe(path, settings)


def run_of(plan: Plan, out: Path, root: Path, cache: Path, *, tiny: bool = False) -> Run:
    """A run that is prepared, and not begun."""
    device = processes.join()
    if tiny:
        from dgiqa.training import start

        start.build_network = lambda card: Tiny()
        plan = dataclasses.replace(plan, model=dataclasses.replace(plan.model, freeze=()))
    return prepare(plan, out, device, roots={"biq2021": root}, cache=cache, keep=True)


def main() -> None:
    """``training_case.py FOLDER OUT ROOT CACHE real|tiny SETTINGS…``: a run in a process of its own."""
    folder, out, root, cache = map(Path, sys.argv[1:5])
    fit(run_of(plan_of(folder, *sys.argv[6:]), out, root, cache, tiny=sys.argv[5] == "tiny"))
    processes.leave()


if __name__ == "__main__":
    main()

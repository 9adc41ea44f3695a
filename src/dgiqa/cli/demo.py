"""Draw scenes with known depth, spoil them in known ways, score them and print the ladder.

No picture of yours is needed. With --out the pictures, their depth maps and the rows are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from dgiqa.cli._output import watch
from dgiqa.distortions import distort
from dgiqa.errors import UsageError
from dgiqa.results.rows import RowFile
from dgiqa.scenes import Scene, demo_scenes
from dgiqa.scorer import Scorer, load
from dgiqa.types import Score, UInt8

#: The faults of the ladder, a few of the many kinds.
KINDS = ("blur", "flare", "haze", "jpeg", "low_light", "motion", "noise")
SEVERITIES = (1, 3, 5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the pictures, depth maps and scores.csv here")
    parser.add_argument("--model", default="default", metavar="NAME", help="a card's name or file")


def run(args: argparse.Namespace) -> int:
    scorer = load(args.model, None)
    if args.out:
        try:
            for folder in ("pictures", "depth"):
                (args.out / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {args.out}: can't be made ({error.strerror})") from error
    scenes = demo_scenes()
    total = len(scenes) * (1 + len(KINDS) * len(SEVERITIES))
    scores = list(watch(_score(scorer, scenes, args.out), total))
    print_ladder({score.path: score.quality for score in scores}, list(scenes))
    print("\nThese scenes are drawn: on photographs the order is kept better than on some of them.")
    print(f"quality 0 to 100, higher is better; model {scorer.model}")
    if args.out:
        with RowFile(str(args.out / "scores.csv")) as writer:
            for score in scores:
                writer.write(score.as_row())
        print(f"pictures, depth maps and scores.csv are in {args.out}")
    return 0


def _score(scorer: Scorer, scenes: dict[str, Scene], out: Path | None) -> Iterator[Score]:
    for name, pixels in _pictures(scenes, out):
        if out:
            PIL.Image.fromarray(pixels).save(out / "pictures" / f"{name}.png")
        yield scorer.score(pixels, name=f"{name}.png")


def _pictures(scenes: dict[str, Scene], out: Path | None) -> Iterator[tuple[str, UInt8]]:
    for name, scene in scenes.items():
        if out:
            PIL.Image.fromarray(_near(scene)).save(out / "depth" / f"{name}.png")
        yield name, scene.pixels
        for kind in KINDS:
            for severity in SEVERITIES:
                yield f"{name}-{kind}-{severity}", distort(scene.pixels, kind, severity, depth=scene.depth)


def _near(scene: Scene) -> UInt8:
    """The known depth as a grey picture, near white and far black."""
    nearness = 1 / (1 + scene.depth)
    grey: UInt8 = np.rint(255 * (nearness - nearness.min()) / np.ptp(nearness)).astype(np.uint8)
    return grey


def print_ladder(quality: dict[str, float], scenes: list[str]) -> None:
    """One block a scene: a line per fault, from the clean picture's quality down the severities."""
    for scene in scenes:
        clean = quality[f"{scene}.png"]
        print(f"\n{scene:<12}{'clean':>7}" + "".join(f"{f'level {s}':>9}" for s in SEVERITIES))
        for kind in KINDS:
            steps = "".join(f"{quality[f'{scene}-{kind}-{s}.png']:9.1f}" for s in SEVERITIES)
            print(f"  {kind.replace('_', ' '):<10}{clean:7.1f}{steps}")

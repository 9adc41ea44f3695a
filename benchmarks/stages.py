"""Where the time of a score goes, against Pillow's plain decode of the same files, one thread, taking turns.

    python benchmarks/stages.py --pictures FOLDER [--model CARD] [--repeat 3] [--out STAGES.json]

Per picture: Pillow's decode of all pixels alone; a whole score; a whole score with ``fast``; and the parts of a score.
The decode of a score holds the colour profile, turning and resizing, too. Medians over pictures of each one's fastest
round, and how a score's time grows with megapixels, on enlarged copies of the first picture.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
from machine import machine

import dgiqa
from dgiqa.depth import open_depth
from dgiqa.imaging.decode import decode
from dgiqa.imaging.views import make_views
from dgiqa.models import find_card
from dgiqa.runtimes import open_runtime

#: Sizes of the enlarged copies, 4:3.
GROWTH = ((1152, 864), (2000, 1500), (4000, 3000), (8000, 6000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("STAGES.json"))
    args = parser.parse_args()
    files = [Path(item.path) for item in dgiqa.find([args.pictures]) if item.error is None]
    card = find_card(args.model)
    network, depth = open_runtime(card), open_depth(card.recipe.depth) if card.recipe.depth else None
    scorer, fast = dgiqa.load(args.model), dgiqa.load(args.model, fast=True)

    def parts(file: Path) -> dict[str, float]:
        clock = [time.perf_counter()]
        image = decode(file, fitted=[card.recipe])
        clock.append(time.perf_counter())
        views = make_views(image, card.recipe, depth)
        clock.append(time.perf_counter())
        network.run(views)
        clock.append(time.perf_counter())
        names = ("decode, colour, resize", "depth and views", "network")
        return dict(zip(names, np.diff(clock).tolist(), strict=True))

    rows = []
    for file in files:
        rounds = []
        for _ in range(args.repeat):
            found = {"Pillow's plain decode": seconds(plain, file), "score": seconds(scorer.score, file)}
            rounds.append(found | {"score, fast": seconds(fast.score, file)} | parts(file))
        rows.append({name: min(found[name] for found in rounds) for name in rounds[0]})
    report = {
        "machine": machine(),
        "model": scorer.model,
        "pictures": len(files),
        "megapixels": round(statistics.median(megapixels(file) for file in files), 1),
        "median ms": {name: round(1e3 * statistics.median(row[name] for row in rows), 1) for name in rows[0]},
        "of a plain decode": {
            name: round(statistics.median(row[name] / row["Pillow's plain decode"] for row in rows), 2)
            for name in ("score", "score, fast")
        },
        "ms by megapixels": growth(files[0], scorer, args.repeat),
    }
    text = json.dumps(report, indent=1)
    args.out.write_text(text + "\n")
    print(text)


def growth(file: Path, scorer: dgiqa.Scorer, repeat: int) -> dict[str, dict[str, float]]:
    """Seconds of a plain decode and of a score of one picture at several sizes."""
    found = {}
    with PIL.Image.open(file) as first:
        rgb = first.convert("RGB")
    for size in GROWTH:
        stream = io.BytesIO()
        rgb.resize(size, PIL.Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        data = stream.getvalue()
        taken = [(seconds(lambda d: plain(io.BytesIO(d)), data), seconds(scorer.score, data)) for _ in range(repeat)]
        decoded, scored = (round(1e3 * min(column), 1) for column in zip(*taken, strict=True))
        found[f"{size[0] * size[1] / 1e6:.0f}"] = {"Pillow's plain decode": decoded, "score": scored}
    return found


def plain(file: Path | io.BytesIO) -> None:
    with PIL.Image.open(file) as image:
        image.load()


def megapixels(file: Path) -> float:
    with PIL.Image.open(file) as image:
        return image.width * image.height / 1e6


def seconds(function: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

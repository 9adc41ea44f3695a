"""Time and memory to score one picture with each network at its paper's size, on random weights.

    python benchmarks/paper_size.py [--picture FILE] [--threads N] [--repeats N] [--only NAME …] [--out FILE.json]

Each network in a process of its own: made, and given one of the views that its card's recipe cuts of the picture. The
torch runtime runs views one after the other on a CPU, so a picture takes as many times as long as it has views. The
first run is not counted; the time is the median of the others, the memory the most that the process ever held. Depth is
a constant map and MA-AGIQA's vectors are zeros: the networks that make them come on top. Random weights cost what
trained ones cost.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.imaging.decode import decode
from dgiqa.imaging.views import make_views
from dgiqa.models import build_network, find_card, list_models
from dgiqa.types import Views

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "room.jpg"
COLUMNS = ("card", "parameters", "GMACs a view", "seconds a view", "GFLOP/s", "views", "seconds a picture", "MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(find_card(args.one), args.picture, args.threads, args.repeats)))
        return 0
    names = args.only or [card.name for card in paper_size()]
    width, height = decode(args.picture).width, decode(args.picture).height
    print(f"{args.picture.name}, {width}×{height}, {args.threads} threads, median of {args.repeats}")
    print("| " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * (len(COLUMNS) - 1))
    rows = []
    for name in names:
        line = [sys.executable, __file__, "--one", name, "--picture", str(args.picture)]
        line += ["--threads", str(args.threads), "--repeats", str(args.repeats)]
        ran = subprocess.run(line, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(f"| {name} | failed: {ran.stderr.strip().splitlines()[-1]} |")
            continue
        row = json.loads(ran.stdout)
        rows.append(row)
        figures = [f"{row['parameters']:,}", f"{row['gmacs']:.1f}", f"{row['seconds']:.2f}"]
        figures += [f"{2 * row['gmacs'] / row['seconds']:.0f}", str(row["views"])]
        figures += [f"{row['views'] * row['seconds']:.1f}", f"{row['megabytes']:.0f}"]
        print(f"| {name} | {' | '.join(figures)} |", flush=True)
    if args.out:
        report = {"picture": args.picture.name, "width": width, "height": height, "threads": args.threads}
        args.out.write_text(json.dumps(report | {"repeats": args.repeats, "networks": rows}, indent=1) + "\n")
    return int(len(rows) < len(names))


def paper_size() -> list[ModelCard]:
    """The cards of networks whose weights are not in the wheel, one of each network."""
    cards: dict[tuple[str, str, str], ModelCard] = {}
    for card in list_models("quality"):
        if "torch" in card.weights and not card.weights["torch"].embedded:
            part = str(card.settings.get("part", ""))
            cards.setdefault((card.arch, part, card.reference), card)
    return list(cards.values())


def measure(card: ModelCard, picture: Path, threads: int, repeats: int) -> dict[str, Any]:
    """What one network takes for one view of a picture, and how many there are."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from dgiqa.runtimes.torch import TorchNetwork

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    depth = (lambda pixels: np.full(pixels.shape[:2], 128, np.uint8)) if card.recipe.depth else None
    views = make_views(decode(picture), card.recipe, depth)
    count = len(views)
    one = [None if array is None else array[:1] for array in (views.color, views.depth)]
    views = Views(one[0], one[1], views.boxes[:1], one[0] if card.reference == "full" else None)
    module = build_network(card).eval()
    if card.arch == "ma_agiqa":
        _without_its_model(module)
    network = TorchNetwork(module, "cpu")
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        network.run(views)
        seconds.append(time.perf_counter() - start)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with torch.device("meta"):
        blank = build_network(card).eval()
        if card.arch == "ma_agiqa":
            _without_its_model(blank)
    arrays = [torch.from_numpy(a).to("meta") for a in (views.color, views.depth, views.reference) if a is not None]
    # The fused attention kernels are not counted; the plain one is.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        blank(*arrays)
    return {
        "card": card.name,
        "views": count,
        "parameters": sum(p.numel() for p in module.parameters()),
        "gmacs": counter.get_total_flops() / 2e9,
        "seconds": statistics.median(seconds[1:]),
        "megabytes": held,
    }


def _without_its_model(module: Any) -> None:
    """Vectors of zeros in the place of a large multimodal model's, which comes on top."""
    import torch

    vectors = torch.zeros(1, 2, module.vectors)
    squares = torch.zeros(1, module.side, module.side, 3, dtype=torch.uint8)
    module.forward = lambda color: module.score(squares, vectors)


if __name__ == "__main__":
    sys.exit(main())

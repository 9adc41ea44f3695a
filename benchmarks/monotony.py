"""Does more of a fault score lower? Kendall's tau between severity and score on photographs of your own, per kind.

    python benchmarks/monotony.py FOLDER [--count 50] [--model default]

Also the share of severity pairs ordered right. Haze takes its distances from the embedded depth network.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import numpy as np

import dgiqa
from dgiqa.depth import as_metres, open_depth
from dgiqa.distortions import KINDS, SEVERITIES, distort
from dgiqa.imaging.decode import decode
from dgiqa.metrics.correlation import krcc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    scorer, estimate = dgiqa.load(args.model, None), open_depth("depth_mobile.rendered")
    found = [item.path for item in dgiqa.find([args.folder]) if item.error is None][: args.count]
    taus: dict[str, list[float]] = {kind: [] for kind in KINDS}
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for path in found:
        pixels = decode(path).pixels
        metres = as_metres(estimate(pixels))
        clean = scorer.score(pixels).raw
        for kind in KINDS:
            depth = metres if kind == "haze" else None
            raws = [clean, *(scorer.score(distort(pixels, kind, s, depth=depth)).raw for s in SEVERITIES)]
            taus[kind].append(-krcc(range(len(raws)), raws))
            right[kind] += [a > b for a, b in combinations(raws, 2)]
    print(f"{scorer.model}, {len(found)} pictures\n{'kind':<10}{'mean tau':>10}{'pairs right':>13}")
    for kind in KINDS:
        print(f"{kind:<10}{np.mean(taus[kind]):10.3f}{np.mean(right[kind]):13.3f}")


if __name__ == "__main__":
    main()

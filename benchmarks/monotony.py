"""Does more of a fault score lower? Share of severity pairs ordered right on photographs of your own, per kind.

    python benchmarks/monotony.py FOLDER [--count 40] [--model default] [--kinds all] [--workers 2] [--out FILE.json]

A ladder is the picture and its five severities: 15 pairs. Also Kendall's tau between severity and score. Kinds that
follow depth take distances from the embedded depth network.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np

import dgiqa
from dgiqa.depth import as_metres, open_depth
from dgiqa.distortions import GROUPS, KINDS, SEVERITIES, distort, kinds_of, uses_depth
from dgiqa.imaging.decode import decode
from dgiqa.metrics.correlation import krcc
from dgiqa.stream import in_order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--model", default="default")
    parser.add_argument("--kinds", default="all", help=f"names, or {', '.join(GROUPS)}")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    kinds = [kind for name in args.kinds.split(",") for kind in (kinds_of(name) if name in GROUPS else (name,))]
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}")
    scorer, estimate = dgiqa.load(args.model, None), open_depth("depth_mobile.rendered")
    found = [item.path for item in dgiqa.find([args.folder]) if item.error is None][: args.count]

    def ladders(path: str) -> dict[str, list[float]]:
        pixels = decode(path).pixels
        metres = as_metres(estimate(pixels))
        clean = scorer.score(pixels).raw
        return {
            kind: [clean]
            + [
                scorer.score(distort(pixels, kind, s, depth=metres if uses_depth(kind) else None)).raw
                for s in SEVERITIES
            ]
            for kind in kinds
        }

    raws = list(in_order(ladders, found, args.workers))
    print(f"{scorer.model}, {len(found)} pictures\n{'kind':<16}{'mean tau':>10}{'pairs right':>13}")
    report = {}
    for kind in kinds:
        tau = float(np.mean([-krcc(range(6), ladder[kind]) for ladder in raws]))
        right = float(np.mean([a > b for ladder in raws for a, b in combinations(ladder[kind], 2)]))
        report[kind] = {"tau": round(tau, 4), "pairs_right": round(right, 4)}
        print(f"{kind:<16}{tau:10.3f}{right:13.3f}")
    if args.out:
        result = {"model": scorer.model, "pictures": len(found), "kinds": report}
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

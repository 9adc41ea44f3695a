"""This project as a program that ``benchmarks/against.py`` can ask: lines of paths to lines of raw scores.

python benchmarks/answer.py [--model default] [--runtime onnx] [--depth NAME] [--workers 2]
"""

from __future__ import annotations

import argparse
import sys

import dgiqa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--runtime")
    parser.add_argument("--depth")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    scorer = dgiqa.load(args.model, args.runtime, depth=args.depth)
    print("ready", flush=True)
    for line in sys.stdin:
        raws = []
        for row in scorer.score_all(line.rstrip("\n").split("\t"), workers=args.workers):
            if not row.ok:
                raise SystemExit(str(row.error))
            raws.append(f"{row.raw:.8f}")
        print("\t".join(raws), flush=True)


if __name__ == "__main__":
    main()

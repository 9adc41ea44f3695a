"""Seconds per picture of two versions of this project, each in a process of its own, taking turns.

python benchmarks/versions.py OLD/src src --pictures FOLDER [--workers 1 2] [--repeat 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

#: Scores the folder once for each number of workers that it reads, and prints the seconds per picture.
SCORES = """
import sys, time
import dgiqa
files = [item.path for item in dgiqa.find([sys.argv[1]]) if item.error is None]
scorer = dgiqa.load()
model = scorer.score(files[0]).model
print(f"{model}, {len(files)} pictures", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    for row in scorer.score_all(files, workers=int(line)):
        assert row.ok, row
    print((time.perf_counter() - start) / len(files), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs=2, type=Path, help="the src folders of two checkouts")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    versions = [start(source, args.pictures) for source in args.sources]
    for source, version in zip(args.sources, versions, strict=True):
        print(f"{source}: {answer(version)}")
    for workers in args.workers:
        seconds: list[list[float]] = [[], []]
        for _ in range(args.repeat):
            for version, taken in zip(versions, seconds, strict=True):
                assert version.stdin
                version.stdin.write(f"{workers}\n")
                version.stdin.flush()
                taken.append(float(answer(version)))
        old, new = map(statistics.median, seconds)
        print(f"{workers} workers: {1e3 * old:.1f} ms, then {1e3 * new:.1f} ms a picture, ratio {new / old:.2f}")


def start(source: Path, pictures: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())}
    line = [sys.executable, "-c", SCORES, str(pictures)]
    return subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(version: subprocess.Popen[str]) -> str:
    assert version.stdout
    line = version.stdout.readline().strip()
    if not line:
        raise SystemExit("one of the versions stopped; its message is above")
    return line


if __name__ == "__main__":
    main()

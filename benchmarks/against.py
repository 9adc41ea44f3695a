"""Pictures per second of several commands on the same files in one run, taking turns, and how far their scores agree.

    python benchmarks/against.py --pictures FOLDER 'theirs=python theirs.py' 'ours=python benchmarks/answer.py'

A command is any program that says ``ready`` when it is loaded and then answers each line of paths, separated by tabs,
with a line of numbers, separated by tabs. Loading isn't timed. Each command gets the same pictures, some a turn, in as
many rounds as asked; the fastest and the median turn per picture are told, the ratio to the first command, and the
agreement of scores with the first command's. What another program is and where it comes from is its user's business.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from machine import machine

import dgiqa
from dgiqa.metrics.correlation import srcc


class Program:
    """A command that answers lines of paths with lines of numbers."""

    def __init__(self, name: str, line: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.scores: dict[str, float] = {}
        self._process = subprocess.Popen(shlex.split(line), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while (said := self._read()) != "ready":
            print(f"{name}: {said}", file=sys.stderr)

    def _read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with {self._process.wait()}")
        return line.rstrip("\n")

    def answer(self, paths: list[str], timed: bool = True) -> None:
        assert self._process.stdin
        start = time.perf_counter()
        self._process.stdin.write("\t".join(paths) + "\n")
        self._process.stdin.flush()
        numbers = [float(number) for number in self._read().split("\t")]
        took = time.perf_counter() - start
        if len(numbers) != len(paths):
            raise SystemExit(f"{self.name}: {len(numbers)} numbers for {len(paths)} pictures")
        self.scores.update(zip(paths, numbers, strict=True))
        if timed:
            self.seconds.append(took / len(paths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="NAME=COMMAND")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12, help="pictures that are looked at, 3 or more")
    parser.add_argument("--turn", type=int, default=4, help="pictures a turn")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--note", default="", help="what a reader of the table should know")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = [str(Path(item.path).resolve()) for item in dgiqa.find([args.pictures]) if item.error is None]
    paths = found[: args.count]
    if len(paths) < 3:
        parser.error(f"{len(paths)} pictures: 3 are needed for a rank correlation")
    turns = [paths[i : i + args.turn] for i in range(0, len(paths), args.turn)]
    programs = [Program(*each.split("=", 1)) for each in args.programs]
    for program in programs:
        program.answer(turns[0], timed=False)  # what is slow the first time
    for _ in range(args.rounds):
        for turn in turns:
            for program in programs:
                program.answer(turn)
    first = programs[0]
    rows = {}
    for program in programs:
        median = statistics.median(program.seconds)
        ours, theirs = (np.array([each.scores[path] for path in paths]) for each in (program, first))
        rows[program.name] = {
            "seconds a picture": round(median, 4),
            "fastest turn": round(min(program.seconds), 4),
            "times the first": round(statistics.median(first.seconds) / median, 2),
            "mean change of score": round(float(np.abs(ours - theirs).mean()), 5),
            "SRCC with the first": round(srcc(ours, theirs), 4),
        }
    report = {
        "machine": machine(),
        "dgiqa": dgiqa.__version__,
        "pictures": len(paths),
        "programs": rows,
        "note": args.note,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()

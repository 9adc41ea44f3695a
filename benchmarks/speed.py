"""Cold start, import time, rate and peak memory, each as a whole process; medians over alternating runs.

    python benchmarks/speed.py --pictures FOLDER [--against 'any command with {folder}'] [--out RESULTS.json]

``--against`` times a command of yours on the same folder in the same run: another tool, an older version.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import machine

import dgiqa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--against", help="a command to time on the same folder; {folder} stands for it")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.json"))
    args = parser.parse_args()
    found = [item.path for item in dgiqa.find([args.pictures]) if item.error is None]
    command = [sys.executable, "-m", "dgiqa", "score"]
    commands = {
        "import dgiqa": [sys.executable, "-c", "import dgiqa"],
        "score one picture, cold": [*command, found[0]],
        "score the folder, 1 worker": [*command, str(args.pictures), "--json"],
        "score the folder, 2 workers": [*command, str(args.pictures), "--json", "--workers", "2"],
    }
    if args.against:
        commands[f"against: {args.against}"] = shlex.split(args.against.format(folder=args.pictures))
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(args.repeat):
        for name, line in commands.items():  # alternating, so that a slow minute hits all alike
            took, peak = run(line)
            seconds[name].append(took)
            peaks[name].append(peak)
    report = {
        "machine": machine(),
        "dgiqa": dgiqa.__version__,
        "pictures": len(found),
        "commands": {
            name: {
                "median_s": round(statistics.median(values), 3),
                "min_s": round(min(values), 3),
                "max_s": round(max(values), 3),
                "peak_mb": round(max(peaks[name])),
            }
            for name, values in seconds.items()
        },
    }
    text = json.dumps(report, indent=1)
    args.out.write_text(text + "\n")
    print(text)


def run(line: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MB of one command; it must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{shlex.join(line)} failed with {os.waitstatus_to_exitcode(status)}")
    peak: resource.struct_rusage = usage
    return took, peak.ru_maxrss / 1024


if __name__ == "__main__":
    main()

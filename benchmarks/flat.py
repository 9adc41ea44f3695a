"""Does memory stay flat over a long run? Resident MB of ``dgiqa score`` against the rows that are written. Linux.

    python benchmarks/flat.py FOLDER [--count 20000] [--workers 2] [--seconds 15] [--out FILE.json]

The folder's pictures come again and again under other names, as links, until there are enough of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import dgiqa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15.0, help="between two looks")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = [Path(item.path).resolve() for item in dgiqa.find([args.folder]) if item.error is None]
    with TemporaryDirectory() as folder:
        links, rows = Path(folder) / "links", Path(folder) / "rows.jsonl"
        links.mkdir()
        for number, path in zip(range(args.count), itertools.cycle(found), strict=False):
            (links / f"{number:07}{path.suffix}").symlink_to(path)
        line = [sys.executable, "-m", "dgiqa", "score", str(links), "--out", str(rows), "--workers", str(args.workers)]
        process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        looks = []
        while process.poll() is None:
            time.sleep(args.seconds)
            if look := see(process.pid, rows.with_name(rows.name + ".part")):
                looks.append(look)
                print(f"{look[0]:>8} rows {look[1]:>8.1f} MB", flush=True)
        written = rows.read_bytes().count(b"\n")
    report = {"rows": written, "code": process.returncode, "looks": looks}
    print(
        f"{written} rows, exit code {process.returncode}, {looks[0][1]:.1f} MB at first, {looks[-1][1]:.1f} in the end"
    )
    if args.out:
        args.out.write_text(json.dumps(report) + "\n")


def see(process: int, part: Path) -> tuple[int, float] | None:
    """Rows so far and resident MB; None where the process or its file is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return part.read_bytes().count(b"\n"), int(resident.split()[1]) / 1024
    except (OSError, StopIteration):
        return None


if __name__ == "__main__":
    main()

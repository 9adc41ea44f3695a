"""RESULTS.md from what the other benchmarks left beside it: RESULTS.json, STAGES*.json, AGAINST*.json,
ARITHMETIC.json.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLAIN = "Pillow's plain decode"


def main() -> None:
    lines = ["# Speed and memory", "", "Written by `make bench`; noisy to some 20 in 100, so ratios tell more.", ""]
    if speed := read("RESULTS.json"):
        lines += [f"## Whole commands: {speed['pictures']} pictures, {speed['machine']}", ""]
        lines += ["| command | median s | least and most | peak MB |", "|---|---|---|---|"]
        for name, row in speed["commands"].items():
            lines.append(f"| {name} | {row['median_s']} | {row['min_s']} to {row['max_s']} | {row['peak_mb']} |")
        lines.append("")
    for path in sorted(HERE.glob("STAGES*.json")):
        stages = json.loads(path.read_text(encoding="utf-8"))
        about = f"{stages['pictures']} pictures of {stages['megapixels']} megapixels, {stages['machine']}"
        lines += [
            f"## One thread, {stages['model']}: {about}",
            "",
            "| | median ms | of a plain decode |",
            "|---|---|---|",
        ]
        for name, value in stages["median ms"].items():
            lines.append(f"| {name} | {value} | {stages['of a plain decode'].get(name, '')} |")
        lines += ["", "| megapixels | plain decode, ms | score, ms |", "|---|---|---|"]
        for size, row in stages["ms by megapixels"].items():
            lines.append(f"| {size} | {row[PLAIN]} | {row['score']} |")
        lines.append("")
    for path in sorted(HERE.glob("AGAINST*.json")):
        against = json.loads(path.read_text(encoding="utf-8"))
        lines += [f"## Against other programs: {against['pictures']} pictures, {against['machine']}", ""]
        lines += ["`python benchmarks/against.py`, taking turns, loading not counted.", ""]
        lines += ["| program | s a picture | times the first | SRCC with the first |", "|---|---|---|---|"]
        for name, row in against["programs"].items():
            agreement = row["SRCC with the first"]
            lines.append(f"| {name} | {row['seconds a picture']} | {row['times the first']} | {agreement} |")
        if note := against.get("note"):
            lines += ["", note]
        lines.append("")
    if arithmetic := read("ARITHMETIC.json"):
        lines += [f"## Arithmetic in 32 bits: {arithmetic['threads']} threads, {arithmetic['machine']}", ""]
        lines += ["`python benchmarks/arithmetic.py`, taking turns; the limit is the fastest product of matrices.", ""]
        lines += ["| | GFLOP/s | of the limit |", "|---|---|---|"]
        for name, rate in arithmetic["GFLOP/s"].items():
            lines.append(f"| {name} | {rate} | {arithmetic['of the limit'][name]} |")
        lines += ["", arithmetic["note"], ""] if arithmetic["note"] else [""]
    text = "\n".join(lines)
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
    print(text)


def read(name: str) -> dict[str, Any] | None:
    path = HERE / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    main()

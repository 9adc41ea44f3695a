"""What the verbs print: rows as JSON lines, the table, the progress bar; and how they name what they write."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dgiqa.sources import Found
from dgiqa.types import Result, Score

R = TypeVar("R")

#: Seconds between two lines of progress where there is no terminal.
PROGRESS_SECONDS = 10.0


def print_json(row: dict[str, Any]) -> None:
    """One JSON object on a line."""
    print(json.dumps(row), flush=True)


def print_table(results: Sequence[Result], sort: str) -> None:
    """The table of :class:`Score` rows, worst or best first or as they came; failures follow with their reasons."""
    scores = [r for r in results if isinstance(r, Score)]
    if sort != "path":
        scores.sort(key=lambda s: s.quality, reverse=sort == "best")
    wide = 9 if any(score.low is not None for score in scores) else 0
    if scores:
        print(f"{'quality':>7}{'low–high' if wide else '':>{wide}}  {'size':>11}  path")
    for score in scores:
        print(f"{score.quality:7.1f}{_ends(score):>{wide}}  {f'{score.width}×{score.height}':>11}  {score.path}")
    for failure in (r for r in results if not isinstance(r, Score)):
        print(f"{'failed':>7}{'':>{wide}}  {'':>11}  {failure.error}")
    summary = f"{len(scores)} scored, {len(results) - len(scores)} failed"
    print(f"{summary}; model {results[0].model}, 0 to 100, higher is better" if results else summary)


def _ends(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{score.low:.0f}–{score.high:.0f}"


def watch(results: Iterable[R], total: int | None) -> Iterator[R]:
    """The results, with progress on stderr: a bar with pictures/s and time left on a terminal, else plain lines.

    Without ``total`` nobody knows yet how many there will be.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        width = min(100, shutil.get_terminal_size().columns)
        one = total is not None and total < 2
        yield from tqdm(results, total=total, unit=" pictures", ncols=width, leave=False, disable=one)
        return
    start = said = time.monotonic()
    for count, result in enumerate(results, 1):
        yield result
        if (now := time.monotonic()) - said >= PROGRESS_SECONDS:
            said, rate = now, count / (now - start)
            of, left = ("", "") if total is None else (f"/{total}", f", {(total - count) / rate:.0f} s left")
            print(f"dgiqa: {count}{of} pictures, {rate:.1f} pictures/s{left}", file=sys.stderr)


def numbered(sources: Iterable[Found]) -> Iterator[tuple[Found, str]]:
    """Each source with the name of what is made of it: its file's without the ending, numbered where that is taken."""
    taken: set[str] = set()
    for source in sources:
        stem = name = Path(source.path).stem
        number = 1
        while name.lower() in taken:  # lower case: some file systems don't tell them apart
            number += 1
            name = f"{stem}~{number}"
        taken.add(name.lower())
        yield source, name

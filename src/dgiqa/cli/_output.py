"""What the verbs print and write: rows as CSV, JSON lines or Parquet, the table, the progress bar."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dgiqa.errors import RuntimeMissing, UsageError
from dgiqa.types import ROW_FIELDS, Result, Score

R = TypeVar("R")

#: Seconds between two lines of progress where there is no terminal.
PROGRESS_SECONDS = 10.0
#: Rows a Parquet row group.
PARQUET_ROWS = 4096


class Writer(Protocol):
    """Takes rows one by one."""

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row with the fields of ROW_FIELDS."""
        ...

    def close(self) -> None:
        """Writes what is still held, and closes the file."""
        ...


class RowFile:
    """``--out``: rows by the file's ending. They go to FILE.part, which becomes FILE when the run is whole.

    Raises:
        UsageError: another ending, or a place that can't be written; known before any picture is scored.
        RuntimeMissing: Parquet without its extra.
    """

    def __init__(self, out: Path) -> None:
        kinds: dict[str, Callable[[Path], Writer]] = {
            ".csv": _CsvWriter,
            ".jsonl": _JsonLinesWriter,
            ".parquet": _ParquetWriter,
        }
        if out.suffix.lower() not in kinds:
            raise UsageError(f"--out {out}: the ending says the format", hint="one of .csv, .jsonl, .parquet")
        if out.is_dir():
            raise UsageError(f"--out {out}: is a folder", hint="name a file")
        self.out, self.whole = out, True
        self._part = out.with_name(out.name + ".part")
        try:
            self._writer = kinds[out.suffix.lower()](self._part)
        except OSError as error:
            raise UsageError(f"--out {out}: can't be written ({error.strerror})") from error

    def __enter__(self) -> RowFile:
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row with the fields of ROW_FIELDS."""
        self._writer.write(row)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._writer.close()
        except OSError:
            if kind is None:
                raise
        if kind is None and self.whole:
            os.replace(self._part, self.out)
        else:
            print(f"dgiqa: stopped; the rows so far are in {self._part}", file=sys.stderr)


class _JsonLinesWriter:
    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n")

    def write(self, row: dict[str, Any]) -> None:
        self._stream.write(json.dumps(row, ensure_ascii=True) + "\n")

    def close(self) -> None:
        self._stream.close()


class _CsvWriter:
    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        # RFC 4180's line ends; with "\n" alone the writer would not quote a name that has a "\r" in it.
        self._csv = csv.DictWriter(self._stream, ROW_FIELDS, lineterminator="\r\n")
        self._csv.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        self._csv.writerow(row)

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise RuntimeMissing(
                "Parquet needs pyarrow, which is not installed", hint="pip install 'dgiqa[parquet]'"
            ) from error
        text, real, whole = pa.string(), pa.float64(), pa.int32()
        types = (text, text, real, real, real, real, text, whole, whole, text)
        self._schema = pa.schema(list(zip(ROW_FIELDS, types, strict=True)))
        self._table = pa.Table
        self._file = pq.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        # Names that are no UTF-8 can't stand in Parquet: they are escaped rather than lost.
        self._rows.append({k: _printable(v) if isinstance(v, str) else v for k, v in row.items()})
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(self._table.from_pylist(self._rows, self._schema))
            self._rows = []


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


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def watch(results: Iterable[R], total: int) -> Iterator[R]:
    """The results, with progress on stderr: a bar with pictures/s and time left on a terminal, else plain lines."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        width = min(100, shutil.get_terminal_size().columns)
        yield from tqdm(results, total=total, unit=" pictures", ncols=width, leave=False, disable=total < 2)
        return
    start = said = time.monotonic()
    for count, result in enumerate(results, 1):
        yield result
        if (now := time.monotonic()) - said >= PROGRESS_SECONDS:
            said, rate = now, count / (now - start)
            left = (total - count) / rate
            print(f"dgiqa: {count}/{total} pictures, {rate:.1f} pictures/s, {left:.0f} s left", file=sys.stderr)

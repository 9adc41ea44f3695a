"""Scores in a CSV file: any other tool's are read and matched to a split's pictures, ours are written.

A file to read has a column of paths or names and one of scores; a ``model`` column makes it several models', ``error``
says why a score is empty. Beside a score named ``quality``, ``low`` and ``high`` are 90 % intervals in 0..100: what
``dgiqa score --out`` and ``dgiqa evaluate --scores`` write is read back. A file without a header has two columns, names
and scores.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgiqa.datasets import Split
from dgiqa.errors import UsageError
from dgiqa.evaluation.agreement import FEWEST
from dgiqa.evaluation.predictions import Predictions
from dgiqa.evaluation.results import Missing
from dgiqa.weights.files import fingerprint

NAMES, SCORES = re.compile("path|name|image|file|img"), re.compile("score|quality|pred")
#: Columns beside names and scores that are read, too.
_OURS = ("model", "error", "dataset", "split")
#: Columns of what :func:`write_scores` writes.
FIELDS = ("dataset", "split", "path", "mos", "model", "quality", "low", "high", "error")


@dataclass(frozen=True)
class Row:
    """One line: ``line`` is its number in the file; NaN stands for an empty cell, and an empty text."""

    line: int
    name: str
    score: float
    low: float
    high: float
    error: str
    dataset: str = ""
    split: str = ""


@dataclass(frozen=True)
class Scores:
    """One model's rows of a file."""

    file: Path
    model: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Match:
    """A file's scores in a split's order, and how many pictures were found by path and by file name alone."""

    predictions: Predictions
    by_path: int
    by_name: int
    unused: int


def read_scores(file: Path, column: str | None = None) -> tuple[Scores, ...]:
    """The file's scores, those of each model by themselves.

    Args:
        column: name of the column of scores; None finds it.

    Raises:
        UsageError: a file that can't be read, has no rows, no such columns, or a score that is no number: by line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{file}: can't be read ({error.strerror})") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        stripped = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
        lines = [(number, cells) for number, cells in stripped if any(cells)]
    except csv.Error as error:
        raise UsageError(f"{file}, line {reader.line_num}: is no CSV ({error})") from error
    if not lines:
        raise UsageError(f"{file}: is empty", hint="it needs a column of paths and one of scores")
    columns, start = _columns(file, lines[0][1], column)
    if not lines[start:]:
        raise UsageError(f"{file}: has a header and no rows", hint="it needs a row for each picture")
    of_model: dict[str, list[Row]] = {}
    for number, cells in lines[start:]:
        cell = {key: cells[at] for key, at in columns.items() if at < len(cells)}
        of_model.setdefault(cell.get("model") or file.name, []).append(_row(file, number, cell))
    return tuple(Scores(file, model, tuple(rows)) for model, rows in of_model.items())


def _columns(file: Path, header: list[str], column: str | None) -> tuple[dict[str, int], int]:
    """Where each column is, and how many lines the header takes."""
    lowered = [name.lower() for name in header]
    if len(header) == 2 and column is None and _is_number(header[1]):
        return {"name": 0, "score": 1}, 0
    columns: dict[str, int] = {key: lowered.index(key) for key in _OURS if key in lowered}
    named = [i for i, name in enumerate(lowered) if NAMES.search(name)]
    if not named:
        raise UsageError(
            f"{file}: no column of paths among {', '.join(header)}", hint="name one path, name, image or file"
        )
    columns["name"] = lowered.index("path") if "path" in lowered else named[0]
    if column is not None:
        if column not in header:
            raise UsageError(f"{file}: no column {column}", hint=f"it has {', '.join(header)}")
        return columns | _judged(lowered, header.index(column)), 1
    scored = [i for i, name in enumerate(lowered) if SCORES.search(name) and i != columns["name"]]
    if len(scored) != 1:
        found = ", ".join(header[i] for i in scored) if scored else f"none among {', '.join(header)}"
        raise UsageError(f"{file}: {len(scored)} columns could be the score: {found}", hint="choose with --column NAME")
    return columns | _judged(lowered, scored[0]), 1


def _judged(lowered: list[str], score: int) -> dict[str, int]:
    """The score, and the interval beside a quality: another tool's low and high are something else."""
    ends = ("low", "high") if lowered[score] == "quality" and {"low", "high"} <= set(lowered) else ()
    return {"score": score, **{key: lowered.index(key) for key in ends}}


def _row(file: Path, line: int, cell: dict[str, str]) -> Row:
    score, low, high = (_number(file, line, cell.get(key, "")) for key in ("score", "low", "high"))
    if low < 0 or high > 100 or low > high:
        raise UsageError(f"{file}, line {line}: low {low:g} and high {high:g} are no interval in 0..100")
    about = {key: cell.get(key, "") for key in ("error", "dataset", "split")}
    return Row(line, cell.get("name", ""), score, low, high, **about)


def _number(file: Path, line: int, text: str) -> float:
    """NaN for an empty cell."""
    if not text:
        return math.nan
    if not _is_number(text):
        raise UsageError(f"{file}, line {line}: {text!r} is no number", hint="is it the right column? --column NAME")
    if not math.isfinite(float(text)):
        raise UsageError(
            f"{file}, line {line}: {text!r} can't be judged", hint="leave the cell empty where a picture has no score"
        )
    return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def match(scores: Scores, split: Split, root: Path, *, lower_is_better: bool = False) -> Match:
    """The scores in the split's order: by path under ``root``, else by file name where that is one picture's alone.

    Raises:
        UsageError: fewer than 3 pictures have a score, or a picture has two that differ.
    """
    index = _Index(scores, split)
    found = [index.find(path, root) for path in split.paths]
    rows = [row for row, _ in found]
    missing = [
        Missing(str(path), how if row is None else row.error or f"line {row.line} has no score")
        for path, (row, how) in zip(split.paths, found, strict=True)
        if row is None or not np.isfinite(row.score)
    ]
    if len(split) - len(missing) < FEWEST:
        raise _too_few(scores, split, root, len(split) - len(missing))
    used = {row.line for row in rows if row is not None}
    return Match(
        _predictions(scores, rows, missing, lower_is_better),
        by_path=sum(how == "path" for _, how in found),
        by_name=sum(how == "name" for _, how in found),
        unused=sum(row.line not in used for row in scores.rows),
    )


def names_any(scores: Scores, split: Split, root: Path) -> bool:
    """Whether the file has a row of any of the split's pictures."""
    index = _Index(scores, split)
    return any(index.find(path, root)[0] for path in split.paths)


def _rows_of(scores: Scores, split: Split) -> Sequence[Row]:
    """The rows that say they are of the split, else those of its data set, else all: sets can share names."""
    of_set = [row for row in scores.rows if row.dataset == split.dataset]
    return [row for row in of_set if row.split == split.split] or of_set or scores.rows


class _Index:
    """The rows by path and by file name."""

    def __init__(self, scores: Scores, split: Split) -> None:
        self._scores = scores
        self._by_path: dict[str, list[Row]] = {}
        self._by_name: dict[str, list[Row]] = {}
        for row in _rows_of(scores, split):
            self._by_path.setdefault(_as_path(row.name), []).append(row)
            self._by_name.setdefault(_as_name(row.name), []).append(row)
        self._pictures = Counter(_as_name(str(path)) for path in split.paths)

    def find(self, path: Path, root: Path) -> tuple[Row | None, str]:
        """The row of a picture, and ``path`` or ``name``; or None, and why."""
        if rows := self._by_path.get(_as_path(str(path))) or self._by_path.get(_as_path(relative(path, root))):
            return self._only(rows), "path"
        name = _as_name(str(path))
        rows = self._by_name.get(name, [])
        if not rows:
            return None, f"no score in {self._scores.file.name}"
        if self._pictures[name] > 1 or len({_as_path(row.name) for row in rows}) > 1:
            return None, f"several are named {path.name}: give paths in {self._scores.file.name}"
        return self._only(rows), "name"

    def _only(self, rows: Sequence[Row]) -> Row:
        """The row, if all that name the picture give one score."""
        one, *others = [row for row in rows if np.isfinite(row.score)] or [rows[0]]
        if others := [row for row in others if row.score != one.score]:
            raise UsageError(
                f"{self._scores.file}: lines {one.line} and {others[0].line} score {one.name} differently, "
                f"{one.score:g} and {others[0].score:g}",
                hint="keep one of them; a column named model keeps several models apart",
            )
        return one


def _predictions(
    scores: Scores, rows: Sequence[Row | None], missing: Sequence[Missing], lower_is_better: bool
) -> Predictions:
    numbers = [(row.score, row.low, row.high) if row else (np.nan,) * 3 for row in rows]
    score, low, high = np.array(numbers, np.float64).T
    interval = bool(np.isfinite(low + high).any()) and not lower_is_better
    return Predictions(
        scores.model,
        0.0 - score if lower_is_better else score,
        low if interval else None,
        high if interval else None,
        tuple(missing),
        fingerprint(scores.file),
    )


def _too_few(scores: Scores, split: Split, root: Path, count: int) -> UsageError:
    first = scores.rows[0].name if scores.rows else "nothing"
    return UsageError(
        f"{scores.file}: {count} of {len(split)} pictures of {split.dataset} {split.split} have a score",
        hint=f"rows are matched by path under {root}, then by file name; "
        f"the file's first is {first}, the split's {relative(split.paths[0], root)}",
    )


def _as_path(name: str) -> str:
    """Slashes turned, ``./`` and blanks around dropped."""
    return re.sub(r"^(\./)+", "", name.replace("\\", "/").strip())


def _as_name(name: str) -> str:
    """The file's name alone; published lists and files differ in case."""
    return _as_path(name).rpartition("/")[2].lower()


def relative(path: Path, root: Path) -> str:
    """The path under ``root`` with slashes, or as it is if it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def write_scores(file: Path, judged: Iterable[tuple[Split, Path, Predictions]]) -> None:
    """One line a picture and model, with :data:`FIELDS`; paths are those under each split's root, numbers are whole."""
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\r\n")
        writer.writeheader()
        for split, root, predictions in judged:
            writer.writerows(_written(split, root, predictions))


def _written(split: Split, root: Path, predictions: Predictions) -> Iterable[dict[str, Any]]:
    why = {missing.path: missing.why for missing in predictions.missing}
    paths = [relative(path, root) for path in split.paths]
    nothing = np.full(len(split), np.nan)
    low = nothing if predictions.low is None else predictions.low
    high = nothing if predictions.high is None else predictions.high
    for i, path in enumerate(split.paths):
        numbers = {"quality": predictions.scores[i], "low": low[i], "high": high[i]}
        yield {
            "dataset": split.dataset,
            "split": split.split,
            "path": paths[i],
            "mos": round(float(split.mos[i]), 6),
            "model": predictions.model,
            **{key: "" if np.isnan(value) else float(value) for key, value in numbers.items()},
            "error": why.get(str(path), ""),
        }

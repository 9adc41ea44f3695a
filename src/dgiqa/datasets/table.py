"""Reads a set's files of scores: with or without a header, between commas, tabs, semicolons or blanks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dgiqa.datasets.card import DELIMITERS, DataSetCard, Table
from dgiqa.errors import UsageError


@dataclass(frozen=True)
class Row:
    """One rated picture, in the set's own words; NaN and empty text where a table has no such column."""

    picture: str
    score: float
    deviation: float = math.nan
    reference: str = ""
    distortion: str = ""
    set: str = ""


def files_of(table: Table, root: Path) -> list[Path]:
    """The files that a table's name or pattern means, in order; a plain name is one file, there or not."""
    if any(sign in table.file for sign in "*?["):
        return sorted(root.glob(table.file))
    return [root / table.file]


def read_table(card: DataSetCard, table: Table, root: Path) -> list[Row]:
    """Its rows, without the skipped ones.

    Raises:
        UsageError: the file is missing or lacks a column, or a score is no number: by file, line and column.
    """
    files = files_of(table, root)
    if not files or not files[0].is_file():
        raise UsageError(
            f"{card.name}: {files[0] if files else root / table.file} is missing",
            hint=f"{card.bring or 'bring the data set'}: {card.page}",
        )
    rows = [row for file in files for row in _read(table, file)]
    return rows[table.skip :]


def _read(table: Table, file: Path) -> list[Row]:
    lines = read_lines(file, DELIMITERS[table.delimiter])
    names = list(table.columns)
    if table.header:
        (_, names), lines = lines[0] if lines else (0, []), lines[1:]
    places = {name: names.index(name) for name in table.wanted if name in names}
    if missing := [name for name in table.wanted if name not in places]:
        raise UsageError(f"{file}: no column {missing[0]!r}", hint=f"it has {', '.join(names) or 'nothing'}")
    found = []
    for number, cells in lines:
        cell = {name: cells[at] if at < len(cells) else "" for name, at in places.items()}
        if not cell[table.picture]:
            continue
        found.append(
            Row(
                cell[table.picture],
                number_in(cell[table.score], file, number),
                number_in(cell[table.deviation], file, number) if table.deviation else math.nan,
                cell.get(table.reference, ""),
                cell.get(table.distortion, ""),
                cell.get(table.set, ""),
            )
        )
    return found


def read_lines(file: Path, delimiter: str | None) -> list[tuple[int, list[str]]]:
    """Line numbers and stripped cells of the lines that are not empty; ``delimiter`` None is any run of blanks.

    Raises:
        UsageError: the file can't be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{file}: can't be read ({error.strerror})") from error
    if delimiter is None:
        split: list[tuple[int, Sequence[str]]] = [(i, line.split()) for i, line in enumerate(text.splitlines(), 1)]
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        split = [(reader.line_num, cells) for cells in reader]
    return [(number, [cell.strip() for cell in cells]) for number, cells in split if any(cells)]


def number_in(text: str, file: Path, line: int) -> float:
    """The finite number in a cell.

    Raises:
        UsageError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{file}, line {line}: {text!r} is no number")
    return value

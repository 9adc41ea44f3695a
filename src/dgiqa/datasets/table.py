"""Reads a set's files of scores: with or without a header, between commas, tabs, semicolons or blanks."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

from dgiqa.datasets.card import DELIMITERS, DataSetCard, Pairs, Table
from dgiqa.datasets.pictures import is_there, key
from dgiqa.errors import UsageError

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


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
        return sorted(path for path in root.glob(table.file) if not path.name.startswith("."))
    return [root / table.file]


def is_known(table: Table, root: Path) -> bool:
    """Whether the file has the card's sum, or the card none; line ends that a checkout turned to CRLF don't matter."""
    if not table.sha256:
        return True
    content = files_of(table, root)[0].read_bytes()
    forms = (content, content.replace(b"\r\n", b"\n"))
    return table.sha256 in [hashlib.sha256(form).hexdigest() for form in forms]


def read_pairs(pairs: Pairs, folder: Path) -> dict[str, str]:
    """The reference of each picture, by the :func:`key` of the picture's way from ``folder``; empty without files.

    Raises:
        UsageError: a file can't be read, or a line lacks one of the two columns.
    """
    found = {}
    for file in sorted(folder.glob(pairs.file)):
        for number, cells in read_lines(file, DELIMITERS[pairs.delimiter]):
            cell = dict(zip(pairs.columns, cells, strict=False))
            if missing := [name for name in (pairs.picture, pairs.reference) if name not in cell]:
                raise UsageError(f"{file}, line {number}: no column {missing[0]!r}")
            way = file.parent.relative_to(folder) / cell[pairs.picture]
            found[key(way.as_posix())] = cell[pairs.reference]
    return found


def read_table(card: DataSetCard, table: Table, root: Path) -> list[Row]:
    """Its rows, without the skipped ones.

    Raises:
        UsageError: the file is missing or lacks a column, or a score is no number: by file, line and column.
    """
    files = files_of(table, root)
    if not files or not is_there(files[0]):
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
            if cell[table.score]:
                raise UsageError(f"{file}, line {number}: a score without a picture")
            continue
        deviation = cell.get(table.deviation, "")
        found.append(
            Row(
                cell[table.picture],
                number_in(cell[table.score], file, number, table.score),
                number_in(deviation, file, number, table.deviation) if deviation else math.nan,
                cell.get(table.reference, ""),
                cell.get(table.distortion, ""),
                cell.get(table.set, ""),
            )
        )
    return found


def read_lines(file: Path, delimiter: str | None) -> list[tuple[int, list[str]]]:
    """Line numbers and stripped cells of the lines that are not empty; ``delimiter`` None is any run of blanks.

    Spreadsheets of many countries write semicolons for commas, and then commas for points: where a comma is expected
    and the first line has more semicolons or tabs, those are taken, and ``3,5`` is 3.5.

    Raises:
        UsageError: the file can't be read.
    """
    text = _text(file)
    if delimiter is None:
        split = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1)]
    else:
        if delimiter == ",":
            delimiter = max(",;\t", key=text.lstrip("\n").partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        try:
            split = [(reader.line_num, cells) for cells in reader]
        except csv.Error as error:
            raise UsageError(
                f"{file}, line {reader.line_num}: {error}", hint="is a quotation mark left open?"
            ) from error
    lines = [(number, [cell.strip() for cell in cells]) for number, cells in split]
    if delimiter != ",":
        lines = [(number, [_with_point(cell) for cell in cells]) for number, cells in lines]
    return [(number, cells) for number, cells in lines if any(cells)]


def _text(file: Path) -> str:
    """Its text with plain line ends; bytes that are no UTF-8 stay what they are in file names."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: can't be read ({error.strerror})") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


def number_in(text: str, file: Path, line: int, column: str) -> float:
    """The finite number in a cell.

    Raises:
        UsageError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{file}, line {line}: {column} is {text!r}, which is no number")
    return value

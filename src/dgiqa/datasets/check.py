"""What of a data set is there and what is missing, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dgiqa.datasets.card import DataSetCard, Table
from dgiqa.datasets.pictures import Pictures, is_there
from dgiqa.datasets.read import references_of
from dgiqa.datasets.table import Row, files_of, is_known, read_table
from dgiqa.errors import UsageError
from dgiqa.weights.files import sha256_of


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it is as it should be, and what was found, in words."""

    whole: bool
    text: str


def check(card: DataSetCard, root: Path) -> list[Finding]:
    """Looks at every file of scores and every picture of ``card`` under ``root``."""
    if not root.is_dir():
        return [Finding(False, f"{root}: there is no such folder")]
    found: list[Finding] = []
    rows: list[Row] = []
    for table in card.tables:
        finding, more = _table(card, table, root)
        found.append(finding)
        rows += more
    pictures = _pictures(card, root, [row.picture for row in rows])
    if rows and len(rows) != card.pictures and all(finding.whole for finding in found):
        pictures.append(Finding(False, f"{len(rows):,} rated pictures where the set has {card.pictures:,}"))
    return [*found, *(_pairs(card, root, rows) if card.pairs and rows else []), *pictures]


def _table(card: DataSetCard, table: Table, root: Path) -> tuple[Finding, list[Row]]:
    try:
        rows = read_table(card, table, root)
    except UsageError as error:
        return Finding(False, error.message), []
    where = root / table.file
    if not is_known(table, root):
        found = sha256_of(files_of(table, root)[0])
        text = f"{where}: {len(rows):,} rated pictures, but not the file that the card knows (sha256 {found[:12]}…)"
        return Finding(False, text), rows
    known = ", its sum is right" if table.sha256 else ""
    return Finding(True, f"{where}: {len(rows):,} rated pictures{known}"), rows


def _pairs(card: DataSetCard, root: Path, rows: list[Row]) -> list[Finding]:
    where = " and ".join(str(root / card.images / pairs.file) for pairs in card.pairs)
    try:
        references = references_of(card, rows, root)
    except UsageError as error:
        return [Finding(False, error.message)]
    known = sum(map(bool, references))
    if known < len(rows):
        text = f"{where}: name the references of {known:,} of {len(rows):,} pictures; seeded parts need all of them"
        return [Finding(False, text)]
    return [Finding(True, f"{where}: name the references of all {len(rows):,} pictures")]


def _pictures(card: DataSetCard, root: Path, names: list[str]) -> list[Finding]:
    folder = root / card.images
    if not names:
        return [Finding(folder.is_dir(), f"{folder}: {'is there' if folder.is_dir() else 'is missing'}")]
    pictures = Pictures(folder)
    gone = [path for path in pictures.find_all(names) if not is_there(path)]
    if gone:
        text = f"{folder}: {len(gone):,} of {len(names):,} pictures are missing, first {gone[0]}"
        return [Finding(False, text)]
    return [Finding(True, f"{folder}: all {len(names):,} pictures are there")]

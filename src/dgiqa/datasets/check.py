"""What of a data set is there and what is missing, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dgiqa.datasets.card import DataSetCard, Table
from dgiqa.datasets.pictures import Pictures, is_there
from dgiqa.datasets.table import files_of, read_table
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
    found, names = [], []
    for table in card.tables:
        finding, rows = _table(card, table, root)
        found.append(finding)
        names += rows
    pictures = _pictures(card, root, names)
    if names and len(names) != card.pictures and all(finding.whole for finding in found):
        pictures.append(Finding(False, f"{len(names):,} rated pictures where the set has {card.pictures:,}"))
    return [*found, *pictures]


def _table(card: DataSetCard, table: Table, root: Path) -> tuple[Finding, list[str]]:
    try:
        rows = read_table(card, table, root)
    except UsageError as error:
        return Finding(False, error.message), []
    where = root / table.file
    if table.sha256 and (found := sha256_of(files_of(table, root)[0])) != table.sha256:
        text = f"{where}: {len(rows):,} rated pictures, but not the file that the card knows (sha256 {found[:12]}…)"
        return Finding(False, text), [row.picture for row in rows]
    known = ", its sum is right" if table.sha256 else ""
    return Finding(True, f"{where}: {len(rows):,} rated pictures{known}"), [row.picture for row in rows]


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

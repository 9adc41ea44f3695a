"""Data sets of rated pictures: one TOML card each, no code per set. The user brings the files.

A card names the folder of pictures, one CSV file per official split, its columns, the range of the scores and a
pattern that finds a picture's subset in its name.
"""

from __future__ import annotations

import csv
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgiqa.errors import UsageError
from dgiqa.types import Float32


@dataclass(frozen=True)
class Split:
    """One split: file paths, MOS scaled to 0..1 (higher is better), and each picture's subset."""

    dataset: str
    split: str
    paths: tuple[Path, ...]
    mos: Float32
    subsets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def read_split(dataset: str, split: str, root: Path) -> Split:
    """The split named ``split`` of the data set ``dataset`` whose files lie under ``root``.

    Raises:
        UsageError: no such card or split, or files that are missing under ``root``, by name.
    """
    card_path = Path(__file__).parent / f"{dataset}.toml"
    known = sorted(path.stem for path in card_path.parent.glob("*.toml"))
    if dataset not in known:
        raise UsageError(f"{dataset}: no such data set", hint=f"known: {', '.join(known)}")
    card = tomllib.loads(card_path.read_text(encoding="utf-8"))
    if split not in card["splits"]:
        raise UsageError(f"{dataset}: no split {split}", hint=f"known: {', '.join(card['splits'])}")
    table = root / card["splits"][split]
    if not table.is_file():
        raise UsageError(f"{dataset}: {table} is missing", hint=f"bring the data set from {card['page']}")
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row[card["name_column"]]]
    paths = _resolve(root / card["images"], [row[card["name_column"]] for row in rows])
    if missing := [path for path in paths if not path.is_file()]:
        raise UsageError(
            f"{dataset}: {len(missing)} of {len(paths)} pictures are missing, first {missing[0]}",
            hint=f"bring the data set from {card['page']}",
        )
    low, high = card["score_range"]
    mos = np.array([(float(row[card["score_column"]]) - low) / (high - low) for row in rows], np.float32)
    found = (re.search(card["subset"], path.name) for path in paths)
    return Split(dataset, split, paths, mos, tuple(match.group(1) if match else "" for match in found))


def _resolve(folder: Path, names: list[str]) -> tuple[Path, ...]:
    """The files of those names; published lists and files differ in case (``.jpg`` for ``.JPG``)."""
    present = {path.name.lower(): path for path in folder.glob("*")}
    return tuple(present.get(name.lower(), folder / name) for name in names)

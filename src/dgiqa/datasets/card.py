"""The card of a data set: which files the user brings, what their columns mean, the scale, the parts, the licence."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from dgiqa.cards import from_table
from dgiqa.datasets.split import seeded_names
from dgiqa.errors import CardError, UsageError

FOLDER = Path(__file__).parent
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "space": None}


@dataclass(frozen=True)
class Scale:
    """The scale of the scores.

    Attributes:
        low, high: its ends; the scores' own where the set defines none (then of the whole set, so that parts agree).
        better: ``lower`` for DMOS, which is turned.
        raters: people who rated each picture, on average; 0 where unknown.
        deviations: width of the scale that the deviations are in; 0 for this scale's own.
    """

    low: float
    high: float
    better: Literal["higher", "lower"] = "higher"
    raters: int = 0
    deviations: float = 0.0

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low

    def check(self) -> None:
        """Raises ValueError for a scale without room."""
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} must be less than high = {self.high:g}")
        if self.raters < 0 or self.deviations < 0:
            raise ValueError("raters and deviations must not be negative")


@dataclass(frozen=True)
class Table:
    """One file of scores.

    Attributes:
        file: under the root; a pattern such as ``Train_Label/*.txt`` for many alike.
        part: the official part that this file is; empty if a column says it, or there is none.
        header: the first line names the columns; else ``columns`` does.
        columns: names of the columns of a file without a header, in order.
        delimiter: between the columns; ``space`` is any run of blanks.
        skip: rows of pictures to leave out at the start.
        picture, score: columns of the picture's name and of its score.
        deviation, reference, distortion, set: columns of these, where there are such.
        sha256: of the file, where known.
    """

    file: str
    picture: str
    score: str
    part: str = ""
    header: bool = True
    columns: tuple[str, ...] = ()
    delimiter: Literal["comma", "tab", "semicolon", "space"] = "comma"
    skip: int = 0
    deviation: str = ""
    reference: str = ""
    distortion: str = ""
    set: str = ""
    sha256: str = ""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Columns that must be there."""
        named = (self.picture, self.score, self.deviation, self.reference, self.distortion, self.set)
        return tuple(name for name in named if name)

    def check(self) -> None:
        """Raises ValueError for columns that can't be found."""
        if self.skip < 0:
            raise ValueError("skip must not be negative")
        if self.header == bool(self.columns):
            raise ValueError("columns names those of a file without a header, and only those")
        if self.columns and (missing := [name for name in self.wanted if name not in self.columns]):
            raise ValueError(f"{missing[0]!r} is none of columns")


@dataclass(frozen=True)
class Pairs:
    """Files that say which reference each picture was made from, for sets whose scores don't.

    Attributes:
        file: a pattern under the folder of pictures, such as ``*/info.txt``; pictures count from the file's own folder.
        columns: names of the columns, in order; such files have no header.
        picture, reference: columns of these.
        delimiter: between the columns.
    """

    file: str
    columns: tuple[str, ...]
    picture: str
    reference: str
    delimiter: Literal["comma", "tab", "semicolon", "space"] = "space"

    def check(self) -> None:
        """Raises ValueError for columns that can't be found."""
        if missing := [name for name in (self.picture, self.reference) if name not in self.columns]:
            raise ValueError(f"{missing[0]!r} is none of columns")


@dataclass(frozen=True)
class Parts:
    """A part made of another one.

    Attributes:
        of: the part it is taken from.
        without: a file beside the card, ``{"indices": [...]}``: rows of that part to leave out.
        why: what is left out, in words.
    """

    of: str
    without: str
    why: str


@dataclass(frozen=True)
class DataSetCard:
    """A data set. ``name`` follows from the file's name.

    Attributes:
        title, summary, paper, page, licence: in words; ``page`` is where the set can be had.
        pictures: how many rated pictures the whole set has.
        images: the folder of the pictures under the root; see :class:`dgiqa.datasets.pictures.Pictures`.
        originals: the folder of the references.
        scale: of the scores.
        tables: the files of scores.
        pairs: files that pair pictures with references, where neither a table nor a picture's name does.
        parts: official parts by the value of the ``set`` column: ``train = "training"``.
        lists: further parts.
        subset, reference, distortion: patterns over the picture's name whose group 1 is that; for sets without such a
            column. ``{}`` in ``original`` is replaced by the reference's name to get its file.
        original: file name of a reference.
        distortions: names for the codes that ``distortion`` finds.
        scenes: a CSV file beside the card, ``path,group``: pictures that show one scene.
        groups: a CSV file beside the card, ``path,group``, over the whole set: seeded parts keep a group together.
        checked: how much of this was held against the set's own files: ``all``, its ``scores``, or ``nothing``.
        how: what was held against what, in words.
        bring: what the user has to do beyond unpacking, in words.
    """

    title: str
    summary: str
    paper: str
    page: str
    licence: str
    pictures: int
    scale: Scale
    tables: tuple[Table, ...]
    images: str = ""
    originals: str = ""
    pairs: tuple[Pairs, ...] = ()
    parts: dict[str, str] = field(default_factory=dict)
    lists: dict[str, Parts] = field(default_factory=dict)
    subset: str = ""
    reference: str = ""
    original: str = "{}"
    distortion: str = ""
    distortions: dict[str, str] = field(default_factory=dict)
    scenes: str = ""
    groups: str = ""
    checked: Literal["all", "scores", "nothing"] = "nothing"
    how: str = ""
    bring: str = ""
    name: str = ""

    @property
    def official(self) -> tuple[str, ...]:
        """The names of the official parts and lists."""
        return tuple(dict.fromkeys([*(t.part for t in self.tables if t.part), *self.parts, *self.lists]))

    @property
    def has_references(self) -> bool:
        """Whether the seeded parts are disjoint by reference."""
        return bool(self.reference or self.pairs or any(table.reference for table in self.tables))

    @property
    def splits(self) -> tuple[str, ...]:
        """Every name that :func:`dgiqa.datasets.read_split` takes."""
        return ("all", *self.official, *seeded_names())

    def check(self) -> None:
        """Raises ValueError when the tables contradict each other."""
        if not self.tables:
            raise ValueError("tables: at least one file of scores is needed")
        if taken := sorted({"all", *seeded_names()} & set(self.official)):
            raise ValueError(f"a part must not be called {taken[0]}")
        of = {part.of for part in self.lists.values()}
        if unknown := sorted(of - (set(self.official) - set(self.lists))):
            raise ValueError(f"lists: {unknown[0]!r} is no official part")
        if bool(self.parts) != any(table.set for table in self.tables):
            raise ValueError("parts and a table's column set go together: one of them is missing")
        for pattern in (self.subset, self.reference, self.distortion):
            try:
                if pattern and re.compile(pattern).groups < 1:
                    raise ValueError(f"{pattern!r} has no group")
            except re.error as error:
                raise ValueError(f"{pattern!r}: {error}") from error


def list_datasets() -> list[DataSetCard]:
    """Every card, by name."""
    return [find_dataset(path.stem) for path in sorted(FOLDER.glob("*.toml"))]


@lru_cache(maxsize=64)
def find_dataset(name: str) -> DataSetCard:
    """The card of that name.

    Raises:
        UsageError: there is none.
        CardError: it is not well formed.
    """
    file = FOLDER / f"{name}.toml"
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if name not in known:
        raise UsageError(
            f"{name}: no such data set", hint=f"known: {', '.join(known)}; or a CSV file with columns path,mos"
        )
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{file.name}: not valid TOML ({error})") from error
    card: DataSetCard = from_table(DataSetCard, table, file.name)
    return dataclasses.replace(card, name=name)


def left_out(part: Parts) -> list[int]:
    """The rows that a part leaves out."""
    content = json.loads((FOLDER / part.without).read_text(encoding="utf-8"))
    indices: list[int] = content["indices"]
    return indices


def groups_of(card: DataSetCard) -> dict[str, str]:
    """The group of each picture that the card's file of groups names."""
    if not card.groups:
        return {}
    with (FOLDER / card.groups).open(encoding="utf-8", newline="") as stream:
        return {row["path"]: row["group"] for row in csv.DictReader(stream)}

"""From a card and the user's files to a :class:`Split`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dgiqa.datasets.card import DataSetCard, Parts, find_dataset, groups_of, left_out
from dgiqa.datasets.pictures import Pictures, is_there, key
from dgiqa.datasets.plain import read_plain
from dgiqa.datasets.split import Split, seeded, seeded_names
from dgiqa.datasets.table import Row, files_of, is_known, read_pairs, read_table
from dgiqa.errors import UsageError


def read_split(dataset: str, split: str, root: Path) -> Split:
    """The part ``split`` of ``dataset`` whose files lie under ``root``.

    Args:
        dataset: a card's name, or the path of a CSV file (see :mod:`dgiqa.datasets.plain`).
        split: ``all``, ``train-0`` … ``test-9``, or a part that the card, or the file's column ``split``, names.

    Raises:
        UsageError: no such card or part, or files that are missing under ``root``, by name, with the way out.
    """
    if dataset.lower().endswith(".csv"):
        whole, parts, groups = read_plain(Path(dataset), root)
        return _part(whole, split, parts, groups)
    card = find_dataset(dataset)
    if split not in card.splits:
        raise UsageError(
            f"{dataset}: no split {split}",
            hint=_known(card.official),
        )
    listed = card.lists.get(split)
    rows = read_rows(card, root, listed.of if listed else split)
    if listed:
        _same_rows(card, listed, root)
        out = set(left_out(listed))
        rows = [row for i, row in enumerate(rows) if i not in out]
    references = references_of(card, rows, root)
    whole = _whole(card, rows, references, root, split)
    if card.pairs and split in seeded_names():
        _all_paired(card, rows, references, root)
    scenes = {key(picture): f"group {group}" for picture, group in groups_of(card).items()}
    groups = [name or scenes.get(key(row.picture), row.picture) for name, row in zip(references, rows, strict=True)]
    return _part(whole, split, {}, groups)


def read_rows(card: DataSetCard, root: Path, split: str) -> list[Row]:
    """The rows of the tables that a part needs: one official part, or all of them.

    Raises:
        UsageError: a table is missing or not as the card says.
    """
    by_file = {table.part for table in card.tables if table.part}
    tables = [table for table in card.tables if split not in by_file or table.part == split]
    rows = [row for table in tables for row in read_table(card, table, root)]
    if split not in card.parts:
        return rows
    return [row for row in rows if row.set == card.parts[split]]


def references_of(card: DataSetCard, rows: Sequence[Row], root: Path) -> list[str]:
    """The name of each row's reference, empty where none is known."""
    paired: dict[str, str] = {}
    for pairs in card.pairs:
        paired |= read_pairs(pairs, root / card.images)
    return [row.reference or _found(card.reference, row.picture) or paired.get(key(row.picture), "") for row in rows]


def _all_paired(card: DataSetCard, rows: Sequence[Row], references: Sequence[str], root: Path) -> None:
    """Raises UsageError where a seeded part could have pictures of one reference on both sides."""
    alone = [row.picture for row, name in zip(rows, references, strict=True) if not name]
    if alone:
        raise UsageError(
            f"{card.name}: the references of {len(alone)} of {len(rows)} pictures are not known, first {alone[0]}, so "
            "that seeded parts can't keep them together",
            hint=f"bring {' and '.join(str(root / card.images / pairs.file) for pairs in card.pairs)}, which name them",
        )


def _whole(card: DataSetCard, rows: Sequence[Row], references: Sequence[str], root: Path, split: str) -> Split:
    if not rows:
        raise UsageError(f"{card.name}: the part {split} has no pictures", hint=f"bring the set anew from {card.page}")
    pictures = Pictures(root / card.images)
    paths = pictures.find_all([row.picture for row in rows])
    if missing := [path for path in paths if not is_there(path)]:
        raise UsageError(
            f"{card.name}: {len(missing)} of {len(paths)} pictures are missing, first {missing[0]}",
            hint=f"bring the data set from {card.page}; dgiqa datasets check {card.name} {root} tells what is there",
        )
    scale = card.scale
    scores = np.array([row.score for row in rows])
    outside = np.flatnonzero((scores < scale.low - 1e-6) | (scores > scale.high + 1e-6))
    if outside.size:
        row = rows[int(outside[0])]
        raise UsageError(
            f"{card.name}: {row.picture} has the score {row.score:g}, outside {scale.low:g} to {scale.high:g}",
            hint="is it the file that the card names? Other editions of a set have other scales",
        )
    share = np.clip((scores - scale.low) / scale.width, 0, 1)
    deviations = np.array([row.deviation for row in rows], np.float32) / (scale.deviations or scale.width)
    return Split(
        dataset=card.name,
        split="all" if seeded(split, ("",)) is not None else split,
        paths=tuple(paths),
        mos=(share if scale.better == "higher" else 1 - share).astype(np.float32),
        subsets=tuple(_found(card.subset, row.picture) for row in rows),
        distortions=_distortions(card, rows),
        references=_files(card, references, root),
        deviations=deviations if np.isfinite(deviations).any() else None,
        raters=scale.raters,
    )


def _same_rows(card: DataSetCard, part: Parts, root: Path) -> None:
    """Raises UsageError where the rows that ``part`` counts may be others than those of the set."""
    for table in card.tables:
        if table.part == part.of and not is_known(table, root):
            raise UsageError(
                f"{files_of(table, root)[0]}: is not the file that the card knows, so that the pictures to leave out "
                "can't be told",
                hint=f"bring it anew from {card.page}",
            )


def _part(whole: Split, split: str, parts: Mapping[str, Sequence[int]], groups: Sequence[str]) -> Split:
    """A seeded part of the whole, one of ``parts``, or the whole itself.

    ``groups`` are names in the set's own words: files differ from machine to machine in place and case.
    """
    chosen = seeded(split, [key(group) for group in groups])
    if chosen is None:
        if split == whole.split:
            return whole
        if split not in parts:
            raise UsageError(f"{whole.dataset}: no split {split}", hint=_known(parts))
        chosen = np.array(parts[split], np.intp)
    if not chosen.size:
        raise UsageError(f"{whole.dataset}: the part {split} has no pictures")
    return whole.some(split, chosen)


def _files(card: DataSetCard, references: Sequence[str], root: Path) -> tuple[Path | None, ...]:
    """Where the references are or ought to be; () where none is known."""
    if not any(references):
        return ()
    originals = Pictures(root / card.originals)
    return originals.find_references([card.original.replace("{}", name) if name else "" for name in references])


def _distortions(card: DataSetCard, rows: Sequence[Row]) -> tuple[str, ...]:
    found = [row.distortion or _found(card.distortion, row.picture) for row in rows]
    return tuple(card.distortions.get(kind, kind) for kind in found)


def _known(parts: Iterable[str]) -> str:
    return f"known: {', '.join(['all', *parts])}, and train-0 to train-9 with test-0 to test-9"


def _found(pattern: str, name: str) -> str:
    match = re.search(pattern, name) if pattern else None
    return match.group(1) or "" if match else ""

"""A plain CSV file as a data set: ``path,mos`` and, if wished, ``std``, ``ref``, ``split``, ``subset``, ``distortion``.

pyiqa's meta files are taken as they are: ``img_name`` or ``dist_name`` for the path, ``mos`` or ``dmos``, ``ref_name``,
and split columns such as ``official_split`` or ``ratio802_seed123_split01`` with values 0 train, 1 val, 2 test.

A column called ``mos 0..10`` says its scale, and a score outside is an error. Else MOS may be on one of five scales,
told by the file's smallest and largest value, the first that has room for both: 0 to 1, 1 to 5, 0 to 5, 0 to 10, or 0
to 100. Any other scale is stretched from the file's own lowest to its highest, whichever part is read.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dgiqa.datasets.pictures import Pictures, is_there
from dgiqa.datasets.split import Split, seeded_names
from dgiqa.datasets.table import number_in, read_lines
from dgiqa.errors import UsageError
from dgiqa.types import Float32

#: Names that a column may have, best first.
NAMES = {
    "path": ("path", "img_name", "dist_name", "image_name", "image", "name", "filename"),
    "mos": ("mos", "dmos"),
    "std": ("std", "mos_std", "sd"),
    "ref": ("ref", "ref_name", "reference"),
    "subset": ("subset",),
    "distortion": ("distortion", "dist_type"),
    "raters": ("raters",),
}
#: What the numbers of pyiqa's split columns mean.
PARTS = {"0": "train", "1": "val", "2": "test"}
#: A column of scores that says its scale.
_ENDS = re.compile(r"(d?mos)\s+(-?\d+(?:\.\d+)?)\s*\.\.\s*(-?\d+(?:\.\d+)?)")
#: Ends of the scales that are known by their looks.
SCALES = ((0.0, 1.0), (1.0, 5.0), (0.0, 5.0), (0.0, 10.0), (0.0, 100.0))


def read_plain(file: Path, root: Path) -> tuple[Split, dict[str, list[int]], list[str]]:
    """The whole file as the part ``all``; the indices of its parts by name; each row's reference, else its picture.

    ``dmos`` is turned: lower is better there. A column ``split`` gives the parts' names; of pyiqa's columns each gives
    parts such as ``test@ratio802_seed123_split01``, and ``official_split`` plain ``train``, ``val`` and ``test``.

    Raises:
        UsageError: the file can't be read, lacks a column, a MOS is no number, or pictures are missing: by name.
    """
    lines = read_lines(file, ",")
    if not lines:
        raise UsageError(f"{file}: is empty", hint="it needs the columns path,mos")
    said = [_ENDS.fullmatch(name.lower()) for name in lines[0][1]]
    header = [match[1] if match else name.lower() for match, name in zip(said, lines[0][1], strict=True)]
    places = {
        key: next(header.index(name) for name in names if name in header)
        for key, names in NAMES.items()
        if any(name in header for name in names)
    }
    if missing := [key for key in ("path", "mos") if key not in places]:
        raise UsageError(f"{file}: no column {missing[0]}", hint=f"it has {', '.join(lines[0][1])}")
    rows = [(n, cells) for n, cells in lines[1:] if _cell(cells, places["path"]) or _cell(cells, places["mos"])]
    if not rows:
        raise UsageError(f"{file}: has a header and no rows")
    names = [_cell(cells, places["path"]) for _, cells in rows]
    if "" in names:
        raise UsageError(f"{file}, line {rows[names.index('')][0]}: a score without a picture")
    column = header[places["mos"]]
    scores = np.array([number_in(_cell(cells, places["mos"]), file, number, column) for number, cells in rows])
    paths = Pictures(root).find_all(names)
    if gone := [path for path in paths if not is_there(path)]:
        raise UsageError(
            f"{file}: {len(gone)} of {len(paths)} pictures are missing, first {gone[0]}",
            hint=f"its paths count from {root}; --root names another folder",
        )
    ends = said[places["mos"]]
    low, high = (float(ends[2]), float(ends[3])) if ends else scale_of(scores)
    if ends and not low < high:
        raise UsageError(f"{file}: {ends[0]} is no scale", hint="the lower end comes first, as in mos 0..10")
    if outside := [i for i, score in enumerate(scores.tolist()) if not low <= score <= high]:
        number = rows[outside[0]][0]
        raise UsageError(f"{file}, line {number}: {column} is {scores[outside[0]]:g}, outside {low:g} to {high:g}")
    if not low < high:
        raise UsageError(
            f"{file}: every {column} is {low:g}, on no known scale", hint="0..1, 1..5, 0..5, 0..10 and 0..100 are known"
        )
    mos = (scores - low) / (high - low)
    references = [_cell(cells, places.get("ref")) for _, cells in rows]
    whole = Split(
        dataset=str(file),
        split="all",
        paths=tuple(paths),
        mos=(1 - mos if column == "dmos" else mos).astype(np.float32),
        subsets=tuple(_cell(cells, places.get("subset")) for _, cells in rows),
        distortions=tuple(_cell(cells, places.get("distortion")) for _, cells in rows),
        references=Pictures(root).find_references(references) if any(references) else (),
        deviations=_deviations(file, rows, places.get("std"), high - low),
        raters=_raters(file, rows, places.get("raters")),
    )
    groups = [reference or name for reference, name in zip(references, names, strict=True)]
    return whole, _parts(file, header, rows), groups


def scale_of(scores: Float32 | np.ndarray) -> tuple[float, float]:
    """The ends of the scale that the scores are on; see the top of this file."""
    lowest, highest = float(scores.min()), float(scores.max())
    for low, high in SCALES:
        if low <= lowest and highest <= high:
            return low, high
    return lowest, highest


def _parts(file: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    own = "split" if "split" in header else "official_split"
    for name in sorted({name for name in header if "split" in name}, key=header.index):
        place, plain = header.index(name), name == own
        for i, (_, cells) in enumerate(rows):
            if value := _cell(cells, place):
                part = value if name == "split" else PARTS.get(value.removesuffix(".0"), value)
                parts.setdefault(part if plain else f"{part}@{name}", []).append(i)
    if taken := sorted({"all", *seeded_names()} & set(parts)):
        raise UsageError(
            f"{file}: a part must not be called {taken[0]}", hint="that name has a meaning for every data set"
        )
    return parts


def _deviations(file: Path, rows: list[tuple[int, list[str]]], place: int | None, width: float) -> Float32 | None:
    if place is None:
        return None
    texts = [(number, _cell(cells, place)) for number, cells in rows]
    found = np.array([number_in(text, file, number, "std") if text else np.nan for number, text in texts])
    return (found / width).astype(np.float32) if np.isfinite(found).any() else None


def _raters(file: Path, rows: list[tuple[int, list[str]]], place: int | None) -> int:
    """The mean number of raters, rounded."""
    if place is None:
        return 0
    texts = [(number, _cell(cells, place)) for number, cells in rows]
    found = [number_in(text, file, number, "raters") for number, text in texts if text]
    return round(float(np.mean(found))) if found else 0


def _cell(cells: list[str], place: int | None) -> str:
    return cells[place] if place is not None and place < len(cells) else ""

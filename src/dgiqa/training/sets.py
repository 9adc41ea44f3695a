"""The rated pictures of a run: each set of the recipe, parted into what is trained on and what validates."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dgiqa.datasets import Split, find_dataset, read_split
from dgiqa.datasets.card import FOLDER
from dgiqa.errors import UsageError
from dgiqa.training.recipe import DataSet, Plan, Validation
from dgiqa.types import Float32


@dataclass(frozen=True)
class Rated:
    """Some pictures of one set.

    Attributes:
        name: the set's.
        paths: of the pictures.
        mos: (n,) 0..1, higher is better.
        deviations: (n,) of the ratings, in the same units; NaN where unknown.
        targets: (n,) a teacher's scores; NaN where there is none.
    """

    name: str
    paths: tuple[Path, ...]
    mos: Float32
    deviations: Float32
    targets: Float32

    def __len__(self) -> int:
        return len(self.paths)

    def some(self, chosen: npt.NDArray[np.intp]) -> Rated:
        """Those at the indices ``chosen``."""
        paths = tuple(self.paths[i] for i in chosen)
        return Rated(self.name, paths, self.mos[chosen], self.deviations[chosen], self.targets[chosen])

    def sum(self) -> str:
        """16 hex digits that change with a name, a rating or a target."""
        columns = b"".join(column.tobytes() for column in (self.mos, self.deviations, self.targets))
        return hashlib.sha256("\n".join(path.name for path in self.paths).encode() + columns).hexdigest()[:16]


@dataclass(frozen=True)
class Parts:
    """One set's pictures: fitted and held out."""

    fitted: Rated
    held: Rated


def read_roots(texts: Iterable[str]) -> dict[str, Path]:
    """Folders by the sets' names, from ``--data NAME=DIR`` as typed.

    Raises:
        UsageError: one is of another form, or there is no such folder.
    """
    return dict(map(_named, texts))


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"--data {text}: not of the form NAME=DIR", hint="such as --data biq2021=BIQ2021")
    if not Path(folder).is_dir():
        raise UsageError(f"--data {text}: there is no folder {folder}")
    return name, Path(folder)


def read_sets(plan: Plan, roots: Mapping[str, Path], *, taught: bool = True) -> list[Parts]:
    """Every set of the plan, in its order.

    Args:
        roots: folders by the sets' names, from ``--data``; they go before the recipe's own.
        taught: with a teacher's scores, where the recipe names a file of them.

    Raises:
        UsageError: a set without a folder, a folder without a set, files that are missing, too few pictures.
    """
    keys = [part.key for part in plan.data]
    if unknown := [name for name in roots if name not in keys]:
        raise UsageError(f"--data {unknown[0]}: the recipe has no such set", hint=f"its sets: {', '.join(keys)}")
    parts = plan.data if taught else [replace(part, targets="") for part in plan.data]
    return [_read(plan, part, roots.get(part.key)) for part in parts]


def _read(plan: Plan, part: DataSet, root: Path | None) -> Parts:
    if root is None and not part.root:
        raise UsageError(f"where is the data set {part.key}?", hint=f"say --data {part.key}=FOLDER")
    folder = root or plan.place(part.root)
    dataset = str(plan.place(part.dataset)) if part.dataset.endswith(".csv") else part.dataset
    split = read_split(dataset, part.split, folder)
    rated = _rated(plan, part, split)
    if part.validation.split:
        held = _rated(plan, replace(part, targets=""), read_split(dataset, part.validation.split, folder))
        fitted_places = np.arange(len(rated))
    else:
        fitted_places, held_places = hold_out(plan, part.validation, split)
        held = rated.some(held_places)
    if part.pictures:
        order = np.random.default_rng([part.validation.seed, 1]).permutation(len(fitted_places))
        fitted_places = np.sort(fitted_places[order[: part.pictures]])
    if not len(fitted_places):
        raise UsageError(f"{part.key}: no picture is left to train on")
    return Parts(rated.some(fitted_places), held)


def hold_out(plan: Plan, validation: Validation, split: Split) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Indices of the fitted and of the held-out pictures, both sorted; the same for the same pictures and seed.

    Groups are held out whole, in a random order, as long as the share isn't reached.
    """
    groups = _groups(plan, validation, split)
    rng = np.random.default_rng(validation.seed)
    wanted = round(validation.share * len(groups))
    names, sizes = np.unique(groups, return_counts=True)
    order = rng.permutation(len(names))
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), wanted, side="left")) + 1] if wanted else order[:0]
    held = np.isin(groups, names[chosen])
    return np.flatnonzero(~held), np.flatnonzero(held)


def _groups(plan: Plan, validation: Validation, split: Split) -> npt.NDArray[np.intp]:
    """(n,) each picture's group, as a number."""
    n = len(split.paths)
    if validation.disjoint == "picture":
        return np.arange(n)
    if validation.disjoint == "reference":
        references = split.references or (None,) * n
        if all(reference is None for reference in references):
            raise UsageError(f"{split.dataset} names no reference pictures", hint="validation.disjoint = 'picture'")
        labels = [str(reference or path) for reference, path in zip(references, split.paths, strict=True)]
    else:
        known = read_column(_scenes(plan, validation, split), "group", split.paths)
        labels = [f"alone {i}" if group is None else group for i, group in enumerate(known)]
    numbers: npt.NDArray[np.intp] = np.unique(labels, return_inverse=True)[1]
    return numbers


def _scenes(plan: Plan, validation: Validation, split: Split) -> Path:
    if validation.groups:
        return plan.place(validation.groups)
    scenes = "" if split.dataset.endswith(".csv") else find_dataset(split.dataset).scenes
    if not scenes:
        raise UsageError(f"{split.dataset} names no scenes", hint="name a CSV file of them: validation.groups")
    return FOLDER / scenes


def _rated(plan: Plan, part: DataSet, split: Split) -> Rated:
    unknown = np.full(len(split.paths), np.nan, np.float32)
    targets = read_targets(plan.place(part.targets), split.paths) if part.targets else unknown
    deviations = unknown if split.deviations is None else split.deviations
    return Rated(part.key, tuple(split.paths), split.mos, deviations, targets)


def read_targets(file: Path, paths: Sequence[Path]) -> Float32:
    """(n,) the column ``target`` of a CSV file, in the order of ``paths``; NaN where it has none.

    Raises:
        UsageError: as :func:`read_column`, or a target is no number in 0..1.
    """
    try:
        targets = np.array([float(value or "nan") for value in read_column(file, "target", paths)], np.float32)
    except ValueError as error:
        raise UsageError(f"{file}: a target is no number ({error})") from error
    if outside := targets[(targets < 0) | (targets > 1)].tolist():
        raise UsageError(f"{file}: the target {outside[0]:g} isn't in 0..1", hint="bring them to the scale of MOS")
    return targets


def read_column(file: Path, column: str, paths: Sequence[Path]) -> list[str | None]:
    """What a CSV file with columns ``path`` and ``column`` says of each picture; None where it says nothing.

    A row is of the picture whose path ends as the row's does; failing that, of the one of that file name, if no other
    row or picture has it.

    Raises:
        UsageError: the file can't be read, lacks a column, or names none of the pictures.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file}: can't be read ({error})") from error
    if not rows or not {"path", column} <= rows[0].keys():
        raise UsageError(f"{file}: has no columns path and {column}, or no rows")
    known = {Path(row["path"]).as_posix(): row[column] for row in rows}
    named, pictures = Counter(Path(row["path"]).name for row in rows), Counter(path.name for path in paths)
    alone = {name: row[column] for row in rows if named[name := Path(row["path"]).name] == pictures[name] == 1}
    found = [_of(path, known, alone) for path in paths]
    if all(value is None for value in found):
        raise UsageError(f"{file}: names none of the {len(paths)} pictures, such as {paths[0].name}")
    return found


def _of(path: Path, known: Mapping[str, str], alone: Mapping[str, str]) -> str | None:
    whole = path.as_posix()
    ends = [whole, *("/".join(path.parts[i:]) for i in range(1, len(path.parts)))]
    return next((known[end] for end in ends if end in known), alone.get(path.name))

"""A part of a data set, and the ten seeded splits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dgiqa.types import Float32

#: How many seeded splits there are, and the share of their test part.
SEEDS, TEST_SHARE = 10, 0.2

_SEEDED = re.compile(r"(train|test)-([0-9])")


@dataclass(frozen=True)
class Split:
    """One part of a set; every column has one entry a picture, in the order of the set's own list.

    Attributes:
        dataset, split: their names.
        paths: of the pictures.
        mos: (n,) mean opinion, scaled to 0..1, higher is better.
        subsets: each picture's subset, empty where the set has none.
        distortions: each picture's kind of distortion, empty where the set names none; () if nobody asked.
        references: each picture's pristine original; () where the set names none.
        deviations: (n,) standard deviations of the single ratings, in the units of ``mos``; None where unknown.
        raters: how many people rated each picture; 0 where unknown.
    """

    dataset: str
    split: str
    paths: tuple[Path, ...]
    mos: Float32
    subsets: tuple[str, ...]
    distortions: tuple[str, ...] = ()
    references: tuple[Path | None, ...] = ()
    deviations: Float32 | None = None
    raters: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def has_originals(self) -> bool:
        """Whether each picture's pristine original is known."""
        return bool(self.references) and None not in self.references

    def some(self, split: str, chosen: npt.NDArray[np.intp]) -> Split:
        """The pictures at the indices ``chosen``, as the part ``split``."""
        columns: dict[str, Any] = {
            field.name: value[chosen] if isinstance(value, np.ndarray) else tuple(value[i] for i in chosen)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), (tuple, np.ndarray)) and len(value)
        }
        return dataclasses.replace(self, split=split, **columns)


def seeded_names() -> list[str]:
    """The names of the seeded parts."""
    return [f"{part}-{seed}" for seed in range(SEEDS) for part in ("train", "test")]


def seeded(split: str, groups: Sequence[str]) -> npt.NDArray[np.intp] | None:
    """Indices of a seeded part, sorted; None if ``split`` names none.

    Groups (each picture's reference, or the picture itself) go to one side whole. Sorted by name they are taken in an
    order drawn by the seed alone, so the parts are the same on every machine. The test part is the first fifth of the
    groups, rounded, and at least one.

    Args:
        groups: (n,) each picture's group.
    """
    found = _SEEDED.fullmatch(split)
    if found is None:
        return None
    names = sorted(set(groups))
    order = np.random.default_rng(int(found[2])).permutation(len(names))
    tested = {names[i] for i in order[: max(1, round(TEST_SHARE * len(names)))]}
    wanted = found[1] == "test"
    return np.array([i for i, group in enumerate(groups) if (group in tested) == wanted], np.intp)

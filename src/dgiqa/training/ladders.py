"""Ladders: pictures spoiled by a known fault in rising severity, for ranking.

Ratings of photographs don't teach what plain noise does, since in photographs it comes with everything else. A
picture and its spoiled versions need no rating: more of a fault is worse (Liu et al., "RankIQA", arXiv:1707.08347).
A ladder has three rungs: the picture as it is, and two severities of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgiqa.errors import UsageError
from dgiqa.training.pictures import Fault
from dgiqa.training.recipe import Ladders

#: Sets the ladders' random numbers apart from those of the batches.
_STREAM = 10_000


@dataclass(frozen=True)
class Rung:
    """A picture with a fault (severity 0: none), and where it is cut, 0..1 down and right.

    ``index`` is its place among the pictures ``others``.
    """

    path: Path
    fault: Fault
    corner: tuple[float, float]
    others: Sequence[Path]
    index: int


class LadderMaker:
    """Draws pairs: two rungs of a ladder, cut at the same place."""

    def __init__(self, plan: Ladders, paths: Sequence[Path], seed: int, unrated: Sequence[Path] = ()) -> None:
        """``paths`` are spoiled, and in ``plan.share`` of the ladders ``unrated``, if there are any."""
        if not paths:
            raise UsageError("ladders: there are no pictures to spoil")
        self._plan, self._paths, self._seed, self._unrated = plan, paths, seed, unrated
        shares = plan.shares()
        self._kinds, self._chances = list(shares), list(shares.values())

    def pair(self, number: int) -> tuple[Rung, Rung]:
        """The pair of that number, counted from 0 over the run: the better rung, the worse rung."""
        rng = np.random.default_rng([self._seed, _STREAM, number])
        ladder = int(rng.integers(self._plan.pool)) if self._plan.pool else number
        paths, index, kind, severities = self._ladder(ladder)
        first, second = np.sort(rng.choice(len(severities), 2, replace=False))
        corner = (float(rng.random()), float(rng.random()))
        better, worse = (
            Rung(paths[index], Fault(kind, severities[k], ladder), corner, paths, index) for k in (first, second)
        )
        return better, worse

    def whole(self, count: int) -> list[tuple[Rung, ...]]:
        """The first ``count`` ladders, each with all its rungs, the unspoiled one first."""
        found = []
        for ladder in range(count):
            paths, index, kind, severities = self._ladder(ladder)
            faults = [Fault(kind, severity, ladder) for severity in severities]
            found.append(tuple(Rung(paths[index], fault, (0.0, 0.0), paths, index) for fault in faults))
        return found

    def _ladder(self, ladder: int) -> tuple[Sequence[Path], int, str, list[int]]:
        """Pictures and the place of its own among them, kind and rising severities of a ladder: as in every run."""
        rng = np.random.default_rng([_STREAM, ladder])
        index = int(rng.integers(len(self._paths)))
        kind = str(rng.choice(self._kinds, p=self._chances))
        count = min(2, len(self._plan.severities))
        severities = rng.choice(self._plan.severities, count, replace=False)
        paths = self._paths
        # Drawn last, so that the other ladders stay what they were.
        if self._unrated and rng.random() < self._plan.share:
            paths, index = self._unrated, int(rng.integers(len(self._unrated)))
        return paths, index, kind, [0, *sorted(map(int, severities))]

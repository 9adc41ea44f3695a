"""What is seen at each step: a function of the seed and the step alone, whatever the threads and processes do.

Each set gives every batch the same number of pictures, and passes through its own in a new order each time. Crops
and mirror images depend on the seed, the set and how many pictures of it came before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dgiqa.errors import UsageError
from dgiqa.imaging.resize import resize
from dgiqa.stream import in_order
from dgiqa.training.ladders import LadderMaker, Rung
from dgiqa.training.pictures import Pictures, Seen
from dgiqa.training.recipe import CELL, Plan
from dgiqa.training.sets import Rated
from dgiqa.types import Float32, UInt8

Int = npt.NDArray[np.intp]

#: What stands for depth where it is constant: the middle.
CONSTANT_DEPTH = 128


@dataclass(frozen=True)
class Group:
    """Pictures of one shape: their ``places`` in the batch, (m, H, W, 3) colour, (m, H, W) depth or None.

    Where the network's first stages are kept, what they make of it stands in colour's place.
    """

    places: Int
    color: Seen
    depth: UInt8 | None


@dataclass(frozen=True)
class Batch:
    """One part of a step (all of it unless gradients accumulate).

    Every process has the columns of the whole part, and the pictures of its own share. Rated pictures stand first,
    then the better and then the worse pictures of the ladders' pairs.

    Attributes:
        groups: this process's pictures.
        owner: (n,) the set of each rated picture.
        mos, deviations, targets: (n,), see :class:`dgiqa.training.sets.Rated`.
        steps: (p,) steps of severity between the pictures of each pair.
    """

    groups: tuple[Group, ...]
    owner: Int
    mos: Float32
    deviations: Float32
    targets: Float32
    steps: Float32

    @property
    def size(self) -> int:
        """Rows of all processes: n + 2 p."""
        return len(self.mos) + 2 * len(self.steps)


class Batches:
    """Makes the batches of one process among ``ranks``.

    Attributes:
        pictures: as they are trained on.
        scored: as scoring sees them, for held-out ones.
    """

    def __init__(
        self,
        plan: Plan,
        sets: Sequence[Rated],
        pictures: Pictures,
        ladders: LadderMaker | None,
        rank: int,
        ranks: int,
        scored: Pictures | None = None,
    ) -> None:
        self.plan, self.sets, self.pictures, self._ladders = plan, sets, pictures, ladders
        self.scored = scored or pictures
        self._rank, self._ranks = rank, ranks
        self.counts = share_out(plan, [len(rated) for rated in sets])
        self.steps_per_epoch = max(1, sum(map(len, sets)) // plan.train.batch)
        epochs = plan.train.epochs
        self.total = plan.train.steps or (max(1, round(epochs * self.steps_per_epoch)) if epochs else 0)
        if plan.train.batch // plan.train.accumulate < ranks:
            raise UsageError(
                f"{ranks} processes share {plan.train.batch // plan.train.accumulate} pictures a step",
                hint="fewer processes, or a larger train.batch",
            )

    def of_step(self, step: int) -> list[Batch]:
        """The parts of one step, in order; this process's pictures only. Steps count from 0."""
        slots = [
            (owner, step * count + i) for owner, count in enumerate(self.counts) for i in range(count)
        ]  # (set, how many of the set came before)
        pairs = self._pairs(step)
        parts, side = self.plan.train.accumulate, self._side(step)
        return [self._part(slots[part::parts], pairs[part::parts], side) for part in range(parts)]

    def ahead(self, first: int) -> Generator[tuple[int, list[Batch]]]:
        """Steps ``first`` to the last, read ahead by the plan's workers."""
        with closing(
            in_order(self.of_step, range(first, self.total), self.plan.train.workers, background=True)
        ) as parts:
            yield from enumerate(parts, first)

    def _side(self, step: int) -> int:
        """Side of the crops in a step; 0 for whole pictures."""
        return self.plan.crop if step < (1 - self.plan.train.whole) * self.total else 0

    def _pairs(self, step: int) -> list[tuple[Rung, Rung]]:
        ladders = self.plan.ladders
        if self._ladders is None or step < ladders.start * self.total:
            return []
        return [self._ladders.pair(step * ladders.pairs + k) for k in range(ladders.pairs)]

    def _part(self, slots: Sequence[tuple[int, int]], pairs: Sequence[tuple[Rung, Rung]], side: int) -> Batch:
        chosen = [(owner, self._index(owner, before)) for owner, before in slots]
        loaders: list[Callable[[], tuple[Seen, UInt8 | None]]] = [
            lambda owner=owner, before=before, i=i: self._rated(owner, before, i, side)  # type: ignore[misc]
            for (owner, before), (_, i) in zip(slots, chosen, strict=True)
        ]
        for end in (0, 1):
            loaders += [lambda rung=pair[end]: self._rung(rung, side) for pair in pairs]  # type: ignore[misc]
        mine = np.arange(len(loaders))[self._rank :: self._ranks]
        mos, deviations, targets = (
            np.array([getattr(self.sets[owner], name)[i] for owner, i in chosen], np.float32)
            for name in ("mos", "deviations", "targets")
        )
        steps = np.array([worse.fault.severity - better.fault.severity for better, worse in pairs], np.float32)
        groups = grouped(mine, [loaders[place]() for place in mine])
        owners = np.array([owner for owner, _ in chosen], np.intp)
        return Batch(groups, owners, mos, deviations, targets, steps)

    def _index(self, owner: int, before: int) -> int:
        """Which picture of a set comes after ``before`` others."""
        epoch, place = divmod(before, len(self.sets[owner]))
        return int(_order(self.plan.train.seed, owner, epoch, len(self.sets[owner]))[place])

    def _rated(self, owner: int, before: int, i: int, side: int) -> tuple[Seen, UInt8 | None]:
        train, rated = self.plan.train, self.sets[owner]
        color, depth = self.pictures.see(rated.paths[i])
        depth = self.control(self.pictures, depth, rated.paths, i)
        rng = np.random.default_rng([train.seed, owner, before])
        corner = rng.random(2)
        color, depth = cut(color, depth, side, corner)
        if train.flip and rng.random() < 0.5:
            color, depth = color[:, ::-1], None if depth is None else depth[:, ::-1]
        return color, depth

    def _rung(self, rung: Rung, side: int) -> tuple[Seen, UInt8 | None]:
        color, depth = self.pictures.see(rung.path, rung.fault)
        depth = self.control(self.pictures, depth, rung.others, rung.index)
        return cut(color, depth, side, np.array(rung.corner))

    def control(self, pictures: Pictures, depth: UInt8 | None, paths: Sequence[Path], i: int) -> UInt8 | None:
        """The depth that the plan wants the network to see for picture ``i`` of ``paths``; of the same size."""
        how = self.plan.train.depth
        if depth is None or how == "own":
            return depth
        if how == "constant":
            return np.full_like(depth, CONSTANT_DEPTH)
        other = pictures.see(paths[_another(i, len(paths))])[1]
        if other is None:
            raise ValueError("one picture has depth and another has none")
        return resize(other, depth.shape[1], depth.shape[0], "bilinear")


def share_out(plan: Plan, sizes: Sequence[int]) -> list[int]:
    """Pictures of each set in a batch: shares of weight × size, rounded to the batch by largest remainders."""
    batch = plan.train.batch
    weights = np.array([part.weight * size for part, size in zip(plan.data, sizes, strict=True)])
    exact = batch * weights / weights.sum()
    counts = np.floor(exact).astype(int)
    for i in np.argsort(counts - exact, kind="stable")[: batch - counts.sum()]:
        counts[i] += 1
    if not counts.all():
        missing = plan.data[int(np.argmin(counts))].key
        raise UsageError(
            f"the set {missing} has no place in a batch of {batch}",
            hint="give it a larger weight, or take a larger train.batch",
        )
    found: list[int] = counts.tolist()
    return found


def grouped(places: Int, seen: Sequence[tuple[Seen, UInt8 | None]]) -> tuple[Group, ...]:
    """Pictures stacked by shape; each remembers its place."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for k, (color, _) in enumerate(seen):
        shapes.setdefault(color.shape, []).append(k)
    groups = []
    for members in shapes.values():
        depths = [depth for depth in (seen[k][1] for k in members) if depth is not None]
        color = np.stack([seen[k][0] for k in members])
        groups.append(Group(places[members], color, np.stack(depths) if depths else None))
    return tuple(groups)


def cut(color: Seen, depth: UInt8 | None, side: int, corner: npt.NDArray[np.float64]) -> tuple[Seen, UInt8 | None]:
    """A square of ``side`` pixels at ``corner`` (down and right, each 0..1 of the way); all of it for a side of 0.

    What first stages say, (C, h, w) float16 on cells of :data:`CELL` pixels, is cut by whole cells.
    """
    if not side:
        return color, depth
    cell = CELL if color.dtype == np.float16 else 1
    height, width = color.shape[:2] if cell == 1 else color.shape[1:]
    cells = side // cell
    top, left = int(corner[0] * (height - cells + 1)), int(corner[1] * (width - cells + 1))
    box = slice(top, top + cells), slice(left, left + cells)
    wide = slice(top * cell, top * cell + side), slice(left * cell, left * cell + side)
    return color[box] if cell == 1 else color[:, *box], None if depth is None else depth[wide]


@lru_cache(maxsize=64)
def _order(seed: int, owner: int, epoch: int, n: int) -> Int:
    return np.random.default_rng([seed, owner, epoch]).permutation(n)


@lru_cache(maxsize=8)
def _derangement(n: int) -> Int:
    """Each picture's partner in one random ring: another picture, unless it is the only one."""
    order = np.random.default_rng(17).permutation(n)
    partner = np.empty(n, np.intp)
    partner[order] = np.roll(order, 1)
    return partner


def _another(i: int, n: int) -> int:
    return int(_derangement(n)[i])

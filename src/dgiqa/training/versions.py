"""Spoiled versions of good photographs, and which of two is nearer to the original: judgements without people.

Each photograph that its raters liked gets versions of some kinds of distortion, two severities of each. Of two versions
one is nearer to the original, and what says so is, in this order:

- ``same kind``: the severity. The random pattern is the same, only its strength differs.
- ``severities apart``: of two kinds, the severity too, where it differs by three or more of five.
- ``teachers``: otherwise FSIM and VIF; where they disagree, neither is nearer.

The first two know nothing of any measure, so measures can be compared on them; on the third FSIM and VIF can't.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from dgiqa.distortions import KINDS, SEVERITIES, distort, uses_depth
from dgiqa.models.full_reference import fsim, psnr, ssim, vif
from dgiqa.training.small import Array, Int, Study
from dgiqa.types import Float32, UInt8

#: Kinds that nothing is trained on, for the report; their relatives jpeg, blur and shake are.
UNSEEN = ("jpeg2000", "motion")
#: Kinds that are trained on: of those that need no depth.
SEEN = tuple(kind for kind in KINDS if kind not in UNSEEN and not uses_depth(kind))
#: MOS from which a photograph is good enough for an original.
GOOD = 0.75
#: From this difference on, severities of different kinds are compared.
APART = 3
#: Columns of the measures, all higher for nearer.
MEASURES = ("PSNR", "SSIM", "FSIM", "VIF")
SORTS = ("same kind", "severities apart", "teachers")


@dataclass(frozen=True)
class Version:
    """One spoiled version: what :func:`dgiqa.distortions.distort` takes."""

    kind: str
    severity: int
    seed: int

    def of(self, original: UInt8) -> UInt8:
        """(H, W, 3) uint8 like the original."""
        return distort(original, self.kind, self.severity, seed=self.seed)


@dataclass(frozen=True)
class Pairs:
    """Judged pairs of versions.

    Attributes:
        original, a, b: (m,) the photograph's place and its two versions' places.
        nearer: (m,) 1 where b is nearer to the original, 0 where a is, one half where it isn't known.
        sort: (m,) index into :data:`SORTS`.
        unseen: (m,) whether one of the two is of a kind that nothing is trained on.
    """

    original: Int
    a: Int
    b: Int
    nearer: Float32
    sort: Int
    unseen: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.nearer)


class Versions:
    """Good photographs with their versions; what is computed of them is kept on disk, as a :class:`Study` does.

    Attributes:
        originals: the photographs.
        drawn: of each its versions, the same in every run.
    """

    def __init__(self, study: Study, places: Int, *, most: int, unseen: bool = False) -> None:
        """The first ``most`` good ones of ``places``; with ``unseen`` each gets the kinds of UNSEEN as well."""
        good = places[study.mos[places] >= GOOD][:most]
        self.originals = study.some(good)
        self.drawn = tuple(draw(path.name, UNSEEN if unseen else ()) for path in self.originals.paths)
        self._key = hashlib.sha256(repr(self.drawn).encode()).hexdigest()[:12]

    def features(self, name: str, compute: Callable[[UInt8], Array]) -> Array:
        """(n, …) float16: ``compute`` of each photograph's original and versions, (1 + versions, 384, 384, 3)."""
        return self.originals.once(f"{name}-{self._key}", lambda i: compute(self._pixels(i)))

    @cached_property
    def measures(self) -> Float32:
        """(n, versions, 4) of MEASURES; similarities as what they lack to 1, negated, which 16 bits hold finely."""
        return np.asarray(self.features("measures", _measure), np.float32)

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of versions of one photograph."""
        rows = [
            (i, a, b, *judge(drawn[a], drawn[b], self.measures[i, a], self.measures[i, b]), drawn[a], drawn[b])
            for i, drawn in enumerate(self.drawn)
            for a, b in combinations(range(len(drawn)), 2)
        ]
        original, a, b, nearer, sort = (np.array([row[k] for row in rows]) for k in range(5))
        unseen = np.array([any(version.kind in UNSEEN for version in row[5:]) for row in rows])
        return Pairs(original, a, b, nearer.astype(np.float32), sort, unseen)

    def _pixels(self, i: int) -> UInt8:
        original = self.originals.pixels(i)
        return np.stack([original, *(version.of(original) for version in self.drawn[i])])


def draw(name: str, always: tuple[str, ...] = (), kinds: int = 3) -> tuple[Version, ...]:
    """Two severities of each of some kinds, for the picture of that file name; those of ``always`` come last."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    chosen = [*map(str, rng.choice(SEEN, kinds, replace=False)), *always]
    versions = []
    for kind in chosen:
        seed = int(rng.integers(2**31))
        versions += [Version(kind, int(s), seed) for s in rng.choice(SEVERITIES, 2, replace=False)]
    return tuple(versions)


def judge(a: Version, b: Version, of_a: Float32, of_b: Float32) -> tuple[float, int]:
    """1 where b is nearer to the original, 0 where a is, one half where it isn't known; and what says so, of SORTS."""
    if a.kind == b.kind:
        return float(b.severity < a.severity), 0
    if abs(a.severity - b.severity) >= APART:
        return float(b.severity < a.severity), 1
    votes = [float(of_b[k] > of_a[k]) for k in (MEASURES.index("FSIM"), MEASURES.index("VIF"))]
    return sum(votes) / len(votes), 2


def two_alternatives(a: Float32, b: Float32, nearer: Float32) -> float:
    """How much of the judges agrees with scores, higher for nearer; equal scores get half (2AFC, arXiv:1801.03924).

    Shapes: (m,) each; ``nearer`` is the share of judges who find b nearer. Returns 0..1.
    """
    return float(np.where(a == b, 0.5, np.where(b > a, nearer, 1 - nearer)).mean())


def report(versions: Versions, scores: Float32, name: str) -> str:
    """A table of 2AFC: this network's ``scores`` (n, versions) and the measures', by sort and by kinds.

    Teachers don't judge themselves: there FSIM and VIF have no figure.
    """
    pairs = versions.pairs
    columns = {name: scores} | {measure: versions.measures[..., k] for k, measure in enumerate(MEASURES)}
    lines = [f"{'2AFC, %':<38}{'pairs':>7}" + "".join(f"{column:>9}" for column in columns)]
    for unseen, kinds in ((False, "kinds trained on"), (True, f"with {' or '.join(UNSEEN)}")):
        for number, sort in enumerate(SORTS):
            chosen = (pairs.unseen == unseen) & (pairs.sort == number) & (pairs.nearer != 0.5)
            if not chosen.any():
                continue
            i, a, b = (column[chosen] for column in (pairs.original, pairs.a, pairs.b))
            figures = [
                f"{'-':>9}"
                if sort == "teachers" and column in ("FSIM", "VIF")
                else f"{100 * two_alternatives(values[i, a], values[i, b], pairs.nearer[chosen]):9.1f}"
                for column, values in columns.items()
            ]
            lines.append(f"{sort + ', ' + kinds:<38}{chosen.sum():7d}" + "".join(figures))
    return "\n".join(lines)


def _measure(pictures: UInt8) -> Array:
    """(versions, 4) of MEASURES, of the versions against the original before them."""
    original = pictures[0]
    rows = [[psnr.compare(p, original), *(m.compare(p, original) - 1 for m in (ssim, fsim, vif))] for p in pictures[1:]]
    return np.array(rows, np.float32)

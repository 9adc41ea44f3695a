"""Two models, or two versions of one, on the same pictures: how far they agree, and where they don't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dgiqa.errors import UsageError
from dgiqa.metrics.correlation import bootstrap_interval, krcc, plcc, ranks, srcc
from dgiqa.reports.rows import Row

#: Pictures that both models must have scored.
FEWEST = 3

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """A correlation of the two models' qualities, with its bootstrap 95 % interval over pictures."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Moved:
    """A picture in both. Ranks count from 1, the best; equal qualities share the mean of their ranks."""

    path: str
    quality_a: float
    quality_b: float
    rank_a: float
    rank_b: float


@dataclass(frozen=True)
class Comparison:
    """Two models' rows of the same pictures.

    Attributes:
        a, b: the models.
        n: pictures that both scored.
        only_a, only_b: pictures that only one has scored; the other has none, or a failed row.
        srcc, krcc, plcc: agreement; None where one model gives every picture the same quality.
        shift, mean_change, largest_change: of quality, b minus a, in points of 100; the latter two absolute.
        best_kept: share of a's best tenth (at least one picture) that is in b's best tenth.
        moved: pictures whose rank changed most, most first; of equal ones, those whose quality did.
    """

    a: str
    b: str
    n: int
    only_a: int
    only_b: int
    srcc: Agreement | None
    krcc: Agreement | None
    plcc: Agreement | None
    shift: float
    mean_change: float
    largest_change: float
    best_kept: float
    moved: tuple[Moved, ...]


def compare(a: str, rows_a: Sequence[Row], b: str, rows_b: Sequence[Row], *, most: int = 10) -> Comparison:
    """What the rows of model ``a`` and those of model ``b`` say of the same paths.

    Args:
        most: how many of the pictures that moved are kept.

    Raises:
        UsageError: fewer than FEWEST pictures are scored by both.
    """
    of_a, of_b = _scored(rows_a), _scored(rows_b)
    paths = [path for path in of_a if path in of_b]
    if len(paths) < FEWEST:
        raise UsageError(
            f"{len(paths)} pictures are scored by both, {len(of_a)} by {a} and {len(of_b)} by {b}; {FEWEST} are needed",
            hint="pictures are matched by their path as it was given: score the same folder from the same place",
        )
    x, y = (np.array([of[path] for path in paths]) for of in (of_a, of_b))
    rank_x, rank_y = ranks(-x), ranks(-y)
    order = sorted(range(len(paths)), key=lambda i: (-abs(rank_x[i] - rank_y[i]), -abs(x[i] - y[i]), paths[i]))
    change, tenth = y - x, max(1, len(paths) // 10)
    best_x, best_y = (of >= np.sort(of)[-tenth] for of in (x, y))  # more than a tenth where the last of it ties
    return Comparison(
        a,
        b,
        len(paths),
        len(of_a) - len(paths),
        len(of_b) - len(paths),
        srcc=_agreement(srcc, x, y),
        krcc=_agreement(krcc, x, y),
        plcc=_agreement(plcc, x, y),
        shift=float(change.mean()),
        mean_change=float(np.abs(change).mean()),
        largest_change=float(np.abs(change).max()),
        best_kept=float(best_y[best_x].mean()),
        moved=tuple(
            Moved(paths[i], float(x[i]), float(y[i]), float(rank_x[i]), float(rank_y[i])) for i in order[:most]
        ),
    )


def _scored(rows: Sequence[Row]) -> dict[str, float]:
    """Quality by path; of a path that comes twice, the last."""
    return {str(row["path"]): float(row["quality"]) for row in rows if row["quality"] is not None}


def _agreement(metric: Callable[[Float64, Float64], float], x: Float64, y: Float64) -> Agreement | None:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    low, high = bootstrap_interval(metric, x, y, samples=1000)
    return Agreement(float(metric(x, y)), low, high)

"""Which pairs of pictures a model tells apart, among those that people tell apart.

Krasula, Fliegel, Le Callet, Klíma, "On the accuracy of objective image and video quality models: New methodology for
performance evaluation", QoMEX 2016. No curve is fitted, and no model is asked for what the ratings don't know: a pair
of pictures is *different* when its MOS differ by more than the raters' spread explains, else *similar*.

    different or similar   does the size of the difference of scores separate different pairs from similar ones?   AUC
    better or worse        do its sign and size say which picture of a different pair is the better one?           AUC
    correct                share of the different pairs that the model orders as people do (the paper's C₀)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dgiqa.metrics.correlation import check_columns, ranks

Int64 = npt.NDArray[np.int64]

#: With more pairs than this, so many are drawn instead: an AUC then has a standard error of about 0.0005.
MOST_PAIRS = 2_000_000
#: Φ(1.644854) = 0.95: a pair is different where Φ(|z|) >= 0.95 (ITU-T J.149, as the paper has it).
Z_DIFFERENT = 1.6448536269514722


@dataclass(frozen=True, kw_only=True)
class Discrimination:
    """What :func:`discriminate` found.

    Attributes:
        different_similar: AUC, 0.5 for chance; None without pairs of both kinds.
        better_worse: AUC, 0.5 for chance; None without different pairs.
        correct: 0..1; a pair of equal scores is not correct; None without different pairs.
        pairs: looked at; ``different`` of them people tell apart.
        drawn: whether the pairs are a random sample of all.
        seed: of the draw.
    """

    different_similar: float | None = None
    better_worse: float | None = None
    correct: float | None = None
    pairs: int
    different: int
    drawn: bool = False
    seed: int = 0


def discriminate(
    scores: npt.ArrayLike,
    mos: npt.ArrayLike,
    deviations: npt.ArrayLike,
    raters: int,
    *,
    most_pairs: int = MOST_PAIRS,
    seed: int = 0,
) -> Discrimination:
    """How well ``scores`` (n,) separate the pairs that people separate.

    The difference of two MOS has z = (m₁ − m₂) / √(s₁²/N + s₂²/N); pairs of Φ(|z|) >= 0.95 are different.

    Args:
        scores: higher is better, in any unit.
        mos: (n,) mean opinions, higher is better.
        deviations: (n,) standard deviations of the single ratings, in the unit of ``mos``.
        raters: N, ratings a picture.
        most_pairs: with more pairs than these, so many are drawn (with replacement) by ``seed``.

    Raises:
        ValueError: as :func:`dgiqa.metrics.correlation.srcc` does; a deviation that is negative; raters below 1.
    """
    x, y = check_columns(scores, mos, varied=False)
    s = check_columns(deviations, y, varied=False)[0]
    if raters < 1 or (s < 0).any():
        raise ValueError(
            f"raters must be positive and deviations not negative, not {raters} raters and a deviation of {s.min():g}"
        )
    drawn = math.comb(len(x), 2) > most_pairs
    i, j = _draw_pairs(len(x), most_pairs, seed) if drawn else np.triu_indices(len(x), 1)
    apart = y[i] - y[j]
    # Compared without dividing: two pictures of which all raters say the same have no error at all.
    different = (np.abs(apart) >= Z_DIFFERENT * np.sqrt((s[i] ** 2 + s[j] ** 2) / raters)) & (apart != 0)
    scored = x[i] - x[j]
    better = (scored * np.sign(apart))[different]
    return Discrimination(
        different_similar=auc(np.abs(scored[different]), np.abs(scored[~different])),
        better_worse=auc(better, -better),
        correct=float(np.mean(better > 0)) if len(better) else None,
        pairs=len(i),
        different=len(better),
        drawn=drawn,
        seed=seed,
    )


def auc(high: npt.ArrayLike, low: npt.ArrayLike) -> float | None:
    """The area under the ROC curve: how often a value of ``high`` exceeds one of ``low``, a tie counting half.

    Exact, from the ranks of all (Mann and Whitney, Annals of Mathematical Statistics 18, 1947). None if one is empty.
    """
    a, b = np.asarray(high, np.float64), np.asarray(low, np.float64)
    if not len(a) or not len(b):
        return None
    above = float(ranks(np.concatenate([a, b]))[: len(a)].sum()) - len(a) * (len(a) + 1) / 2
    return above / len(a) / len(b)


def _draw_pairs(n: int, count: int, seed: int) -> tuple[Int64, Int64]:
    """Pairs of unequal indices, all equally likely."""
    random = np.random.default_rng(seed)
    first = random.integers(0, n, count)
    return first, (first + random.integers(1, n, count)) % n

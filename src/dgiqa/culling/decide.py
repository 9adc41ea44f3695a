"""A verdict on each picture, with its reason: thresholds on quality, and the best of those that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Verdict = Literal["keep", "review", "reject"]
VERDICTS: tuple[Verdict, ...] = ("keep", "review", "reject")


@dataclass(frozen=True)
class Rules:
    """What is kept and rejected; what lies between is to be reviewed.

    Attributes:
        keep, reject: qualities of 0..100: kept from ``keep`` on, rejected below ``reject``.
        margin: of pictures that are alike those within so many points of the best are reviewed, the others rejected.
    """

    keep: float
    reject: float
    margin: float = 2.0


@dataclass(frozen=True)
class Decision:
    """``group`` counts from 1 the pictures that are alike, None for one by itself; ``best`` is the best of a group."""

    path: str
    verdict: Verdict
    reason: str
    quality: float | None
    group: int | None = None
    best: bool = False


def by_share(qualities: Sequence[float], best: float, worst: float, margin: float) -> Rules:
    """Rules that keep the ``best`` and reject the ``worst`` shares (0..1) of pictures with these qualities."""
    if not qualities:
        return Rules(np.inf, -np.inf, margin)
    keep = np.quantile(qualities, 1 - best, method="higher") if best else np.inf
    reject = np.quantile(qualities, worst, method="higher") if worst else -np.inf
    return Rules(float(keep), float(reject), margin)


def decide(rows: Sequence[dict[str, Any]], groups: Sequence[Sequence[int]], rules: Rules) -> list[Decision]:
    """A decision for each row, in their order.

    Args:
        rows: rows of scores.
        groups: indices of rows that are alike; see :func:`dgiqa.culling.alike.groups`.
    """
    found = [_alone(row, rules) for row in rows]
    for number, members in enumerate(groups, 1):
        scored = [i for i in members if rows[i]["quality"] is not None]
        if not scored:
            continue
        best = max(scored, key=lambda i: (rows[i]["quality"], -i))
        for i in members:
            found[i] = _in_group(found[i], rows[best], number, i == best, len(members), rules)
    return found


def _alone(row: dict[str, Any], rules: Rules) -> Decision:
    path, quality = str(row["path"]), row["quality"]
    if quality is None:
        return Decision(path, "review", f"not scored: {row['error']}", None)
    if quality >= rules.keep:
        return Decision(path, "keep", f"quality {quality:.1f}, {rules.keep:.1f} or more", quality)
    if quality < rules.reject:
        return Decision(path, "reject", f"quality {quality:.1f}, under {rules.reject:.1f}", quality)
    return Decision(path, "review", f"quality {quality:.1f}, in between", quality)


def _in_group(alone: Decision, best: dict[str, Any], number: int, is_best: bool, count: int, rules: Rules) -> Decision:
    if alone.quality is None:
        return Decision(alone.path, alone.verdict, alone.reason, None, number)
    if is_best:
        return Decision(
            alone.path, alone.verdict, f"{alone.reason}; best of {count} alike", alone.quality, number, True
        )
    behind = best["quality"] - alone.quality
    better = f"one of {count} alike, {behind:.1f} behind the best, {best['path']}"
    if behind > rules.margin or alone.verdict == "reject":
        return Decision(alone.path, "reject", better, alone.quality, number)
    return Decision(alone.path, "review", better, alone.quality, number)

"""Fit a model's 0 to 100 to ratings of your own, with a 90 % interval, and write a card of your own.

    dgiqa calibrate --on ratings.csv --root pictures/ --out mine.toml
    dgiqa score holiday/ --model mine.toml

The network stays as it is, and so does the order of its scores: what changes is which number stands for which
quality, and how far a picture's mean opinion may lie from it. ratings.csv has the columns path,mos; 200 pictures
take less than a minute. Rated pictures must be new to the network, or the interval comes out too narrow.

Exit code 0: the card is written; 1: it is, but some pictures could not be read; 2: misused, or no card.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dgiqa.calibration import LEAST, Fit, calibrate, check_place, cross_validate, measure, write_own_card
from dgiqa.calibration.curve import Float64
from dgiqa.cards import Coverage, Measured
from dgiqa.cli._output import watch
from dgiqa.datasets import Split, read_split
from dgiqa.errors import UsageError
from dgiqa.evaluation.agreement import FEWEST
from dgiqa.metrics.correlation import bootstrap_interval, plcc, rmse, srcc
from dgiqa.scorer import Scorer, load
from dgiqa.types import Score

Ints = npt.NDArray[np.intp]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", default="default", metavar="MODEL", help="a card's name or file")
    parser.add_argument("--on", required=True, metavar="RATINGS", help="a data set's name, or a CSV file with path,mos")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the pictures lie (default: the CSV's folder)")
    parser.add_argument("--split", metavar="NAME", help="default: train of a data set, all of a CSV file")
    parser.add_argument("--lower-is-better", action="store_true", help="the ratings of a CSV file are DMOS")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the card to write, such as mine.toml")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--folds", type=int, default=5, metavar="N", help="measure by N-fold cross-validation (default 5)")
    how.add_argument("--test-share", type=float, metavar="S", help="measure on this share of the pictures, kept aside")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random splits (default 0)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads (default 2)")


def run(args: argparse.Namespace) -> int:
    if args.workers < 1 or args.seed < 0:
        raise UsageError("--workers must be positive, --seed not negative")
    if args.test_share is not None and not 0 < args.test_share < 1:
        raise UsageError(f"--test-share {args.test_share:g}: give a share between 0 and 1, such as 0.25")
    split = _read(args)
    scorer = load(args.model, None)
    check_place(args.out, scorer.card)
    rated = _score(scorer, split, args.workers)
    what = f"{split.dataset}, {split.split}"
    fit, tested, judged, how = _fit(rated, args, f"{what}, {len(rated)} pictures")
    coverage = measure(rated.mos[tested], judged, how=how)
    card = write_own_card(
        scorer.card,
        args.out,
        calibration=fit.calibration,
        interval=dataclasses.replace(fit.interval, coverage=coverage),
        measured=(_agreement(rated, tested, judged, split, how),),
        what=what,
    )
    print(f"{len(rated)} rated pictures of {what}; model {scorer.model}")
    print_report(rated, fit, tested, judged, coverage)
    print(f"{args.out}: {load(args.out, None).model}, weights in {', '.join(w.file for w in card.weights.values())}")
    print(f"dgiqa score PATH --model {args.out}")
    return 1 if len(rated) < len(split) else 0


@dataclass(frozen=True)
class Rated:
    """Scores of n pictures by the model as it was, and their MOS (n,) in 0..1."""

    scores: tuple[Score, ...]
    mos: Float64

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def raw(self) -> Float64:
        return np.array([score.raw for score in self.scores])

    @property
    def quality(self) -> Float64:
        return np.array([score.quality for score in self.scores])

    @property
    def spread(self) -> Float64 | None:
        spreads = [score.spread for score in self.scores if score.spread is not None]
        return np.array(spreads) if spreads else None

    @property
    def ends(self) -> Float64 | None:
        """(n, 2) low and high; None for a model without an interval."""
        ends = [(score.low, score.high) for score in self.scores if score.low is not None]
        return np.array(ends, np.float64) if ends else None


def _read(args: argparse.Namespace) -> Split:
    own = args.on.lower().endswith(".csv")
    if not own and not args.root:
        raise UsageError(f"{args.on}: --root is missing", hint="name the folder that the data set lies in")
    split = read_split(args.on, args.split or ("all" if own else "train"), args.root or Path(args.on).parent)
    mos = 1 - split.mos if args.lower_is_better else split.mos
    if len(split) < LEAST:
        few = f"{args.on}: {len(split)} rated pictures are too few"
        raise UsageError(few, hint=f"{LEAST} are the least, 200 are better")
    if np.ptp(mos) == 0:
        raise UsageError(f"{args.on}: all {len(split)} ratings are the same", hint="is it the right column?")
    return dataclasses.replace(split, mos=mos)


def _score(scorer: Scorer, split: Split, workers: int) -> Rated:
    """The pictures' scores; those that can't be read are named and left out."""
    scores, mos = [], []
    results = watch(scorer.score_all(split.paths, workers=workers), len(split))
    for result, rating in zip(results, split.mos.tolist(), strict=True):
        if isinstance(result, Score):
            scores.append(result)
            mos.append(rating)
        else:
            print(f"dgiqa: left out: {result.error}", file=sys.stderr)
    rated = Rated(tuple(scores), np.array(mos, np.float64))
    if len(rated) >= LEAST and (found := srcc(rated.raw, rated.mos)) <= 0:
        raise UsageError(
            f"the ratings fall where the scores rise (SRCC {found:.2f} over {len(rated)} pictures)",
            hint="if they are DMOS, where lower is better, add --lower-is-better; if not, "
            f"{scorer.card.name} doesn't see what was rated",
        )
    return rated


def _fit(rated: Rated, args: argparse.Namespace, what: str) -> tuple[Fit, Ints, Float64, str]:
    """What goes into the card, the pictures it is measured on, and (n, 3) what others' fit says of them."""
    raw, mos, spread = rated.raw, rated.mos, rated.spread
    if args.test_share is None:
        judged = cross_validate(raw, mos, spread, folds=args.folds, seed=args.seed)
        fit = calibrate(raw, mos, spread, seed=args.seed, folds=0, fitted_on=what)
        return fit, np.arange(len(rated)), judged, f"{args.folds}-fold cross-validation"
    order = np.random.default_rng(args.seed).permutation(len(rated))
    tested, rest = np.split(order, [max(1, round(args.test_share * len(rated)))])
    if len(tested) < FEWEST or np.ptp(mos[tested]) == 0 or np.ptp(raw[tested]) == 0:
        raise UsageError(
            f"--test-share {args.test_share:g}: of the {len(tested)} pictures kept aside, too few or too alike, "
            "no agreement can be measured",
            hint="keep more aside, or leave it out for cross-validation",
        )
    fitted = f"{what}, {len(rest)} of them"
    inner, outer = (None, None) if spread is None else (spread[rest], spread[tested])
    fit = calibrate(raw[rest], mos[rest], inner, seed=args.seed, folds=0, fitted_on=fitted)
    judged = fit.judge(raw[tested], outer)
    return fit, tested, judged, f"{len(tested)} pictures kept aside"


def _agreement(rated: Rated, tested: Ints, judged: Float64, split: Split, how: str) -> Measured:
    """The card's line on the agreement with these ratings."""
    mos = rated.mos[tested]
    low, high = bootstrap_interval(srcc, rated.raw[tested], mos)
    found = srcc(rated.raw[tested], mos)
    return Measured(
        dataset=split.dataset,
        split=split.split,
        n=len(tested),
        srcc=round(found, 4),
        srcc_low=round(min(low, found), 4),
        srcc_high=round(max(high, found), 4),
        plcc=round(plcc(judged[:, 0], mos), 4),
        note=f"plcc of the calibrated quality: {how}",
    )


def print_report(rated: Rated, fit: Fit, tested: Ints, judged: Float64, coverage: Coverage) -> None:
    """The model before and after, on the pictures that it is measured on."""
    mos = rated.mos[tested]
    quality = fit.judge(rated.raw[tested], None if rated.spread is None else rated.spread[tested])[:, 0]
    before = None
    if rated.ends is not None:
        before = measure(mos, np.column_stack([rated.quality, rated.ends])[tested], how="")
    print(f"{'':<26}{'before':>8}{'after':>8}")
    _line("SRCC", srcc(rated.quality[tested], mos), srcc(quality, mos), 3)
    _line("RMSE, of 100", rmse(rated.quality[tested], 100 * mos), rmse(judged[:, 0], 100 * mos), 1)
    _line("share inside low–high", None if before is None else before.share, coverage.share, 3)
    _line("mean width of low–high", None if before is None else before.mean_width, coverage.mean_width, 1)
    print(
        f"after: by {coverage.how}; the share's 95 % interval is {coverage.low:.3f} to {coverage.high:.3f}, "
        f"{fit.interval.level:.2f} is promised"
    )


def _line(name: str, before: float | None, after: float, digits: int) -> None:
    print(f"{name:<26}{'–' if before is None else f'{before:.{digits}f}':>8}{after:>8.{digits}f}")

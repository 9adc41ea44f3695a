"""Fits the classics of :mod:`dgiqa.models.natural_statistics` and puts them into the package.

    python -m dgiqa.training.classics brisque --data biq2021=BIQ2021 [--count 3000]
    python -m dgiqa.training.classics niqe --data biq2021=BIQ2021 [--least 0.85]
    python -m dgiqa.training.classics il_niqe --data biq2021=BIQ2021 [--least 0.85]

BRISQUE is a ridge with a Gaussian kernel over pictures of the data set's training part, whose width and ridge a tenth
of them chooses. NIQE is a Gaussian over the sharp patches of those that people rated best; so is IL-NIQE, whose
pristine pictures come from the whole training part but the held-out ones: its Gaussian has 12 times the dimensions.
Calibration is the held-out tenth's. The test part is not touched.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dgiqa.calibration import calibrate
from dgiqa.cards import ModelCard, read_card
from dgiqa.datasets import read_split
from dgiqa.errors import UsageError
from dgiqa.exits import exit_code
from dgiqa.imaging.decode import decode
from dgiqa.metrics.correlation import plcc, srcc
from dgiqa.metrics.resampling import interval, resample
from dgiqa.models import find_card
from dgiqa.models.natural_statistics import brisque, il_niqe, niqe
from dgiqa.training.publish import replace_table
from dgiqa.weights.files import sha256_of

Rows = npt.NDArray[np.float64]
MODULES: dict[str, Any] = {"brisque": brisque, "niqe": niqe, "il_niqe": il_niqe}
#: Kernel widths (over the features' own spread) and ridges that are tried.
GAMMAS, RIDGES = (0.003, 0.006, 0.012, 0.025), (0.01, 0.03, 0.1, 0.3)
#: Share of the pictures at each end of a statistic that bounds it.
TAIL = 0.005
#: Pictures whose kernels the ridge keeps; one of this many is held out.
CENTRES, HELD = 1500, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=MODULES)
    parser.add_argument("--data", required=True, metavar="DATASET=DIR")
    parser.add_argument("--count", type=int, default=3000, metavar="N", help="pictures (default 3000)")
    parser.add_argument("--least", type=float, default=0.85, metavar="MOS", help="of pristine pictures, 0..1")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    args = parser.parse_args()
    dataset, _, root = args.data.partition("=")
    split = read_split(dataset, "train", Path(root))
    mos = np.asarray(split.mos, np.float64)
    chosen = np.sort(np.random.default_rng(0).permutation(len(split))[: args.count])
    held = chosen[::HELD]
    kept = np.setdiff1d(np.arange(len(split)) if args.which == "il_niqe" else chosen, held)

    def of(pictures: npt.NDArray[np.int64], step: Callable[[Path], Any]) -> list[Any]:
        return over(step, [split.paths[i] for i in pictures], args.workers)

    if args.which == "brisque":
        parameters = fit_brisque(np.array(of(kept, _features)), mos[kept])
    else:
        patches = of(kept[mos[kept] >= args.least], _Patches(args.which))
        parameters = (fit_niqe if args.which == "niqe" else fit_il_niqe)(patches)
    card = find_card(f"natural_statistics.{args.which}")
    sign = -1.0 if card.settings.get("lower_is_better") else 1.0
    raw = sign * np.array(of(held, _Measure(args.which, parameters)))
    print(agreement(raw, mos[held]))
    print(publish(card, parameters, raw, mos[held], f"{dataset}, {len(raw)} pictures that were held out"))


def agreement(raw: Rows, mos: Rows) -> str:
    """What is said of the held-out pictures, with a bootstrap 95 % interval."""
    low, high = interval(resample(raw, mos).srcc) or (np.nan, np.nan)
    rank, line = srcc(raw, mos), plcc(raw, mos)
    return f"held out, {len(raw)} pictures: SRCC {rank:.3f} [{low:.3f}, {high:.3f}], PLCC {line:.3f}"


def over(step: Callable[[Path], Any], paths: Sequence[Path], workers: int) -> list[Any]:
    """``step`` of every path, by several processes, in order."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return pool.map(step, paths, chunksize=16)


def _features(path: Path) -> Rows:
    return brisque.features(decode(path).pixels)


@dataclasses.dataclass(frozen=True)
class _Patches:
    """The statistics of a picture's sharp patches."""

    which: str

    def __call__(self, path: Path) -> Rows:
        rows, sharp = MODULES[self.which].patches(decode(path).pixels)
        return np.asarray(rows[sharp >= niqe.SHARP * sharp.max()], np.float64)


@dataclasses.dataclass(frozen=True)
class _Measure:
    which: str
    parameters: dict[str, Rows]

    def __call__(self, path: Path) -> float:
        return float(MODULES[self.which].measure(decode(path).pixels, self.parameters))


def fit_brisque(rows: Rows, mos: Rows) -> dict[str, Rows]:
    """The ridge; width and strength are those that a tenth of the rows, left out, agrees with best."""
    low, high = np.quantile(rows, [TAIL, 1 - TAIL], axis=0)
    rows = np.clip(rows, low, high)
    mean, scale = rows.mean(0), rows.std(0) + 1e-9
    x = (rows - mean) / scale
    order = np.random.default_rng(1).permutation(len(x))
    left, kept = order[: len(x) // 10], order[len(x) // 10 :]
    tried = {}
    for gamma in GAMMAS:
        for ridge in RIDGES:
            centres, weights, offset = _ridge(x[kept], mos[kept], gamma, ridge)
            tried[gamma, ridge] = srcc(_kernel(x[left], centres, gamma) @ weights + offset, mos[left])
    gamma, ridge = max(tried, key=tried.__getitem__)
    centres, weights, offset = _ridge(x, mos, gamma, ridge)
    print(f"gamma {gamma}, ridge {ridge}: SRCC {tried[gamma, ridge]:.3f} on the tenth that chose them")
    return {
        "low": low, "high": high, "mean": mean, "scale": scale, "centres": centres, "weights": weights,
        "gamma": np.array(gamma), "offset": np.array(offset),
    }  # fmt: skip


def _ridge(x: Rows, y: Rows, gamma: float, ridge: float) -> tuple[Rows, Rows, float]:
    """Centres, weights and offset: kernels of some rows, fitted to all."""
    centres = x[np.random.default_rng(2).permutation(len(x))[:CENTRES]]
    offset = float(y.mean())
    kernel, own = _kernel(x, centres, gamma), _kernel(centres, centres, gamma)
    left = kernel.T @ kernel + ridge * own + 1e-8 * np.eye(len(centres))
    return centres, np.asarray(np.linalg.solve(left, kernel.T @ (y - offset)), np.float64), offset


def _kernel(x: Rows, centres: Rows, gamma: float) -> Rows:
    square = (x**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * x @ centres.T
    return np.asarray(np.exp(-gamma * np.maximum(square, 0)), np.float64)


def fit_niqe(patches: Sequence[Rows]) -> dict[str, Rows]:
    """Mean and covariance of all pristine patches."""
    rows = _joined(patches)
    return {"mean": rows.mean(0), "covariance": np.cov(rows, rowvar=False)}


def fit_il_niqe(patches: Sequence[Rows]) -> dict[str, Rows]:
    """Mean and principal components of all pristine patches, each component over its deviation.

    Raises:
        UsageError: no more patches than components.
    """
    rows = _joined(patches)
    if len(rows) <= il_niqe.KEPT:
        raise UsageError(
            f"{len(rows)} sharp patches can't tell {il_niqe.KEPT} components",
            hint="take more pictures: a lower --least",
        )
    variances, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    components = vectors[:, -il_niqe.KEPT :] / np.sqrt(variances[-il_niqe.KEPT :])
    return {"mean": rows.mean(0), "components": components}


def _joined(patches: Sequence[Rows]) -> Rows:
    rows = np.concatenate(patches)
    print(f"{len(rows)} sharp patches of {len(patches)} pictures")
    return rows


def publish(card: ModelCard, parameters: dict[str, Rows], raw: Rows, mos: Rows, note: str) -> str:
    """Writes the parameters beside the card, and the tables that follow from them into it."""
    path, file = card.folder / card.weights["numpy"].file, card.folder / card.file
    small: dict[str, Any] = {name: values.astype(np.float32) for name, values in parameters.items()}
    np.savez(path, **small)
    stated = dataclasses.replace(card.weights["numpy"], sha256=sha256_of(path), bytes=path.stat().st_size)
    fit = calibrate(raw, mos, None, fitted_on=note)
    text = file.read_text(encoding="utf-8")
    for table, value in (("weights.numpy", stated), ("calibration", fit.calibration), ("interval", fit.interval)):
        text = replace_table(text, table, value)
    file.write_text(text, encoding="utf-8")
    read_card(file)
    return f"{path}: {path.stat().st_size} bytes"


if __name__ == "__main__":
    raise SystemExit(exit_code(main))

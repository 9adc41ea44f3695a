"""The four-parameter logistic that the field fits between a model's scores and MOS before PLCC and RMSE.

VQEG, "Final report on the validation of objective models of video quality assessment", FRTV phase I (2000) and II
(2003); in the form of Sheikh, Sabir, Bovik, "A statistical evaluation of recent full reference image quality
assessment algorithms", IEEE TIP 15 (2006):

    f(x) = b2 + (b1 − b2) / (1 + exp(−(x − b3) / |b4|))

It only ever rises or only ever falls, so it straightens a scale and never reorders it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dgiqa.metrics.correlation import Float64, check_columns

#: Where the search starts: the best few of these centres, as quantiles of x, with these widths, in standard deviations
#: of x. The usual start, the mean and a quarter of a deviation, is among them in all but name.
CENTRES, WIDTHS, STARTS = (0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.98), (0.05, 0.25, 1.0, 4.0), 4
#: Widths are kept within these, in deviations: beyond them the curve is a step or a line, to any digit that is read.
NARROWEST, WIDEST = 1e-3, 1e3
#: The centre is kept within so many widths of the data: beyond, all that is seen is an exponential's tail.
FAR = 10.0
#: Rounds of damped Gauss-Newton, and the relative fall of the squared error below which it has arrived.
ROUNDS, ARRIVED = 200, 1e-12


@dataclass(frozen=True)
class Logistic:
    """The curve: ``b1`` is its value at high x, ``b2`` at low x, ``b3`` its centre, ``b4`` > 0 its width in x.

    It rises where b1 > b2.
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def check(self) -> None:
        """Raises ValueError for a width that is not positive."""
        if not self.b4 > 0:
            raise ValueError(f"b4 must be positive, not {self.b4:g}")

    def __call__(self, x: npt.ArrayLike) -> Float64:
        """The curve at each of ``x``, in the unit of what it was fitted to."""
        return self.b2 + (self.b1 - self.b2) * _sigmoid((np.asarray(x, np.float64) - self.b3) / self.b4)


def fit_logistic(x: npt.ArrayLike, y: npt.ArrayLike) -> Logistic:
    """The curve from ``x`` (n,) to ``y`` (n,) of least squared error, n >= 4.

    For a centre and a width the best ends follow by linear regression, which also finds whether the curve rises or
    falls. So only two numbers are searched, by damped Gauss-Newton (Levenberg, 1944; Marquardt, 1963) on the residual
    with the ends projected out (Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973; Kaufman, BIT 15, 1975), from
    the best points of a grid; the best end wins.

    Raises:
        ValueError: as :func:`dgiqa.metrics.correlation.srcc` does, or fewer than 4 pairs.
    """
    x, y = check_columns(x, y, varied=True)
    if len(x) < 4:
        raise ValueError(f"a curve of 4 parameters needs at least 4 pairs, not {len(x)}")
    start, reach = x.min(), np.ptp(x)  # first to 0..1, so that no square over- or underflows
    centre, scale = float(np.mean((x - start) / reach)), float(np.std((x - start) / reach))
    u = ((x - start) / reach - centre) / scale
    goal = (y - y.mean()) / y.std()
    grid = [np.array([middle, np.log(width)]) for middle in np.quantile(u, CENTRES) for width in WIDTHS]
    starts = sorted(grid, key=lambda point: _look(u, goal, point)[0])[:STARTS]
    _, middle, log_width = min(_search(u, goal, point) for point in starts)
    curve = _sigmoid((u - middle) / np.exp(log_width))
    rise, low = _regress(curve, y)
    return Logistic(
        b1=float(low + rise),
        b2=float(low),
        b3=float(start + reach * (centre + scale * middle)),
        b4=float(reach * scale * np.exp(log_width)),
    )


def _search(u: Float64, goal: Float64, point: Float64) -> tuple[float, float, float]:
    """The least squared error from one start (centre, log width), and the centre and log width that have it."""
    damping = 1e-2
    error, residual, slopes = _look(u, goal, point)
    for _ in range(ROUNDS):
        normal, gradient = slopes.T @ slopes, slopes.T @ residual
        step = np.linalg.solve(normal + damping * (np.diag(np.diag(normal)) + 1e-12 * np.eye(2)), -gradient)
        tried = _keep_near(u, point + step)
        found, residual_there, slopes_there = _look(u, goal, tried)
        if not found <= error:
            damping *= 4
            if damping > 1e12:
                break
            continue
        fell, point, error, residual, slopes = error - found, tried, found, residual_there, slopes_there
        damping = max(damping / 3, 1e-12)
        if fell <= ARRIVED * error:
            break
    return error, float(point[0]), float(point[1])


def _keep_near(u: Float64, point: Float64) -> Float64:
    """A curve that can be told from its neighbours: see :data:`NARROWEST` and :data:`FAR`."""
    log_width = np.clip(point[1], np.log(NARROWEST), np.log(WIDEST))
    far = FAR * np.exp(log_width)
    return np.array([np.clip(point[0], u.min() - far, u.max() + far), log_width])


def _look(u: Float64, goal: Float64, point: Float64) -> tuple[float, Float64, Float64]:
    """The squared error with the best ends, the residual (n,), and how it moves with centre and log width (n, 2)."""
    width = np.exp(point[1])
    z = (u - point[0]) / width
    curve = _sigmoid(z)
    rise, low = _regress(curve, goal)
    residual = low + rise * curve - goal
    bend = rise * curve * (1 - curve)
    slopes = np.column_stack([-bend / width, -bend * z])
    slopes -= slopes.mean(axis=0)  # what the ends can make up for is no slope
    level = curve - curve.mean()
    if (length := level @ level) > 0:
        slopes -= np.outer(level, level @ slopes / length)
    return float(residual @ residual), residual, slopes


def _regress(x: Float64, y: Float64) -> tuple[float, float]:
    """Slope and intercept of the line from x to y; a constant x has slope 0."""
    level = x - x.mean()
    length = float(level @ level)
    slope = float(level @ y) / length if length > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _sigmoid(z: Float64) -> Float64:
    """1 / (1 + exp(−z)), exact in both tails."""
    tail = np.exp(-np.abs(z))
    return np.asarray(np.where(z < 0, tail, 1.0) / (1 + tail), dtype=np.float64)

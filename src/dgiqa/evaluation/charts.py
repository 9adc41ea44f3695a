"""The page's drawings: inline SVG by hand, colours by the page's style sheet, a title and a spoken description each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from dgiqa.evaluation.results import Group
from dgiqa.metrics.correlation import Float64
from dgiqa.metrics.logistic import Logistic

#: Units of a drawing; the page scales it to the room there is.
WIDTH, HEIGHT = 440, 330
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 44
#: More dots than these are drawn thinned out, evenly over the scores.
MOST_DOTS = 6000
#: Dots of one path don't darken each other; several paths do.
LAYERS = 12
#: Parts of the range of predictions whose mean residual is drawn.
PARTS = 10
BAR, BAR_LEFT, BAR_RIGHT = 24, 130, 48


@dataclass(frozen=True)
class Frame:
    """Where numbers lie in a drawing."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)

    def at(self, x: float, y: float) -> str:
        return f"{self.x(x):.1f} {self.y(y):.1f}"


def scatter(scores: Float64, mos: Float64, curve: Logistic | None, model: str) -> str:
    """MOS in 0..100 over the model's scores, with the logistic curve."""
    frame = Frame(*_room(scores), 0.0, 100.0)
    line = ""
    if curve is not None:
        at = np.linspace(frame.x_low, frame.x_high, 120)
        values = np.clip(100 * curve(at), 0, 100)
        line = f'<path class="curve" d="M{"L".join(frame.at(x, y) for x, y in zip(at, values, strict=True))}"/>'
    body = _axes(frame, "score", "MOS, 0 to 100") + _dots(frame, scores, mos) + line
    note = " The line is the fitted logistic." if line else ""
    return _svg(
        HEIGHT, f"Scores of {model} against MOS", f"{len(scores):,} pictures, each a dot: MOS over score.{note}", body
    )


def residuals(fitted: Float64, mos: Float64, model: str) -> str:
    """MOS minus prediction over the prediction, both in 0..100, with the mean of each tenth."""
    apart = mos - fitted
    reach = max(10.0, math.ceil(float(np.abs(apart).max()) / 10) * 10)
    frame = Frame(*_room(fitted), -reach, reach)
    zero = f'<path class="zero" d="M{frame.at(frame.x_low, 0)}L{frame.at(frame.x_high, 0)}"/>'
    parts = [part for part in np.array_split(np.argsort(fitted, kind="stable"), PARTS) if len(part)]
    means = "L".join(frame.at(float(fitted[part].mean()), float(apart[part].mean())) for part in parts)
    body = (
        _axes(frame, "prediction (score after the logistic)", "MOS − prediction")
        + zero
        + _dots(frame, fitted, apart)
        + f'<path class="curve" d="M{means}"/>'
    )
    return _svg(
        HEIGHT,
        f"Residuals of {model}",
        f"MOS minus prediction over the prediction; the line joins the means of {len(parts)} parts.",
        body,
    )


def bars(groups: Sequence[Group], what: str) -> str:
    """SRCC of each group with its interval, a bar each."""
    values = [group.agreement.srcc for group in groups]
    lowest = min([0.0, *(v.low if v.low is not None else v.value for v in values)])
    low = math.floor(lowest * 5) / 5
    room = WIDTH - BAR_LEFT - BAR_RIGHT

    def x(value: float) -> float:
        return BAR_LEFT + (value - low) / (1 - low) * room

    height = BAR * len(groups) + 34
    body = []
    for tick in np.arange(round(low * 5), 6) / 5:
        body.append(f'<path class="grid" d="M{x(tick):.1f} 4V{height - 26}"/>')
        body.append(f'<text class="tick" x="{x(tick):.1f}" y="{height - 10}" text-anchor="middle">{tick:g}</text>')
    for i, (group, srcc) in enumerate(zip(groups, values, strict=True)):
        top = 4 + BAR * i
        left, right = sorted((x(0), x(srcc.value)))
        name = f"{group.name} ({group.agreement.n:,})"
        body.append(
            f'<text class="name" x="{BAR_LEFT - 6}" y="{top + 15}" text-anchor="end">{escape(_cut(name))}</text>'
        )
        body.append(f'<rect class="bar" x="{left:.1f}" y="{top + 4}" width="{right - left:.1f}" height="{BAR - 8}"/>')
        if srcc.low is not None and srcc.high is not None:
            middle = top + BAR / 2
            body.append(f'<path class="whisker" d="M{x(srcc.low):.1f} {middle:g}H{x(srcc.high):.1f}"/>')
        body.append(f'<text class="tick" x="{WIDTH - 4}" y="{top + 15}" text-anchor="end">{srcc.value:.3f}</text>')
    listed = "; ".join(f"{group.name} {srcc.value:.3f}" for group, srcc in zip(groups, values, strict=True))
    return _svg(height, f"SRCC by {what}", f"{listed}. Lines are 95 % intervals.", "".join(body))


def _svg(height: int, title: str, description: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{title}. {description}")}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _dots(frame: Frame, x: Float64, y: Float64) -> str:
    order = np.argsort(x, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(len(order), MOST_DOTS)).round().astype(int)]
    shown = np.random.default_rng(0).permutation(shown)
    layers = (shown[layer::LAYERS] for layer in range(LAYERS))
    return "".join(
        f'<path class="dots" d="{"".join(f"M{frame.at(x[i], y[i])}h0" for i in layer)}"/>'
        for layer in layers
        if len(layer)
    )


def _axes(frame: Frame, x_title: str, y_title: str) -> str:
    parts = []
    for tick in ticks(frame.x_low, frame.x_high):
        parts.append(f'<path class="grid" d="M{frame.x(tick):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        at = f'x="{frame.x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}"'
        parts.append(f'<text class="tick" {at} text-anchor="middle">{tick:g}</text>')
    for tick in ticks(frame.y_low, frame.y_high):
        parts.append(f'<path class="grid" d="M{LEFT} {frame.y(tick):.1f}H{WIDTH - RIGHT}"/>')
        at = f'x="{LEFT - 6}" y="{frame.y(tick) + 4:.1f}"'
        parts.append(f'<text class="tick" {at} text-anchor="end">{tick:g}</text>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="axis" x="{middle_x:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    turn = f'transform="translate(12 {middle_y:g}) rotate(-90)"'
    parts.append(f'<text class="axis" {turn} text-anchor="middle">{escape(y_title)}</text>')
    return "".join(parts)


def ticks(low: float, high: float, about: int = 5) -> Iterator[float]:
    """Round numbers from low to high: 1, 2 or 5 times a power of ten apart, around ``about`` of them."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        yield float(f"{i * step:.12g}")


def _room(values: Float64) -> tuple[float, float]:
    """The range with a little air."""
    low, high = float(values.min()), float(values.max())
    air = (high - low) * 0.03 or 1.0
    return low - air, high + air


def _cut(name: str, most: int = 20) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"

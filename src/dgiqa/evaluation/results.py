"""What an evaluation finds, as frozen values that become a JSON file and come back from it unchanged."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from dgiqa.cards import Coverage, from_table
from dgiqa.errors import CardError, UsageError
from dgiqa.metrics.discrimination import Discrimination
from dgiqa.metrics.logistic import Logistic

#: Version of the JSON file's keys.
FORMAT = 1


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap 95 % interval (None where too many resamples have none)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How ``n`` scores agree with MOS.

    Attributes:
        srcc, krcc: of order.
        plcc_raw: of the scores as they are.
        plcc_fitted, rmse_fitted: after the data set's logistic curve; RMSE in units of MOS turned to 0..100. None
            where the curve is flat, or no curve could be fitted.
    """

    n: int
    srcc: Estimate
    krcc: Estimate
    plcc_raw: Estimate
    plcc_fitted: Estimate | None = None
    rmse_fitted: Estimate | None = None


@dataclass(frozen=True)
class Group:
    """One subset or distortion. Its fitted numbers are by the curve of the whole data set."""

    name: str
    agreement: Agreement


@dataclass(frozen=True)
class LeftOut:
    """A group without numbers, and why. ``kind``: subset or distortion."""

    kind: str
    name: str
    n: int
    why: str


@dataclass(frozen=True)
class Missing:
    """A picture without a score, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Evaluation:
    """One model on one split.

    Attributes:
        model: label of the model, or of the file that the scores came from.
        fingerprint: of the card and weights, or of that file.
        asked: pictures of the split; ``overall.n`` of them have a score, ``missing`` names the others.
        curve: from score to MOS in 0..1.
        discrimination: over pairs of pictures; None for the reason that ``no_discrimination`` gives.
        coverage: of the model's 90 % intervals; None for a model without.
        samples, seed: of the bootstrap.
    """

    model: str
    fingerprint: str
    dataset: str
    split: str
    asked: int
    overall: Agreement
    curve: Logistic | None = None
    subsets: tuple[Group, ...] = ()
    distortions: tuple[Group, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[Missing, ...] = ()
    discrimination: Discrimination | None = None
    no_discrimination: str = ""
    coverage: Coverage | None = None
    samples: int = 0
    seed: int = 0

    @property
    def place(self) -> str:
        """Data set and split."""
        return f"{self.dataset} {self.split}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First minus second, with its paired-bootstrap 95 % interval (None where too many resamples have none) and
    two-sided p; and z and p of the test of Meng, Rosenthal and Rubin."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float
    z: float
    p_of_z: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the ``n`` pictures that both gave a score. PLCC is after each one's logistic."""

    first: str
    second: str
    dataset: str
    split: str
    n: int
    srcc: Difference
    plcc: Difference


@dataclass(frozen=True)
class Report:
    """All that one command found.

    Attributes:
        date: ISO 8601, UTC.
        command: as it was typed.
        versions: of this package, Python and the packages that scores depend on.
        limit: only so many pictures of each split were looked at; 0 for all.
    """

    date: str
    command: str
    versions: dict[str, str]
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...] = ()
    limit: int = 0
    format: int = FORMAT

    @property
    def models(self) -> tuple[str, ...]:
        """Labels, in the order they were named."""
        return tuple(dict.fromkeys(e.model for e in self.evaluations))

    @property
    def places(self) -> tuple[str, ...]:
        """Data sets with their splits, in the order they were named."""
        return tuple(dict.fromkeys(e.place for e in self.evaluations))

    def cell(self, model: str, place: str) -> Evaluation | None:
        """The evaluation at one crossing of the matrix of models and data sets."""
        return next((e for e in self.evaluations if (e.model, e.place) == (model, place)), None)


def to_json(report: Report) -> str:
    """The report as a JSON document, a key a line."""
    return json.dumps(dataclasses.asdict(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def from_json(text: str, where: str = "result file") -> Report:
    """The report that :func:`to_json` wrote, read strictly.

    Raises:
        UsageError: not JSON, another format, unknown or missing keys, wrong types: with the place.
    """
    try:
        table = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where}: not valid JSON ({error})") from error
    found = table.get("format") if isinstance(table, dict) else None
    if found != FORMAT:
        raise UsageError(f"{where}: its format is {found!r}, this version reads {FORMAT}", hint="evaluate once more")
    try:
        report: Report = from_table(Report, _without_null(table), where)
    except CardError as error:
        raise UsageError(error.message, hint=error.hint) from error
    return report


def _without_null(value: Any) -> Any:
    """A key that is null is one that is not there."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value

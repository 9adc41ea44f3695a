"""Model cards: everything that moves a score, in one strictly checked TOML file beside the weights.

A card is the listing, the documentation, the check and the recipe. Unknown keys, missing keys and wrong
types are errors that name the file and the key, so a typing slip never becomes a silently different score.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dgiqa.errors import CardError

Kernel = Literal["bilinear", "bicubic", "lanczos", "box", "box-bicubic", "linear-opencv", "cubic-opencv"]


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes views. Sizes in pixels.

    Attributes:
        short_side: the picture is resized (up or down) so that its short side has this many pixels.
        kernel: resize kernel. ``bilinear``, ``bicubic``, ``lanczos`` and ``box`` are antialiased (Pillow);
            ``box-bicubic`` is bicubic after means over squares of 2, 4 or 8 pixels, which goes with ``reduce``;
            ``linear-opencv`` and ``cubic-opencv`` are not antialiased (what many papers' code uses).
        views: ``whole``: the resized picture itself, in tiles along its long side once that exceeds
            ``max_aspect`` times the short one; ``grid``: the fewest square crops, evenly spaced, that
            cover the picture; ``random``: ``count`` crops seeded by ``seed`` and the size alone (papers);
            ``native``: the picture as it is, never resized, whose ``short_side`` is 0.
        crop: side of the square crops of ``grid`` and ``random``; 0 for ``whole``.
        count: number of ``random`` crops.
        seed: seed of ``random`` crops.
        multiple: the long side is rounded to a multiple of this (what the network's strides need).
        max_aspect: see ``views``.
        background: sRGB colour (0 to 255) under transparent pixels.
        depth: name of the depth card; empty for a network without depth.
        depth_from: depth is estimated on the whole original ``picture``, or on the whole ``resized`` one.
        least: pixels that the shorter side needs; smaller pictures are refused. 0: any will do.
        reduce: a JPEG may be decoded at a half, a quarter or an eighth of its size, if it keeps this many times
            ``short_side``; only where speed is asked for, since it moves scores a little. 0: never.
    """

    short_side: int
    kernel: Kernel
    views: Literal["whole", "grid", "random", "native"]
    crop: int = 0
    count: int = 0
    seed: int = 0
    multiple: int = 1
    max_aspect: float = 2.0
    background: tuple[int, int, int] = (255, 255, 255)
    depth: str = ""
    depth_from: Literal["picture", "resized"] = "resized"
    least: int = 0
    reduce: float = 0.0

    @property
    def needs_every_pixel(self) -> bool:
        """Whether something looks at the picture before it is resized, or as it is."""
        return self.depth_from == "picture" or self.views == "native"

    def check(self) -> None:
        """Raises ValueError when the numbers contradict each other."""
        if self.views == "native":
            if self.short_side or self.crop or self.count or self.depth or self.multiple != 1:
                raise ValueError("views = 'native' takes short_side = 0 and no crop, count, depth or multiple")
        elif self.short_side < 1 or self.multiple < 1 or self.short_side % self.multiple:
            raise ValueError("short_side must be a positive multiple of multiple")
        if self.views == "whole" and (self.crop or self.count or self.max_aspect < 1):
            raise ValueError("views = 'whole' takes no crop or count, and a max_aspect of at least 1")
        if self.views in ("grid", "random") and not 1 <= self.crop <= self.short_side:
            raise ValueError("crop must be between 1 and short_side")
        if (self.views == "random") != (self.count != 0) or self.count < 0:
            raise ValueError("count goes with views = 'random', and only there")
        if self.least < 0:
            raise ValueError("least must not be negative")
        if self.seed < 0 or (self.seed and self.views != "random"):
            raise ValueError("seed goes with views = 'random', and is not negative")
        if self.reduce and (self.reduce < 1 or self.depth_from != "resized"):
            raise ValueError("reduce is 0, or at least 1 and for depth_from = 'resized'")
        if any(not 0 <= value <= 255 for value in self.background):
            raise ValueError("background must be three numbers from 0 to 255")


@dataclass(frozen=True)
class Calibration:
    """The raw score to quality 0..100: linear between knots, which rise strictly in both columns.

    Beyond the outer knots the outer segments go on, clipped to 0..100.
    """

    raw: tuple[float, ...] = (0.0, 1.0)
    quality: tuple[float, ...] = (0.0, 100.0)
    fitted_on: str = ""

    def check(self) -> None:
        """Raises ValueError when the knots are not a strictly rising curve into 0..100."""
        if len(self.raw) != len(self.quality) or len(self.raw) < 2:
            raise ValueError("raw and quality need the same number of knots, at least 2")
        if not all(map(math.isfinite, (*self.raw, *self.quality))):
            raise ValueError("knots must be finite")
        if np.any(np.diff(self.raw) <= 0) or np.any(np.diff(self.quality) <= 0):
            raise ValueError("knots must rise strictly")
        if self.quality[0] < 0 or self.quality[-1] > 100:
            raise ValueError("quality must lie in 0..100")

    def apply(self, raw: float) -> float:
        """Quality 0..100 of one raw score; never falls when ``raw`` rises, to the last bit. NaN stays NaN."""
        x, y = self.raw, self.quality
        i = int(np.clip(np.searchsorted(x, raw) - 1, 0, len(x) - 2))
        value = y[i] + (raw - x[i]) * (y[i + 1] - y[i]) / (x[i + 1] - x[i])
        if i < len(x) - 2:  # rounding must not lift a segment's end above the next one's start
            value = min(value, y[i + 1])
        return float(np.clip(value, 0.0, 100.0))

    def reach(self, raw: float, spread: float) -> float:
        """An error of ``spread`` in the raw score, in quality: half the way from raw − spread to raw + spread."""
        return (self.apply(raw + spread) - self.apply(raw - spread)) / 2


@dataclass(frozen=True)
class Coverage:
    """How often the MOS of pictures that an interval was not fitted on lay inside it.

    Attributes:
        share: of ``n`` pictures, 0..1; ``low`` and ``high`` are its binomial 95 % interval (Wilson).
        mean_width: of the intervals, in quality units.
        how: which pictures these were.
    """

    share: float
    low: float
    high: float
    n: int
    mean_width: float
    how: str

    def check(self) -> None:
        """Raises ValueError for numbers that no measurement gives."""
        if self.n < 1 or not 0 <= self.low <= self.share <= self.high <= 1:
            raise ValueError("n must be positive, and 0 <= low <= share <= high <= 1")
        if not 0 <= self.mean_width <= 100:
            raise ValueError("mean_width must lie in 0..100")


@dataclass(frozen=True)
class Interval:
    """Where a picture's MOS lies with probability ``level``: quality ± ``quantile`` × its difficulty, within 0..100.

    :mod:`dgiqa.calibration` fits it and says what it promises.

    Attributes:
        level: 0.9 for a 90 % interval.
        by: what the difficulty follows: the ``spread`` that the network gives with each raw score, carried into
            quality by the calibration; or the ``raw`` score alone, linear between knots and level beyond them.
        quantile: the half width in difficulties.
        floor: the least difficulty, in quality units.
        n: pictures that the quantile was taken of.
        at, difficulty: knots of ``by = "raw"``, in raw units and quality units.
        coverage: what was measured; None before it is.
    """

    level: float
    by: Literal["spread", "raw"]
    quantile: float
    floor: float
    n: int
    at: tuple[float, ...] = ()
    difficulty: tuple[float, ...] = ()
    coverage: Coverage | None = None

    def check(self) -> None:
        """Raises ValueError for numbers that make no interval, or one that ``n`` pictures can't promise."""
        if not 0 < self.level < 1:
            raise ValueError("level must lie between 0 and 1")
        if (self.n + 1) * (1 - self.level) < 1 - 1e-9:
            raise ValueError(f"{self.n} pictures can't promise a level of {self.level:g}")
        if not (self.quantile > 0 and self.floor > 0):
            raise ValueError("quantile and floor must be positive")
        if self.by == "spread" and (self.at or self.difficulty):
            raise ValueError("by = 'spread' takes no at or difficulty")
        if self.by == "raw" and (len(self.at) < 2 or len(self.at) != len(self.difficulty)):
            raise ValueError("by = 'raw' needs the same number of knots in at and difficulty, at least 2")
        if any(b <= a for a, b in itertools.pairwise(self.at)):
            raise ValueError("at must rise strictly")
        if any(value <= 0 for value in self.difficulty):
            raise ValueError("difficulty must be positive")

    def half_width(self, raw: float, reach: float | None) -> float:
        """Half the width before it is clipped, in quality units; positive.

        Args:
            reach: the network's spread in quality units, see :meth:`Calibration.reach`; None if it gives none.

        Raises:
            ValueError: the difficulty follows a spread that isn't there.
        """
        if self.by == "raw":
            difficulty = float(np.interp(raw, self.at, self.difficulty))
        elif reach is not None:
            difficulty = reach
        else:
            raise ValueError("the interval follows a spread that the network doesn't give")
        return self.quantile * max(self.floor, difficulty)

    def around(self, quality: float, raw: float, reach: float | None) -> tuple[float, float]:
        """The ends, 0 <= low <= quality <= high <= 100. Arguments and errors as for :meth:`half_width`."""
        half = self.half_width(raw, reach)
        return max(0.0, quality - half), min(100.0, quality + half)


@dataclass(frozen=True)
class Paper:
    """Where the network comes from."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Licence:
    """Terms of the three things that a score is made of; ``unstated`` where the source says nothing."""

    code: str
    weights: str
    data: str
    note: str = ""


@dataclass(frozen=True)
class Network:
    """Size of the network, counted by a test: parameters, and GMACs for the stated input."""

    parameters: int
    gmacs: float
    input: str


@dataclass(frozen=True)
class WeightsFile:
    """One weights file.

    Attributes:
        file: its name, beside the card when ``embedded``, else in the cache folder of the card's name.
        embedded: whether it comes in the wheel.
        sha256: 64 hex digits; empty only where the source publishes none (then it is never downloaded).
        bytes: size; 0 when unknown.
        url: https address of the file; empty when there is no direct one.
        page: where a person finds it by hand.
        precision: of its arithmetic; scores of another precision are another model's.
        shares: name and version of the card whose ONNX file holds the rest of this one's tensors, such as
            ``trunks.mobilenet_v2@1.0``; this file is read behind it. Empty for a file that is whole.
    """

    file: str
    embedded: bool = False
    sha256: str = ""
    bytes: int = 0
    url: str = ""
    page: str = ""
    precision: Literal["fp32", "fp64", "int8"] = "fp32"
    shares: str = ""

    def check(self) -> None:
        """Raises ValueError for an unsafe address, name or checksum."""
        if self.shares and self.shares.count("@") != 1:
            raise ValueError("shares must be a card's name and version, such as trunks.mobilenet_v2@1.0")
        if set(self.file) & set("/\\:\0") or self.file in ("", ".", ".."):
            raise ValueError("file must be a plain file name")
        if self.bytes < 0:
            raise ValueError("bytes must be the file's size, or 0 when it is unknown")
        if self.sha256 and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ValueError("sha256 must be 64 lower-case hex digits")
        if self.url and not self.url.startswith("https://"):
            raise ValueError("url must start with https://")
        if (self.embedded or self.url) and not self.sha256:
            raise ValueError("an embedded or downloadable file needs its sha256")


@dataclass(frozen=True)
class Explain:
    """The file that continues the ONNX weights to an explanation, see :mod:`dgiqa.explain`.

    Attributes:
        continues: SHA-256 of the ONNX file whose inner values it names.
        faults: the kinds of fault that it tells, in the order of its outputs.
        least: the probability from which each is said to be there.
        weights: the file.
    """

    continues: str
    faults: tuple[str, ...]
    least: tuple[float, ...]
    weights: WeightsFile

    def check(self) -> None:
        """Raises ValueError for a list that doesn't fit the other."""
        if not self.faults or len(self.faults) != len(self.least):
            raise ValueError("faults and least need the same number of values, at least 1")
        if not all(0 < value < 1 for value in self.least):
            raise ValueError("least must lie between 0 and 1")


@dataclass(frozen=True)
class Member:
    """A further network of an ensemble, whose raw score is averaged with that of the card's own.

    Attributes:
        card: name and version of a built-in card, such as ``dgiqa_mobile.quick@1.0``, whose scores the version pins
            down; or a file, seen from the folder of the card that names it.
        short_side: pixels, in place of the short side that its own card's recipe says; 0: as that says.
        weight: how much it counts, where the card's own network counts 1.
    """

    card: str
    short_side: int = 0
    weight: float = 1.0

    def check(self) -> None:
        """Raises ValueError for a built-in card without its version, or a size or weight that is none."""
        if not self.card.endswith(".toml") and self.card.count("@") != 1:
            raise ValueError("card must be a name and version, such as dgiqa_mobile.quick@1.0, or a .toml file")
        if self.short_side < 0:
            raise ValueError("short_side must not be negative")
        if not 0 < self.weight <= 1000:
            raise ValueError("weight must be positive, and at most 1000")


@dataclass(frozen=True)
class Training:
    """What the weights were made from, and with which command."""

    data: str
    initialisation: str
    teachers: str = "none"
    command: str = ""


@dataclass(frozen=True)
class Measured:
    """One measured agreement with people, with a bootstrap 95 % interval of SRCC."""

    dataset: str
    split: str
    n: int
    srcc: float
    srcc_low: float
    srcc_high: float
    plcc: float
    note: str = ""

    def check(self) -> None:
        """Raises ValueError for numbers that no measurement gives."""
        if self.n < 1 or not -1 <= self.plcc <= 1 or not -1 <= self.srcc_low <= self.srcc_high <= 1:
            raise ValueError("n must be positive, correlations from -1 to 1, and srcc_low at most srcc_high")
        if not self.srcc_low <= self.srcc <= self.srcc_high:
            raise ValueError("srcc must lie between srcc_low and srcc_high")


@dataclass(frozen=True)
class Published:
    """What a paper says of its own weights under its own protocol; never mixed with what was measured.

    Attributes:
        dataset, protocol: what it was tested on, and how.
        srcc, plcc: agreement.
        source: the paper and its table.
    """

    dataset: str
    protocol: str
    srcc: float
    plcc: float
    source: str

    def check(self) -> None:
        """Raises ValueError for numbers that are no correlations."""
        if not (-1 <= self.srcc <= 1 and -1 <= self.plcc <= 1):
            raise ValueError("srcc and plcc lie in -1..1")


@dataclass(frozen=True)
class ModelCard:
    """One set of weights of one network: what it is, whose it is, how it is fed, what it scored.

    ``weights`` maps a runtime's name (``onnx``, ``torch``, ``numpy``) to its file. ``reference`` is ``full`` for what
    compares a picture with its pristine original, else ``none``. With an ``ensemble`` the raw score is the
    weighted mean of the card's own network's and those of the further ones, each of which sees the picture by its own
    recipe, and the spread that of those which tell one; ``network`` is the card's own.
    """

    name: str
    arch: str
    version: str
    kind: Literal["quality", "depth", "trunk", "landmarks"]
    summary: str
    paper: Paper
    licence: Licence
    network: Network
    recipe: Recipe
    weights: dict[str, WeightsFile]
    training: Training
    reference: Literal["none", "full"] = "none"
    calibration: Calibration = field(default_factory=Calibration)
    interval: Interval | None = None
    explain: Explain | None = None
    ensemble: tuple[Member, ...] = ()
    measured: tuple[Measured, ...] = ()
    published: tuple[Published, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    folder: Path = field(default=Path(), repr=False)

    @property
    def file(self) -> str:
        """Name of the card's own file."""
        return f"{self.name.partition('.')[2]}.toml"

    @property
    def label(self) -> str:
        """Name and version, as rows carry it."""
        return f"{self.name}@{self.version}"

    def judge(self, raw: float, spread: float | None = None) -> tuple[float, float | None, float | None]:
        """Quality 0..100 of a raw score, and the low and high end of its interval (None where the card has none).

        Args:
            spread: the error that the network expects of ``raw``, in raw units; None if it says nothing.

        Raises:
            CardError: the card's interval follows a spread, and there is none.
        """
        quality = self.calibration.apply(raw)
        if self.interval is None:
            return quality, None, None
        reach = None if spread is None else self.calibration.reach(raw, spread)
        try:
            return quality, *self.interval.around(quality, raw, reach)
        except ValueError as error:
            raise CardError(f"{self.name}: {error}", hint="calibrate the card anew: dgiqa calibrate") from error

    def check(self) -> None:
        """Raises ValueError for a name that can't be a folder's, or a card without weights."""
        if not self.arch.isidentifier():
            raise ValueError(f"arch: {self.arch!r} is not a plain name of letters, digits and underscores")
        if not self.version.strip():
            raise ValueError("version: empty")
        if not self.weights:
            raise ValueError("weights: at least one file is needed")
        if self.interval and self.kind != "quality":
            raise ValueError("interval: only a quality has one")
        if self.ensemble and (self.kind != "quality" or self.reference == "full"):
            raise ValueError("ensemble: only networks that score without an original are averaged")
        if self.explain and not ("onnx" in self.weights and self.recipe.depth):
            raise ValueError("explain: continues ONNX weights that look at depth, and there are none")


#: Fields that follow from where the card's file lies.
_FROM_PLACE = ("name", "folder")


def read_card(path: Path, *, name: str | None = None) -> ModelCard:
    """The card in the file at ``path``.

    ``name`` and ``arch`` follow from the place: ``models/dgiqa_mobile/biq2021.toml`` is
    ``dgiqa_mobile.biq2021`` of architecture ``dgiqa_mobile``; a card elsewhere may name its ``arch``.

    Raises:
        CardError: naming the file and the key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: the card can't be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{path}: not valid TOML ({error})") from error
    for forbidden in _FROM_PLACE:
        if forbidden in table:
            raise CardError(f"{path}: {forbidden}: follows from the file's place and can't be set")
    table.setdefault("arch", path.parent.name)
    table["name"] = name or f"{table['arch']}.{path.stem}"
    card: ModelCard = from_table(ModelCard, table, str(path))
    return dataclasses.replace(card, folder=path.parent)


def from_table(kind: Any, table: Any, where: str) -> Any:
    """A dataclass of ``kind`` from a TOML table, strictly."""
    if not isinstance(table, dict):
        raise CardError(f"{where}: expected a table, found {table!r}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(set(table) - set(fields)):
        known = ", ".join(name for name in fields if name not in _FROM_PLACE)
        raise CardError(f"{where}: {unknown[0]}: unknown key", hint=f"known keys: {known}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise CardError(f"{where}: {name}: missing")
    value = kind(**{name: _convert(hints[name], item, f"{where}: {name}") for name, item in table.items()})
    if hasattr(value, "check"):
        try:
            value.check()
        except ValueError as error:
            raise CardError(f"{where}: {error}") from error
    return value


def _convert(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, types.UnionType):  # X | None: TOML has no None, what stands there is an X
        kind = typing.get_args(kind)[0]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return from_table(kind, value, where)
    if origin is Literal:
        if value not in args:
            raise CardError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise CardError(f"{where}: expected a table, found {value!r}")
        return {key: _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise CardError(f"{where}: expected {kind.__name__}, found {value!r}")
    if kind is float and not math.isfinite(value):
        raise CardError(f"{where}: expected a finite number, found {value!r}")
    return value


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise CardError(f"{where}: expected a list, found {value!r}")
    kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
    if len(kinds) != len(value):
        raise CardError(f"{where}: expected {len(kinds)} values, found {len(value)}")
    return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))

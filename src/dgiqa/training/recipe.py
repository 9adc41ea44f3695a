"""A training recipe: everything that decides which weights come out, in one strictly checked TOML file.

    recipes/mobile-biq2021.toml  +  --set train.epochs=3  →  Plan

Unknown keys, missing keys and wrong types are errors that name the file and the key. ``docs/training.md`` explains
every table with examples.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dgiqa.calibration import as_toml
from dgiqa.cards import Licence, Recipe, from_table
from dgiqa.distortions import GROUPS, KINDS, SEVERITIES, kinds_of
from dgiqa.errors import CardError, UsageError

#: Pixels along a side of the cells on which networks say what their first stages make of a picture.
CELL = 32
#: Keys that change how fast a run goes, not what comes out: a stopped run may go on with others.
_FREE = ("train.workers", "train.checkpoint", "train.log")


@dataclass(frozen=True)
class Model:
    """The network, how pictures are brought to it, and the weights that it starts from.

    Attributes:
        arch: a folder of ``dgiqa/models``.
        recipe: as in a model card; the trained card gets it.
        settings: the network's own settings, as in a model card.
        initial: weights for the whole network: a card's name, or a .safetensors, .onnx or .pth file; empty for random
            ones. Tensors whose name or shape the network lacks are left out.
        trunks: the same for parts of the network, by the part's name: ``color_trunk = "FILE"``.
        freeze: prefixes of the names of parameters that stay as they start; batch norm in there stays as it is, too.
        kept: how many of the colour trunk's first stages are frozen, computed once of each picture and kept in the
            cache in 16 bits, for networks that offer it: what is trained then is the rest.
        initialisation: what the weights started from, in words, for the card.
    """

    arch: str
    recipe: Recipe
    settings: dict[str, Any] = field(default_factory=dict)
    initial: str = ""
    trunks: dict[str, str] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    kept: int = 0
    initialisation: str = ""


@dataclass(frozen=True)
class Validation:
    """Which of a set's pictures are kept out of training.

    Attributes:
        share: part of the pictures, 0..1; 0 for none.
        seed: of the choice, the same in every run whatever the run's own seed.
        disjoint: ``picture``: each picture for itself; ``reference``: pictures of one reference stay together;
            ``scene``: pictures of one scene do, as ``groups`` or the data set's card says.
        groups: CSV file with columns path and group, for ``scene``; empty for the card's own.
        split: another split of the data set takes the place of a share.
    """

    share: float = 0.1
    seed: int = 2021
    disjoint: Literal["picture", "reference", "scene"] = "picture"
    groups: str = ""
    split: str = ""

    def check(self) -> None:
        """Raises ValueError when nothing would be left to train on, or the groups are missing."""
        if not 0 <= self.share <= 0.9:
            raise ValueError("share must lie in 0..0.9")
        if self.groups and self.disjoint != "scene":
            raise ValueError("a groups file goes with disjoint = 'scene'")


@dataclass(frozen=True)
class DataSet:
    """One set of rated pictures.

    Attributes:
        dataset: a card of ``dgiqa datasets``, or a CSV file with columns path and mos.
        name: what ``--data NAME=DIR`` calls it; the data set's name by default.
        root: its folder, where ``--data`` doesn't say.
        split: the part to train on.
        weight: its pictures' share of a batch is its number of pictures times this, against the other sets'.
        pictures: train on only that many, drawn by ``validation.seed``; 0 for all.
        targets: CSV file with columns path and target (0..1): a teacher's scores, for ``loss.distil``.
    """

    dataset: str
    name: str = ""
    root: str = ""
    split: str = "train"
    weight: float = 1.0
    pictures: int = 0
    targets: str = ""
    validation: Validation = field(default_factory=Validation)

    @property
    def key(self) -> str:
        """What ``--data`` calls it."""
        return self.name or Path(self.dataset).stem

    def check(self) -> None:
        """Raises ValueError for a weight or a number that makes no sense."""
        if not self.weight > 0 or self.pictures < 0:
            raise ValueError("weight must be positive, and pictures not negative")


@dataclass(frozen=True)
class Train:
    """The course of a run.

    Attributes:
        epochs: passes over the pictures; ``steps`` says it in optimiser steps instead (0: epochs count). None of
            either leaves it at the head start, see :class:`Probe`.
        batch: rated pictures a step, of all processes together; in ``accumulate`` equal parts if memory is short
            (correlation and ranking are then of a part, not of the batch).
        short_side: of the pictures that are trained on, where it isn't the recipe's own of scoring; 0 for the same.
            What was trained on smaller pictures can agree best on larger ones (FixRes, see ``whole``).
        crop: side of random square crops in pixels; 0 for the whole picture, or the views' own crop.
        whole: the share of the run, at its end, that sees whole pictures in the place of crops: what a network is
            trained on last should be as large as what it scores (Touvron et al. 2019, arXiv:1906.06423).
        flip: mirror half of the pictures.
        seed: of the order, the crops, dropout and the random weights.
        rate: peak learning rate; ``rates`` says others by prefix of the parameters' names, and ``layer_decay``
            multiplies once for each layer below the head, in networks that say what their layers are.
        warmup: steps of linear rise, in at most a tenth of the run; then a cosine down to ``floor`` times the peak.
        decay: AdamW's weight decay, for matrices and kernels (not for biases and norms).
        clip: largest norm of the gradient; 0 for any.
        ema: how much the moving average of the weights keeps at each step; 0 for no average.
        select: the ``last`` weights, or the ``best`` on the validation part, by SRCC.
        validate: steps between validations; 0 for once an epoch. The last step always validates.
        depth: what the network sees for depth: the picture's ``own``, or a control: ``constant``, another picture's
            (``shuffled``); ``none`` where the recipe names no depth card.
        statistics: pictures shown to networks that take statistics from them before the first step.
        amp: automatic mixed precision, on a GPU.
        workers: threads that read pictures ahead.
        checkpoint, log: steps between checkpoints, and between lines of the log.
    """

    epochs: float = 5.0
    steps: int = 0
    batch: int = 16
    accumulate: int = 1
    short_side: int = 0
    crop: int = 0
    whole: float = 0.0
    flip: bool = True
    seed: int = 0
    rate: float = 1e-3
    rates: dict[str, float] = field(default_factory=dict)
    layer_decay: float = 1.0
    warmup: int = 200
    floor: float = 0.01
    decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    select: Literal["last", "best"] = "last"
    validate: int = 0
    depth: Literal["own", "constant", "shuffled", "none"] = "own"
    statistics: int = 512
    amp: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 2
    checkpoint: int = 200
    log: int = 20

    def check(self) -> None:
        """Raises ValueError for numbers that make no run."""
        for name in ("batch", "accumulate", "checkpoint", "log", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("steps", "short_side", "crop", "seed", "warmup", "clip", "decay", "validate", "statistics"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.epochs < 0:
            raise ValueError("epochs must not be negative")
        if self.batch % self.accumulate:
            raise ValueError(f"batch = {self.batch} has no {self.accumulate} equal parts (accumulate)")
        if any(rate < 0 for rate in (self.rate, *self.rates.values())):
            raise ValueError("rates must not be negative")
        if not (0 <= self.ema < 1 and 0 <= self.floor <= 1 and 0 < self.layer_decay <= 1):
            raise ValueError("ema lies in 0..1 (below 1), floor in 0..1, layer_decay in 0..1 (above 0)")
        if not 0 <= self.whole <= 1:
            raise ValueError("whole lies in 0..1")


@dataclass(frozen=True)
class Loss:
    """Weights of the losses, each explained in :mod:`dgiqa.training.losses`; 0 leaves one out.

    Attributes:
        margin: of ``rank``, in MOS units (0..1).
        scale: of ``fidelity``: the deviation of one score, in MOS units.
    """

    l1: float = 0.0
    mse: float = 0.0
    plcc: float = 0.0
    plcc_mse: float = 0.0
    rank: float = 0.0
    fidelity: float = 0.0
    norm_in_norm: float = 0.0
    spread: float = 0.0
    distil: float = 0.0
    ladder: float = 0.0
    margin: float = 0.02
    scale: float = 0.1

    def check(self) -> None:
        """Raises ValueError for a negative weight, or nothing to learn from."""
        values = dataclasses.asdict(self)
        if negative := [name for name, value in values.items() if value < 0]:
            raise ValueError(f"{negative[0]} must not be negative")
        if not any(value for name, value in values.items() if name not in ("margin", "scale", "spread")):
            raise ValueError("every weight is 0: there is nothing to learn from")
        if not self.scale:
            raise ValueError("scale must be positive")


@dataclass(frozen=True)
class Ladders:
    """Pictures spoiled by a known fault, for ranking: more of a fault is worse.

    Attributes:
        pairs: in each step, of all processes together; 0 for no ladders.
        start: the share of the run after which they join.
        kinds: kinds of distortion, or ``all``, ``kadid``, ``natural``, with their shares.
        without: kinds that are left out of these, to judge by them how training carries over to others.
        severities: those that are drawn from; unspoiled is always one of a ladder's rungs.
        pool: how many different ladders there are; 0 draws a new one each time.
        loss: ``margin``: the worse one lies ``margin`` × steps of severity lower; ``fidelity``: it is the worse one
            with certainty.
        margin: of the raw score, for each step of severity.
        pictures: folder of unrated pictures to spoil; empty for the pictures that are trained on alone.
        share: of the ladders, how many spoil a picture of that folder; the others one that is trained on.
    """

    pairs: int = 0
    start: float = 0.6
    kinds: dict[str, float] = field(default_factory=lambda: {"all": 1.0})
    without: tuple[str, ...] = ()
    severities: tuple[int, ...] = SEVERITIES
    pool: int = 2500
    loss: Literal["margin", "fidelity"] = "margin"
    margin: float = 0.03
    pictures: str = ""
    share: float = 1.0

    def check(self) -> None:
        """Raises ValueError for unknown kinds or severities, and for shares that make no sense."""
        if unknown := [kind for kind in self.kinds if kind not in (*KINDS, *GROUPS)]:
            raise ValueError(f"kinds: {unknown[0]!r} is unknown; known: {', '.join((*GROUPS, *KINDS))}")
        if unknown := [kind for kind in self.without if kind not in KINDS]:
            raise ValueError(f"without: {unknown[0]!r} is unknown; known: {', '.join(KINDS)}")
        if not self.kinds or not self.shares() or any(not share > 0 for share in self.kinds.values()):
            raise ValueError("kinds: each share must be positive")
        if not self.severities or set(self.severities) - set(SEVERITIES):
            raise ValueError("severities are 1 to 5")
        if self.pairs < 0 or self.pool < 0 or self.margin < 0:
            raise ValueError("pairs, pool and margin must not be negative")
        if not 0 <= self.start <= 1 or not 0 <= self.share <= 1:
            raise ValueError("start and share lie in 0..1")

    def shares(self) -> dict[str, float]:
        """Each kind's probability; they sum to 1."""
        found: dict[str, float] = {}
        for name, share in self.kinds.items():
            named = kinds_of(name) if name in GROUPS else (name,)
            members = [kind for kind in named if kind not in self.without]
            for kind in members:
                found[kind] = found.get(kind, 0.0) + share / len(members)
        total = sum(found.values())
        return {kind: share / total for kind, share in found.items()}


@dataclass(frozen=True)
class Probe:
    """A head start: the head alone, trained before the run on statistics of whole pictures that are computed once.

    For networks that offer it, see :mod:`dgiqa.training.probe`; the first set and the ladders' kinds are its data.

    Attributes:
        epochs: passes over the pictures; 0 for none.
        batch, rate, decay: pictures a step, the peak rate of its cycle, AdamW's weight decay.
        ladders: how many ladders of spoiled pictures are measured for it.
        pairs: rungs of these compared in each step.
    """

    epochs: float = 0.0
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.05
    ladders: int = 0
    pairs: int = 16

    def check(self) -> None:
        """Raises ValueError for numbers that make no run."""
        if self.epochs < 0 or self.batch < 1 or self.rate <= 0 or min(self.decay, self.ladders, self.pairs) < 0:
            raise ValueError("batch and rate must be positive; epochs, decay, ladders and pairs not negative")


@dataclass(frozen=True)
class Words:
    """How the run's result is written down, and what its card says that no run can know.

    Attributes:
        name: of the card; the recipe's file name by default.
        half: the chosen weights are rounded to 16 bits, judged and stored so: half the size of the file.
        version, summary, data, teachers, licence: as in a model card.
    """

    name: str = ""
    version: str = "0.1"
    summary: str = ""
    data: str = ""
    teachers: str = "none"
    half: bool = False
    licence: Licence = field(
        default_factory=lambda: Licence("Apache-2.0", "yours to state", "unstated", "A draft: state the terms.")
    )


@dataclass(frozen=True)
class Plan:
    """A whole recipe. ``name`` and ``folder`` follow from the file's place."""

    model: Model
    data: tuple[DataSet, ...]
    loss: Loss
    train: Train = field(default_factory=Train)
    ladders: Ladders = field(default_factory=Ladders)
    probe: Probe = field(default_factory=Probe)
    card: Words = field(default_factory=Words)
    name: str = ""
    folder: Path = field(default=Path(), repr=False)

    @property
    def crop(self) -> int:
        """Side of the crops that are trained on; 0 for whole pictures."""
        return self.train.crop or self.model.recipe.crop

    @property
    def seen(self) -> Recipe:
        """How pictures are brought to the network in training."""
        return dataclasses.replace(self.model.recipe, short_side=self.train.short_side or self.model.recipe.short_side)

    def check(self) -> None:
        """Raises ValueError when the tables contradict each other."""
        recipe, keys = self.seen, [part.key for part in self.data]
        if not self.data:
            raise ValueError("data: at least one set is needed")
        if len(set(keys)) < len(keys):
            raise ValueError(f"data: two sets are called {max(keys, key=keys.count)!r}; give one another name")
        if self.crop > recipe.short_side or self.crop % recipe.multiple:
            raise ValueError(
                f"train.crop = {self.crop} must be a multiple of {recipe.multiple} and at most the short side, "
                f"{recipe.short_side}"
            )
        self._check_kept()
        if self.train.short_side and (recipe.views != "whole" or not self.model.recipe.short_side):
            raise ValueError(f"train.short_side = {self.train.short_side} goes with views = 'whole' and a short side")
        if recipe.crop and self.train.crop not in (0, recipe.crop):
            raise ValueError(f"train.crop = {self.train.crop}, but the views are crops of {recipe.crop}")
        if recipe.crop and self.train.whole:
            raise ValueError(f"train.whole = {self.train.whole}, but the views are crops of {recipe.crop}")
        if not (self.train.steps or self.train.epochs or self.probe.epochs):
            raise ValueError("train.epochs = 0 trains nothing, unless probe.epochs gives the head a start")
        if bool(recipe.depth) == (self.train.depth == "none"):
            raise ValueError("train.depth = 'none' goes with a recipe without a depth card, and only with it")
        held = all(part.validation.share or part.validation.split for part in self.data[:1])
        if self.train.select == "best" and not held:
            raise ValueError("train.select = 'best' needs a validation part of the first set")
        if bool(self.ladders.pairs) != bool(self.loss.ladder):
            raise ValueError("ladders.pairs and loss.ladder go together: one of them is 0")
        if self.probe.ladders and not self.ladders.pairs:
            raise ValueError("probe.ladders need the kinds of [ladders]: set ladders.pairs and loss.ladder")
        if bool(self.loss.distil) != any(part.targets for part in self.data):
            raise ValueError("loss.distil and data.targets go together: one of them is missing")

    def _check_kept(self) -> None:
        if self.model.kept < 0:
            raise ValueError("model.kept must not be negative")
        if not self.model.kept:
            return
        if self.ladders.pairs and not self.ladders.pool:
            raise ValueError("model.kept goes with ladders that come again: set ladders.pool")
        if self.crop % CELL or self.train.flip or self.model.recipe.views != "whole":
            raise ValueError(
                f"model.kept goes with views = 'whole', train.flip = false, and crops by cells of {CELL} pixels"
            )

    def place(self, file: str) -> Path:
        """A file that the recipe names: as it stands if it is there, else beside the recipe."""
        path = Path(file).expanduser()
        return path if path.is_absolute() or path.exists() else self.folder / path

    def deciding(self) -> dict[str, Any]:
        """Every value that the weights depend on, by its dotted key, as plain JSON values."""
        flat = dict(_flatten(json.loads(json.dumps(dataclasses.asdict(self), default=str))))
        left = {key: value for key, value in flat.items() if key not in _FREE and not key.startswith("card.")}
        return {key: v for key, v in left.items() if key not in ("name", "folder") and not key.endswith(".root")}

    def as_toml(self) -> str:
        """The recipe as a file that reads back as the same."""
        return as_toml(self, leave=("name", "folder"))


def read_recipe(path: Path, settings: Iterable[str] = ()) -> Plan:
    """The plan in the file at ``path``, with ``settings`` such as ``train.epochs=3`` put over it.

    Raises:
        UsageError: naming the file or setting and the key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the recipe can't be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from error
    for setting in settings:
        _put(table, setting)
    for forbidden in ("name", "folder"):
        if forbidden in table:
            raise UsageError(f"{path}: {forbidden}: follows from the file's place and can't be set")
    try:
        plan: Plan = from_table(Plan, table, str(path))
    except CardError as error:
        raise UsageError(error.message, hint=error.hint) from error
    return dataclasses.replace(plan, name=plan.card.name or path.stem, folder=path.parent)


def _put(table: dict[str, Any], setting: str) -> None:
    """Puts ``key=value`` into the tables; a number in the key counts into a list, from 0."""
    key, equals, text = setting.partition("=")
    *way, last = key.strip().split(".")
    if not equals or not last or not all(way):
        raise UsageError(f"--set {setting}: not of the form key=value", hint="such as --set train.epochs=3")
    place: Any = table
    try:
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        if not isinstance(place, (dict, list)):
            raise TypeError
        key_or_index: Any = int(last) if isinstance(place, list) else last
        place[key_or_index] = _value(text)
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--set {setting}: the recipe has no such place", hint="lists are counted from 0: data.0.split"
        ) from error


def _value(text: str) -> Any:
    """A TOML value; what is none is taken as the text it is, so that words need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _flatten(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        items = enumerate(value)
    else:
        yield key, value
        return
    for name, item in items:
        yield from _flatten(item, f"{key}.{name}" if key else str(name))

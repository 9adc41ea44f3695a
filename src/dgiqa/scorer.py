"""The main path: source → Image → Views → raw → Score, on one screen.

    path ─decode→ Image ──make_views──→ Views ─Runtime.run→ raw (V,) or ─mean, calibrate→ Score 0–100, low–high
                  └──── depth ────┘   uint8                (V, 2) float32
                  └─ once more for each further judge, of a card with an ensemble ─┘

A score is a function of the pixels and the model card: not of the batch, the order, a seed or the source's kind.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from dgiqa.cards import ModelCard
from dgiqa.errors import ImageError, ImageTooSmall, ReferenceMismatch, UsageError, WeightsError
from dgiqa.explain import Explanation, explain, open_explainer
from dgiqa.explain.landmarks import FaceBox, locate_face, open_landmarks
from dgiqa.imaging import decode
from dgiqa.imaging.resize import fit
from dgiqa.imaging.views import DepthMap, make_views
from dgiqa.judges import Judge, open_judges
from dgiqa.models import find_card, member_cards
from dgiqa.runtimes import Runtime, fastest
from dgiqa.sources import Found, Held
from dgiqa.stream import batched, in_order
from dgiqa.types import Failure, Float32, Image, Result, Score, Views

Source: TypeAlias = decode.Source | Found | Held
A = TypeVar("A")
B = TypeVar("B")

#: Pictures of more megapixels are refused, unless the caller says otherwise.
MAX_MEGAPIXELS = 250.0


class Scorer:
    """Scores pictures with one model. Safe to share by threads.

    Made by :func:`load`; built by hand from a card, a runtime and a depth map for tests and controls.
    """

    def __init__(
        self,
        card: ModelCard,
        network: Runtime,
        depth: DepthMap | None = None,
        *,
        others: Sequence[Judge] = (),
        model: str | None = None,
        runtime: str = "",
        max_megapixels: float = MAX_MEGAPIXELS,
        fast: bool = False,
    ) -> None:
        self.card = card
        self.model, self.runtime = model or card.label, runtime
        self.max_megapixels = max_megapixels
        self._judges = (Judge(card.recipe, network, depth), *others)
        recipes = [judge.recipe for judge in self._judges]
        self._least_side = math.ceil(card.recipe.reduce * max(recipe.short_side for recipe in recipes)) if fast else 0
        self._fitted = recipes if all(recipe.depth_from == "resized" for recipe in recipes) else []
        self._explainer = cache(partial(open_explainer, card))
        self._finder = cache(open_landmarks)

    def score(self, source: Source | Compared, *, ref: Source | None = None, name: str | None = None) -> Score:
        """The score of one picture: a path, encoded bytes, a PIL image, or an (H, W[, 3 or 4]) uint8 array.

        Args:
            ref: the pristine original, for a model that compares with one; of the same size.
            name: how messages and the row call the picture, if not by its path.

        Raises:
            ImageError: the picture can't be had, decoded, or is too large, or its original is of another size; the
                message names it.
            UsageError: the model compares and there is no original, or the other way round.
        """
        if ref is not None:
            picture = _paired(source)
            if isinstance(picture, Compared):
                raise UsageError("the picture has an original already", hint="leave ref out")
            source = Compared(picture, ref)
        seen = self._see(source, name)
        return self._judge(seen, self._ask([seen])[0])

    def explain(
        self,
        source: Source,
        *,
        name: str | None = None,
        landmarks: npt.ArrayLike | None = None,
        face: FaceBox | None = None,
    ) -> Explanation:
        """The score of one picture and its reasons: depth, quality of each part, faults, sharpness of what is near.

        Its score is that of :meth:`score`, to the last bit. Costs less than three scores.

        Args:
            landmarks: (K, 2) x and y of a face in pixels of the upright picture, from its upper left corner, in the
                order of 300-W (68), WFLW (98) or COFW (29): how sharp the eyes and the face are is told, too.
            face: left, top, right and bottom of a face in such pixels: its landmarks are found by ``fifa.mobile``.

        Raises:
            ImageError: as :meth:`score`.
            UsageError: landmarks of another number or shape, none of which is in the picture; or both they and a face.
            WeightsError: the file that continues the card's network to an explanation is missing or damaged.
        """
        image = self._decode(source, name)
        seen = self._see(image)
        raws = self._ask([seen])[0]
        views = seen.views[0]
        picture = fit(image.pixels, self.card.recipe, image.full)
        explainer = self._explainer() if views.depth is not None else None
        located = locate_face(image, picture, landmarks, face, self._finder)
        return explain(self._judge(seen, raws), views, raws[0], picture, self.card, explainer, located)

    def score_all(self, sources: Iterable[Source | Compared], *, workers: int = 1, batch: int = 1) -> Generator[Result]:
        """A :class:`Score` or :class:`Failure` for each source, in order, in bounded memory.

        Args:
            sources: any iterable, an endless one too. Images and arrays may change once they are taken.
            workers: threads; each has one picture's pixels in hand per ``batch``.
            batch: pictures that go to the network together. A GPU wants several; a CPU gains nothing.
                Neither changes a score.
        """
        if workers < 1 or batch < 1:
            raise UsageError(f"workers = {workers}, batch = {batch}: both must be at least 1")
        if isinstance(sources, (str, os.PathLike, bytes)):
            raise UsageError("score_all takes several sources", hint="put the one into a list, or use score")
        return self._stream(sources, workers, batch)

    def _stream(self, sources: Iterable[Source | Compared], workers: int, batch: int) -> Generator[Result]:
        held = (self._hold(source) for source in sources)
        with closing(in_order(self.score_batch, batched(held, batch), workers)) as batches:
            for results in batches:
                yield from results

    def score_batch(self, sources: Sequence[Source | Compared | Image | Failure]) -> list[Result]:
        """A :class:`Score` or :class:`Failure` for each source, in order; their views go to the network together.

        Any number of threads and processes may call it: it is what every executor runs.
        """
        seen = [s if isinstance(s, Failure) else self._attempt(self._see, s) for s in sources]
        raws = iter(self._ask([item for item in seen if isinstance(item, _Seen)]))
        return [self._judge(item, next(raws)) if isinstance(item, _Seen) else item for item in seen]

    def _hold(self, source: Source | Compared | Image) -> Source | Compared | Image | Failure:
        """What can't change any more: pictures in memory are decoded before their owner goes on."""
        if isinstance(source, Compared):
            both = self._hold(source.source), self._hold(source.reference)
            fault = next((each for each in both if isinstance(each, Failure)), None)
            return replace(fault, path=_name(source)) if fault else Compared(*both)  # type: ignore[arg-type]
        if isinstance(source, (str, os.PathLike, bytes, Found, Held, Image)):
            return source
        return self._attempt(self._decode, source)

    def _attempt(self, step: Callable[[A], B], source: A) -> B | Failure:
        """``step`` of a source; a picture's fault becomes its row."""
        try:
            return step(source)
        except ImageError as error:
            return Failure(_name(source), error, self.model, runtime=self.runtime)

    def check_reference(self, given: bool) -> None:
        """Pictures must come with originals if the model compares, and only then; ``given`` says whether they do.

        Raises:
            UsageError: it compares and there are none, or the other way round.
        """
        if given and self.card.reference == "none":
            raise UsageError(f"{self.card.name} compares with no original", hint="leave the reference out")
        if not given and self.card.reference == "full":
            raise UsageError(
                f"{self.card.name} compares a picture with its original, and there is none",
                hint="give it: --ref REF, or Scorer.score(picture, ref=original)",
            )

    def _see(self, source: Source | Image | Compared, name: str | None = None) -> _Seen:
        source = _paired(source)
        if isinstance(source, Compared):
            self.check_reference(True)
            return self._compare(source, name)
        if isinstance(source, Found) and source.error:
            raise source.error
        self.check_reference(False)
        image = self._large_enough(source if isinstance(source, Image) else self._decode(source, name))
        views = tuple(judge.see(image.at(place)) for place, judge in enumerate(self._judges))
        notes = (*image.notes, *_small(image, self.card))
        return _Seen(image.name, image.width, image.height, notes, views)

    def _compare(self, pair: Compared, name: str | None) -> _Seen:
        image = pair.source if isinstance(pair.source, Image) else self._decode(pair.source, name)
        try:
            original = pair.reference if isinstance(pair.reference, Image) else self._decode(pair.reference)
        except ImageError as error:
            raise type(error)(f"{image.name}: its original {error.message}", hint=error.hint) from error
        sizes = [f"{each.width}×{each.height}" for each in (image, original)]
        if sizes[0] != sizes[1]:
            raise ReferenceMismatch(
                f"{image.name}: {sizes[0]}, but its original {original.name} is {sizes[1]}",
                hint="compare pictures of one size",
            )
        views = make_views(self._large_enough(image), self.card.recipe)
        views = replace(views, reference=make_views(original, self.card.recipe).color)
        notes = (*image.notes, *(f"original: {note}" for note in original.notes))
        return _Seen(image.name, image.width, image.height, notes, (views,))

    def _ask(self, several: Sequence[_Seen]) -> list[tuple[Float32, ...]]:
        """Of each picture what each judge gives; their views go to a judge together."""
        of_judges = [judge.raws([seen.views[i] for seen in several]) for i, judge in enumerate(self._judges)]
        return list(zip(*of_judges, strict=True))

    def _large_enough(self, image: Image) -> Image:
        least = max(judge.recipe.least for judge in self._judges)
        if min(image.width, image.height) < least:
            raise ImageTooSmall(
                f"{image.name}: {image.width}×{image.height}, and {self.card.name} needs {least} pixels a side",
                hint="choose another model",
            )
        return image

    def _decode(self, source: Source, name: str | None = None) -> Image:
        if isinstance(source, Found):
            if source.error:
                raise source.error
            source = source.path if source.origin is None else Held(source.path, source.origin.read())
        if isinstance(source, Held):
            name, source = source.path, source.data
        return decode.decode(
            source,
            name=name,
            background=self.card.recipe.background,
            max_megapixels=self.max_megapixels,
            least_side=self._least_side,
            fitted=self._fitted,
        )

    def _judge(self, seen: _Seen, raws: Sequence[Float32]) -> Score:
        """From each judge's (V,) raw scores, or (V, 2) raw scores and their spreads."""
        means = [self._mean(seen, views, of_views) for views, of_views in zip(seen.views, raws, strict=True)]
        raw, spread = self._weighted([mean[0] for mean in means]), self._weighted([mean[1] for mean in means])
        assert raw is not None
        quality, low, high = self.card.judge(raw, spread)
        sizes = seen.width, seen.height
        return Score(seen.name, quality, raw, self.model, *sizes, seen.notes, low, high, spread, self.runtime)

    def _weighted(self, values: Sequence[float | None]) -> float | None:
        """The mean over the judges that tell a value, as each counts."""
        told = [(value, judge.weight) for value, judge in zip(values, self._judges, strict=True) if value is not None]
        return math.fsum(value * weight for value, weight in told) / math.fsum(w for _, w in told) if told else None

    def _mean(self, seen: _Seen, views: Views, raws: Float32) -> tuple[float, float | None]:
        """Over the views: of the raw scores, and of the spreads where there are any."""
        columns = raws[None] if raws.ndim == 1 else raws.T
        shapes = (len(views),), (len(views), 2)
        if raws.shape not in shapes or not np.isfinite(raws).all() or (columns[1:] < 0).any():
            raise WeightsError(  # never invent a score
                f"{self.model} gave {raws.shape} values for {len(views)} views of {seen.name}, or one that is no "
                "number, or a negative spread",
                hint="its weights are damaged, or belong to another network",
            )
        raw, *spread = (float(np.mean(column, dtype=np.float64)) for column in columns)
        return raw, spread[0] if spread else None


@dataclass(frozen=True)
class Compared:
    """A picture and its pristine original, where a list of sources is asked for; as is a Found with its reference."""

    source: Source | Image
    reference: Source | Image


@dataclass(frozen=True)
class _Seen:
    """What is kept of a picture once its views are made; its pixels are not."""

    name: str
    width: int
    height: int
    notes: tuple[str, ...]
    views: tuple[Views, ...]  # each judge's


def load(
    name: str | Path = "default",
    runtime: str | None = None,
    *,
    depth: str | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    fast: bool = False,
) -> Scorer:
    """The scorer of the model ``name``: ``default``, a card's name, or the path of a card of your own.

    Args:
        name: see ``dgiqa models``.
        runtime: ``onnx``, ``openvino``, ``torch`` or ``numpy``; ``auto`` measures which of those installed is fastest,
            of an ensemble for its first network; None, like the command, takes the first that the card has weights
            for: ``onnx`` for the embedded ones.
            Scores of one differ from another's by less than 1e-4 of the raw score; within one they are the same to the
            last bit.
        depth: another depth card than the model's own; rows then say so, for it is another score.
        max_megapixels: pictures larger than this are refused.
        fast: JPEGs are decoded at a reduced scale as far as the card's recipe allows, that of an ensemble for all its
            networks; rows say so, for it moves scores.

    Raises:
        ModelNotFound, CardError, RuntimeMissing, WeightsError: each with the way out.
    """
    card = find_card(name)
    if card.kind != "quality":
        raise UsageError(f"{card.name} is a {card.kind} card, it gives no score", hint="dgiqa models lists them")
    if not max_megapixels > 0:
        raise UsageError(f"max_megapixels = {max_megapixels}: nothing is that small", hint="give a positive number")
    if fast and (not card.recipe.reduce or any(each.recipe.needs_every_pixel for each in member_cards(card))):
        raise UsageError(f"{card.name} allows no decoding at a reduced scale", hint="leave fast, or --fast, out")
    runtime = fastest(card) if runtime == "auto" else runtime or next(iter(card.weights))
    opened = open_judges(card, runtime, depth)
    first, *others = opened.judges
    return Scorer(
        card,
        first.network,
        first.depth,
        others=others,
        model=opened.model + ("+fast" if fast else ""),
        runtime=opened.runtime,
        max_megapixels=max_megapixels,
        fast=fast,
    )


def _small(image: Image, card: ModelCard) -> tuple[str, ...]:
    """A note on a picture of less than half the side that the network looks at: enlarging invents no detail."""
    wanted = card.recipe.short_side
    if 2 * min(image.width, image.height) >= wanted:
        return ()
    return (f"{image.width}×{image.height} was enlarged to a short side of {wanted}: so small a picture scores low",)


def _paired(source: Source | Image | Compared) -> Source | Image | Compared:
    """What was found together with its original, as the pair that it is."""
    if isinstance(source, (Found, Held)) and source.reference is not None:
        return Compared(source, source.reference)
    return source


def _name(source: Any) -> str:
    """How a row calls a source, decoded or not."""
    if isinstance(source, Compared):
        return _name(source.source)
    if isinstance(source, (Found, Held)):
        return source.path
    return source.name if isinstance(source, Image) else decode.name_of(source)

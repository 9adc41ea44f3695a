"""The main path: source → Image → Views → raw → Score, on one screen.

    path ─decode→ Image ──make_views──→ Views ─Runtime.run→ raw (V,) ─mean, calibrate→ Score 0–100
                  └──── depth ────┘   uint8                float32

A score is a function of the pixels and the model card: not of the batch, the order, a seed or the source's kind.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image

from dgiqa.cards import ModelCard
from dgiqa.depth import DepthMap, open_depth
from dgiqa.errors import ImageError, UsageError, WeightsError
from dgiqa.imaging.decode import decode
from dgiqa.imaging.find import Found
from dgiqa.imaging.views import make_views
from dgiqa.models import find_card
from dgiqa.runtimes import Runtime, open_runtime
from dgiqa.stream import batched, in_order
from dgiqa.types import Failure, Image, Result, Score, UInt8, Views
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import fingerprint

Source: TypeAlias = str | Path | bytes | PIL.Image.Image | UInt8 | Found

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
        model: str | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self.card = card
        self.model = model or card.label
        self.max_megapixels = max_megapixels
        self._network = network
        self._depth = depth

    def score(self, source: Source, *, name: str | None = None) -> Score:
        """The score of one picture: a path, encoded bytes, a PIL image, or an (H, W[, 3 or 4]) uint8 array.

        Raises:
            ImageError: the picture can't be had, decoded, or is too large; the message names it.
        """
        image, views = self._see(source, name)
        return self._judge(image, self._network.run(views))

    def score_all(self, sources: Iterable[Source], *, workers: int = 1, batch: int = 1) -> Iterator[Result]:
        """A :class:`Score` or :class:`Failure` for each source, in order, in bounded memory.

        Args:
            sources: any iterable, an endless one too.
            workers: threads; each has one picture's pixels in hand per ``batch``.
            batch: pictures that go to the network together. A GPU wants several; a CPU gains nothing.
                Neither changes a score.
        """
        if workers < 1 or batch < 1:
            raise UsageError(f"workers = {workers}, batch = {batch}: both must be at least 1")
        return chain.from_iterable(in_order(self._score_batch, batched(sources, batch), workers))

    def _see(self, source: Source, name: str | None = None) -> tuple[Image, Views]:
        if isinstance(source, Found):
            if source.error:
                raise source.error
            source = source.path
        recipe = self.card.recipe
        image = decode(source, name=name, background=recipe.background, max_megapixels=self.max_megapixels)
        return image, make_views(image, recipe, self._depth)

    def _judge(self, image: Image, raws: np.ndarray) -> Score:
        raw = float(np.mean(raws, dtype=np.float64))
        if not math.isfinite(raw):  # never a number that was not measured
            raise WeightsError(f"{self.model} gave {raw} for {image.name}", hint="its weights are damaged")
        quality = self.card.calibration.apply(raw)
        return Score(image.name, quality, raw, self.model, image.width, image.height, image.notes)

    def _score_batch(self, sources: list[Source]) -> list[Result]:
        seen: list[tuple[Image, Views] | Failure] = []
        for source in sources:
            try:
                seen.append(self._see(source))
            except ImageError as error:
                seen.append(Failure(_name(source), error, self.model))
        raws = iter(_run_together(self._network, [item[1] for item in seen if not isinstance(item, Failure)]))
        return [item if isinstance(item, Failure) else self._judge(item[0], next(raws)) for item in seen]


def load(
    name: str | Path = "default",
    runtime: str | None = "onnx",
    *,
    depth: str | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Scorer:
    """The scorer of the model ``name``: ``default``, a card's name, or the path of a card of your own.

    Args:
        name: see ``dgiqa models``.
        runtime: ``onnx`` or ``torch``; None takes the first that the card has weights for.
        depth: another depth card than the model's own; rows then say so, for it is another score.
        max_megapixels: pictures larger than this are refused.

    Raises:
        ModelNotFound, CardError, RuntimeMissing, WeightsError: each with the way out.
    """
    card = find_card(name)
    if card.kind != "quality":
        raise UsageError(f"{card.name} estimates {card.kind}, it gives no score", hint="dgiqa models lists them")
    if depth and not card.recipe.depth:
        raise UsageError(f"{card.name} looks at no depth", hint="leave depth out")
    model = _label(card, runtime) + (f"+{depth}" if depth and depth != card.recipe.depth else "")
    depth = depth or card.recipe.depth
    depth_map = open_depth(depth, runtime) if depth else None
    network = open_runtime(card, runtime)
    return Scorer(card, network, depth_map, model=model, max_megapixels=max_megapixels)


def _label(card: ModelCard, runtime: str | None) -> str:
    """Name and version; weights that the card can't name by checksum are named by their own."""
    weights = card.weights.get(runtime or "") or next(iter(card.weights.values()))
    if weights.sha256:
        return card.label
    kind = next(kind for kind, file in card.weights.items() if file is weights)
    return f"{card.label}+{fingerprint(locate(card, kind))}"


def _run_together(network: Runtime, several: list[Views]) -> list[np.ndarray]:
    """Raw scores of each picture's views; pictures with views of one shape go to the network in one call."""
    results: dict[int, np.ndarray] = {}
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i, views in enumerate(several):
        shapes.setdefault(views.color.shape[1:], []).append(i)
    for members in shapes.values():
        together = _stack([several[i] for i in members])
        cuts = np.cumsum([len(several[i]) for i in members])[:-1]
        results.update(zip(members, np.split(network.run(together), cuts), strict=True))
    return [results[i] for i in range(len(several))]


def _stack(several: list[Views]) -> Views:
    if len(several) == 1:
        return several[0]
    depths = [views.depth for views in several if views.depth is not None]
    return Views(np.concatenate([views.color for views in several]), np.concatenate(depths) if depths else None)


def _name(source: Source) -> str:
    if isinstance(source, Found):
        return source.path
    if isinstance(source, (str, Path)):
        return os.fspath(source)
    return "<bytes>" if isinstance(source, bytes) else "<image>" if isinstance(source, PIL.Image.Image) else "<array>"

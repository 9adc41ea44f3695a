"""Judges: the networks whose raw scores a model's is the weighted mean of, each with its own look at a picture.

A card has one judge; one with an ensemble has one more for each of its members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgiqa.cards import ModelCard, Recipe
from dgiqa.depth import DepthEstimator, open_depth
from dgiqa.errors import CardError, UsageError
from dgiqa.imaging.views import DepthMap, make_views
from dgiqa.models import depth_card, member_cards
from dgiqa.runtimes import Runtime, open_runtime, weights_for
from dgiqa.types import Float32, Image, Views
from dgiqa.weights.fetch import is_built_in, locate
from dgiqa.weights.files import fingerprint


@dataclass(frozen=True)
class Judge:
    """A network, how it sees a picture, and how much it counts."""

    recipe: Recipe
    network: Runtime
    depth: DepthMap | None = None
    weight: float = 1.0

    def see(self, image: Image) -> Views:
        """The picture's views, as the recipe makes them."""
        return make_views(image, self.recipe, self.depth)

    def raws(self, several: Sequence[Views]) -> list[Float32]:
        """Of each picture's views what :meth:`Runtime.run` gives; those of one shape go to the network in one call."""
        results: dict[int, Float32] = {}
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, views in enumerate(several):
            shapes.setdefault(views.color.shape[1:], []).append(i)
        for members in shapes.values():
            together = _stack([several[i] for i in members])
            cuts = np.cumsum([len(several[i]) for i in members])[:-1]
            results.update(zip(members, np.split(self.network.run(together), cuts), strict=True))
        return [results[i] for i in range(len(several))]


class Judges(NamedTuple):
    """What a card's judges are, and what rows say of them."""

    judges: tuple[Judge, ...]
    model: str
    runtime: str


def open_judges(card: ModelCard, runtime: str, depth: str | None = None) -> Judges:
    """The card's judges, its own first.

    Args:
        runtime: of every network that has weights for it; others run in the first that they have weights for.
        depth: another depth card for those that look at depth; the model's name then says so.

    Raises:
        UsageError: there is a depth card, and no judge looks at depth.
        ModelNotFound, CardError, RuntimeMissing, WeightsError: each with the way out.
    """
    asked = networks(card, runtime)
    cards = [each for each, _ in asked]
    if any(each.recipe.background != card.recipe.background for each in cards):
        raise CardError(f"{card.name}: ensemble: its networks need one background under transparent pixels")
    if depth and not any(each.recipe.depth for each in cards):
        raise UsageError(f"{card.name} looks at no depth", hint="leave depth out")
    judges, fed_by, runs = [], [], []
    estimators: dict[tuple[Path | str, str], DepthEstimator] = {}  # one for all networks that it feeds
    weights = [1.0, *(member.weight for member in card.ensemble)]
    for (each, chosen), weight in zip(asked, weights, strict=True):
        network, estimator = open_runtime(each, chosen), None
        if own := depth_card(each):
            key = depth or own.folder / own.file, chosen
            estimator = estimators[key] = estimators.get(key) or open_depth(depth or own, chosen)
            if (seen_by := label((estimator.card, chosen))) != own.label:
                fed_by.append(seen_by)
        judges.append(Judge(each.recipe, network, estimator, weight))
        kind = weights_for(each, chosen)
        runs.append(f"{chosen} {each.weights[kind].precision}" if kind else chosen)
    return Judges(tuple(judges), "+".join([label(*asked), *_once(fed_by)]), "+".join(_once(runs)))


def networks(card: ModelCard, runtime: str) -> list[tuple[ModelCard, str]]:
    """The cards of the networks that ``card``'s score is the mean of, its own first, and the runtime of each: the asked
    one, for a further network without weights for it the first that it has weights for.

    Raises:
        ModelNotFound, CardError, RuntimeMissing: each with the way out.
    """
    members = member_cards(card)
    return [(card, runtime), *((each, runtime if weights_for(each, runtime) else _first(each)) for each in members)]


def label(*asked: tuple[ModelCard, str]) -> str:
    """Name and version of the first of these cards, each with its runtime; where those don't pin all weights down, also
    a checksum.

    That is so for weights whose sum the card doesn't state, and for a card of one's own, which can say anything. The
    latter names a built-in depth network without its version, so that network's weights are in the sum, too.
    """
    files = [file for each, runtime in asked for file in _pins(each, runtime)]
    first = asked[0][0].label
    return f"{first}+{fingerprint(*files)}" if files else first


def _pins(card: ModelCard, runtime: str) -> list[Path]:
    """The files that pin a network's raw scores down, where the name and version of its card don't."""
    if is_built_in(card):  # pinned by its version, where it states its weights' sum
        kind = _kind(card, runtime)
        return [] if card.weights[kind].sha256 else [locate(card, kind)]
    depth = depth_card(card)
    fed_by = [locate(depth, _kind(depth, runtime))] if depth and is_built_in(depth) else []
    return [card.folder / card.file, locate(card, _kind(card, runtime)), *fed_by]


def _kind(card: ModelCard, runtime: str) -> str:
    """The card's weights that the runtime takes, else its first."""
    return weights_for(card, runtime) or _first(card)


def _first(card: ModelCard) -> str:
    return next(iter(card.weights))


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _stack(several: list[Views]) -> Views:
    if len(several) == 1:
        return several[0]
    depths = [views.depth for views in several if views.depth is not None]
    originals = [views.reference for views in several if views.reference is not None]
    return Views(
        np.concatenate([views.color for views in several]),
        np.concatenate(depths) if depths else None,
        reference=np.concatenate(originals) if originals else None,
    )

"""Why a picture scores as it does: its depth, which parts are good, what the network looks at, which faults it has, and
whether what is near is sharp.

    Views ──explainer──→ Seen: parts, attention, faults ──┐
      └──── stitched ──→ picture, depth ──────────────────┴→ Explanation: maps of the picture's size

Nothing here moves a score. A model's card names the file that continues its network to an explanation; of a model
without one there are the depth, the sharpness and, where it scores several views, the quality of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.explain.explainer import Explainer, Seen, open_explainer
from dgiqa.explain.maps import quality_map, spread_out, stitch, weights_of
from dgiqa.explain.sharpness import FaceSharpness, Sharpness, face_sharpness, sharpness
from dgiqa.types import Float32, Score, UInt8, Views

__all__ = ["Explanation", "FaceSharpness", "Fault", "Sharpness", "explain", "open_explainer"]


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        kind: one of the card's ``explain.faults``.
        probability: 0..1, calibrated on photographs whose faults are known.
        severity: 0 (none) to 5 (severe), where the fault is there at all.
        found: whether the probability reaches the card's threshold of that kind.
    """

    kind: str
    probability: float
    severity: float
    found: bool

    @property
    def words(self) -> str:
        """The kind, as people read it."""
        return self.kind.replace("_", " ")


@dataclass(frozen=True)
class Explanation:
    """A score and its reasons. Maps have the size (H, W) of the picture as the network saw it.

    Attributes:
        score: what :meth:`dgiqa.Scorer.score` says of the picture.
        picture: (H, W, 3) uint8 sRGB.
        depth: (H, W) uint8, 255 nearest; None for a model without depth.
        attention: (H, W) how much of depth's attention each place of the colour gets, mean 1; None where the model
            has none.
        quality: (H, W) quality 0..100 of each place, whose mean weighted by ``weights`` is ``score.quality``; None
            for a model that says one number of one view and no more.
        weights: (H, W) how much each place counts to the score, sum 1: places that two views share count twice.
        faults: of each kind, most probable first; empty where the model tells none.
        none: the probability that there is no fault; None where the model tells none.
        sharpness: of what is near, of what is far, and of all; a :class:`FaceSharpness`, where landmarks were given.
        landmarks: (K, 2) x and y of a face in pixels of ``picture``; None where none were given.
    """

    score: Score
    picture: UInt8 = field(repr=False)
    depth: UInt8 | None = field(repr=False)
    attention: Float32 | None = field(repr=False)
    quality: Float32 | None = field(repr=False)
    weights: Float32 = field(repr=False)
    faults: tuple[Fault, ...]
    none: float | None
    sharpness: Sharpness
    landmarks: Float32 | None = field(default=None, repr=False)

    def as_dict(self, grid: int = 16) -> dict[str, Any]:
        """All but the pixels, for JSON; maps as rows of about ``grid`` cells along the short side."""
        return {
            **self.score.as_row(),
            "faults": [
                {
                    "kind": fault.kind,
                    "probability": round(fault.probability, 4),
                    "severity": round(fault.severity, 2),
                    "found": fault.found,
                }
                for fault in self.faults
            ],
            "no_fault": None if self.none is None else round(self.none, 4),
            "sharpness": self.sharpness.as_dict(),
            **self._located(),
            "maps": {
                name: None if values is None else np.round(_cells(values, grid), digits).tolist()
                for name, values, digits in (
                    ("quality", self.quality, 1), ("attention", self.attention, 3), ("depth", self.depth, 0)
                )
            },
        }  # fmt: skip

    def _located(self) -> dict[str, Any]:
        """The landmarks in pixels of the picture as it is, for JSON; nothing where there are none."""
        if self.landmarks is None:
            return {}
        height, width = self.picture.shape[:2]
        places = self.landmarks * (self.score.width / width, self.score.height / height)
        return {"landmarks": np.round(places, 1).tolist()}


def explain(
    score: Score,
    views: Views,
    raws: Float32,
    picture: UInt8,
    card: ModelCard,
    explainer: Explainer | None,
    landmarks: Float32 | None = None,
) -> Explanation:
    """The reasons of ``score``, which the network gave for ``views`` as ``raws``, (V,) or (V, 2).

    Args:
        picture: (H, W, 3) uint8, the picture that the views' boxes lie in.
        explainer: see :func:`open_explainer`; None for a model without one.
        landmarks: (K, 2) of a face, in pixels of ``picture``.
    """
    size = picture.shape[:2]
    depth = None if views.depth is None else stitch(views.depth, views.boxes, size)
    raw = raws if raws.ndim == 1 else raws[:, 0]
    weights = weights_of(views.boxes, size)
    seen = explainer.run(views) if explainer else None
    parts = seen.parts if seen else None
    quality = quality_map(parts, raw, views.boxes, picture, weights, card.calibration, score.quality)
    attention = spread_out(seen.attention, views.boxes, size) if seen else None
    near = None if depth is None else np.asarray(depth / np.float32(255), np.float32)
    seen_share = np.asarray(weights > 0, np.float32)
    faults, none = _faults(seen, card) if seen else ((), None)
    sharp = sharpness(picture, near, seen_share)
    if landmarks is not None:
        sharp = face_sharpness(picture, landmarks, sharp)
    return Explanation(score, picture, depth, attention, quality, weights, faults, none, sharp, landmarks)


def _faults(seen: Seen, card: ModelCard) -> tuple[tuple[Fault, ...], float]:
    """The mean over the views."""
    assert card.explain is not None
    *each, none = seen.faults.mean(0).tolist()
    found = [
        Fault(kind, probability, severity, probability >= least)
        for kind, least, probability, severity in zip(
            card.explain.faults, card.explain.least, each, seen.severities.mean(0).tolist(), strict=True
        )
    ]
    return tuple(sorted(found, key=lambda fault: -fault.probability)), none


def _cells(values: Float32 | UInt8, count: int) -> Float32:
    """(H, W) to means over cells, ``count`` along the short side."""
    height, width = values.shape
    side = max(min(height, width) // count, 1)
    rows, columns = np.arange(0, height - side + 1, side), np.arange(0, width - side + 1, side)
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.float32), rows, 0), columns, 1)
    lengths = [np.diff(np.append(starts, end)) for starts, end in ((rows, height), (columns, width))]
    return np.asarray(sums / np.outer(*lengths), np.float32)

"""The network continued to an explanation: the card's ONNX file and a small one that goes on from its inner values.

An ONNX file is a protobuf message, and two such messages, one behind the other, are read as one whose lists are joined
(protocol buffers, encoding, "Last One Wins": embedded messages are merged). So the second file holds the further nodes,
weights and outputs alone, names values of the first, and repeats none of its weights. ONNX Runtime runs it whatever
runtime the score comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dgiqa.cards import ModelCard
from dgiqa.errors import WeightsError
from dgiqa.runtimes.onnx import files_of, joined, open_session
from dgiqa.types import Float32, Views
from dgiqa.weights.fetch import locate_explanation
from dgiqa.weights.files import sha256_of

#: Outputs of the second file.
OUTPUTS = ("parts", "attention", "faults", "severities")


@dataclass(frozen=True)
class Seen:
    """What the network says of V views.

    Attributes:
        parts: of each view (h, w), the raw score of windows around parts of it.
        attention: of each view (h, w), how much depth looks at each cell, mean 1.
        faults: (V, F + 1) probabilities; the last is that of none.
        severities: (V, F), 0 to 5.
    """

    parts: list[Float32]
    attention: list[Float32]
    faults: Float32
    severities: Float32


class Explainer:
    """Runs the continued network. Safe to share by threads."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, views: Views) -> Seen:
        assert views.depth is not None, "a card with an explanation looks at depth"
        rows = [
            self._session.run(list(OUTPUTS), {"color": views.color[i : i + 1], "depth": views.depth[i : i + 1]})
            for i in range(len(views))
        ]
        parts, attention, faults, severities = zip(*rows, strict=True)
        return Seen(
            [p[0] for p in parts], [a[0] for a in attention], np.concatenate(faults), np.concatenate(severities)
        )


def open_explainer(card: ModelCard) -> Explainer | None:
    """The explainer that the card names; None if it names none.

    Raises:
        WeightsError: a file is missing or damaged, or continues other weights than the card's.
    """
    if card.explain is None:
        return None
    files, more = files_of(card), locate_explanation(card)
    base = files[-1]
    if card.explain.continues != (card.weights["onnx"].sha256 or sha256_of(base)):
        raise WeightsError(
            f"{more}: explains other weights than {base.name}",
            hint="make it anew: python -m dgiqa.training.faults, or take [explain] out of the card",
        )
    session = open_session(joined([*files, more]), name=f"{base} with {more.name}")
    missing = set(OUTPUTS) - {output.name for output in session.get_outputs()}
    if missing:
        raise WeightsError(f"{more}: gives no {', '.join(sorted(missing))}", hint="make it anew")
    return Explainer(session)

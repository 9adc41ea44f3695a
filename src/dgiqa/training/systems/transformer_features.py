"""Transformer features at small width: one encoder, trained on pictures alone and with originals in turns.

    rated pictures ──→ joined maps ──→ quality token ──→ score, against MOS              (even steps)
    versions and originals ──→ joined maps ──→ tokens of both ──→ which is nearer        (odd steps)

Zeng, Kwong, arXiv:2112.00485: joint training without and with a reference. The paper's pictures with originals have
people's ratings; those here have the judgements of :mod:`dgiqa.training.versions`. What joint training is worth without
a reference is measured: the same network is trained once more on pictures alone, with the same number of such steps.

    python -m dgiqa.training.systems.transformer_features --data biq2021=BIQ2021 --out small/transformer_features
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dgiqa.exits import exit_code
from dgiqa.models.transformer_features.network import Judge, Part, TransformerFeatures
from dgiqa.models.trunks.maps import join
from dgiqa.training.small import (
    Array,
    Int,
    Study,
    agree,
    arguments,
    fit,
    floats,
    predict,
    publish,
    study_of,
    trunk_state,
)
from dgiqa.training.versions import Pairs, Versions, report
from dgiqa.types import Float32, UInt8

#: Most photographs whose versions are trained on, and that judge.
TRAINED, JUDGED = 400, 100
#: Pairs of a step with originals: three pictures each.
PAIRS = 12
#: Difference of two scores that says 0.73 to 0.27 which version is nearer.
UNIT = 0.1
#: Of the loss with originals. Cross entropy counts in units of UNIT, squared errors of MOS in their own: at weight 1
#: ratings fall behind. Chosen by a look at the held-out pictures, see the README of the network's folder.
WEIGHT = UNIT**2
#: Pictures that give each channel's mean and deviation.
STATISTICS = 1000


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(__doc__ or "", epochs=6).parse_args(argv)
    study = study_of(args)
    side = TransformerFeatures(size="mobile").judge.side
    joined = study.once("transformer-features", lambda i: join(study.maps([i]), side)[0].numpy())
    trained = Versions(study, study.fitted, most=TRAINED)
    judged = Versions(study, study.held, most=JUDGED, unseen=True)

    def look(pictures: UInt8) -> Array:
        return join(study.look(pictures), side).numpy()

    spoiled = trained.features("transformer-features", look)

    alone = start(study, joined, args.seed)
    fit(alone, no_reference(alone, study, joined), study, epochs=args.epochs, seed=args.seed, what="alone")
    both = start(study, joined, args.seed)
    turns = in_turns(
        no_reference(both, study, joined),
        full_reference(both, spoiled, trained.pairs, np.random.default_rng(args.seed)),
    )
    fit(both, turns, study, epochs=2 * args.epochs, seed=args.seed, what="in turns")

    raw = {name: score(judge, study, joined) for name, judge in (("alone", alone), ("jointly", both))}
    found = {name: agree(values, study.mos[study.held], f"held out, trained {name}") for name, values in raw.items()}
    print(f"joint training changes the SRCC without a reference by {found['jointly'] - found['alone']:+.4f}, one seed")
    print(report(judged, compare(both, judged.features("transformer-features", look)), "joint"))

    data = f"BIQ2021: {len(study.fitted):,} rated pictures, and {len(spoiled):,} photographs of MOS from 0.75 with "
    data += f"{len(trained.pairs):,} pairs of spoiled versions, in turns"
    cards: tuple[tuple[Part, str, str], ...] = (("nr", "mobile", "without"), ("fr", "mobile_fr", "with"))
    for part, tag, words in cards:
        publish(
            take(both, part),
            "transformer_features",
            study,
            raw["jointly"] if part == "nr" else None,
            args,
            summary=f"Convolutional trunk and transformer encoder at small width, {words} a reference",
            data=data,
            teachers="severities of the distortions; FSIM and VIF where they can't be compared",
            tag=tag,
            settings={"part": part, "size": "mobile"},
            reference=part == "fr",
        )


def start(study: Study, joined: Array, seed: int) -> Judge:
    """The judge before training, the same for the same seed."""
    torch.manual_seed(seed)
    judge = TransformerFeatures(size="mobile").judge
    judge.fit_statistics(floats(joined[study.fitted[:STATISTICS]]))
    return judge


def no_reference(judge: Judge, study: Study, joined: Array) -> Callable[[Int], Tensor]:
    """The loss of rated pictures at some places: mean squared error."""
    mos = torch.from_numpy(study.mos)
    return lambda places: F.mse_loss(judge.alone(floats(joined[places])), mos[places])


def full_reference(judge: Judge, spoiled: Array, pairs: Pairs, rng: np.random.Generator) -> Callable[[], Tensor]:
    """The loss of some random pairs: cross entropy of which is nearer, and the original itself has the score 1.

    Args:
        spoiled: (n, 1 + versions, C, side, side), the original first.
    """

    def loss() -> Tensor:
        at = rng.integers(len(pairs), size=PAIRS)
        i = pairs.original[at]
        pictures = [floats(spoiled[i, k]) for k in (np.zeros_like(i), 1 + pairs.a[at], 1 + pairs.b[at])]
        original, a, b = judge.tokens(torch.cat(pictures)).chunk(3)
        same, of_a, of_b = judge.join_tokens(
            torch.cat([original, a, b]), torch.cat([original, original, original])
        ).chunk(3)
        nearer = torch.from_numpy(pairs.nearer[at])
        ranking = F.binary_cross_entropy_with_logits((of_b - of_a) / UNIT, nearer)
        return WEIGHT * (ranking + F.mse_loss(same, torch.ones_like(same)))

    return loss


def in_turns(alone: Callable[[Int], Tensor], against: Callable[[], Tensor]) -> Callable[[Int], Tensor]:
    """One step of rated pictures, one of pictures with originals, and so on."""
    steps = itertools.count()
    return lambda places: against() if next(steps) % 2 else alone(places)


def score(judge: Judge, study: Study, joined: Array) -> Float32:
    """Raw scores of the held-out pictures, without a reference."""
    return predict(lambda places: judge.alone(floats(joined[places])), study, study.held, module=judge)


@torch.no_grad()
def compare(judge: Judge, spoiled: Array) -> Float32:
    """(n, versions) raw scores against the originals, which come first in (n, 1 + versions, C, side, side)."""
    rows = []
    for row in spoiled:
        versions = floats(row[1:])
        rows.append(judge.against(versions, floats(row[:1]).expand_as(versions)))
    return torch.stack(rows).numpy()


def take(judge: Judge, part: Part) -> TransformerFeatures:
    """The whole network of one part, with what was trained for both."""
    network = TransformerFeatures(part=part, size="mobile")
    network.trunk.load_state_dict(trunk_state())
    wanted = network.judge.state_dict()
    network.judge.load_state_dict({name: value for name, value in judge.state_dict().items() if name in wanted})
    return network.eval()


if __name__ == "__main__":
    raise SystemExit(exit_code(main))

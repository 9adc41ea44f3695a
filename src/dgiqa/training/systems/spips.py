"""SPIPS at small width: ranking by two-alternative judgements, as LPIPS was trained.

    good photographs → versions → the five maps, once → distances of two versions → ranking network → which is nearer

Lao, Yu, arXiv:2504.17234, on the protocol of Zhang et al., "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", arXiv:1801.03924, section 3.1: a small network guesses the judges' answer from two distances, and
is thrown away. The paper's judgements are people's (BAPPS); those here are of :mod:`dgiqa.training.versions`, unless
``--bapps`` names the folder of that data set, whose ``train`` part then trains and whose ``val`` part judges.

    python -m dgiqa.training.systems.spips --data biq2021=BIQ2021 --out small/spips
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.errors import UsageError
from dgiqa.exits import exit_code
from dgiqa.imaging.decode import decode
from dgiqa.models.spips.network import SPIPS
from dgiqa.training.small import Array, Int, arguments, fit, publish, study_of, trunk_state
from dgiqa.training.versions import Pairs, Versions, report, two_alternatives
from dgiqa.types import Float32, UInt8

#: Most photographs whose versions are trained on, and that judge.
TRAINED, JUDGED = 400, 100
#: Severity of the versions whose median distance gets the raw score one half.
HALF = 3
#: Keeps the ratio of two distances finite.
_LEAST = 0.1


class Ranker(nn.Module):
    """Two distances to the share of judges who find the second version nearer, before the sigmoid. (m,) to (m,)."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.stack([a, b, a - b, a / (b + _LEAST), b / (a + _LEAST)], 1))
        return out.squeeze(1)


@dataclass(frozen=True)
class Triplet:
    """An original, two versions of it, and the share of judges who find the second nearer."""

    original: Path
    a: Path
    b: Path
    nearer: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", epochs=12)
    parser.add_argument("--bapps", type=Path, metavar="DIR", help="BAPPS' folder 2afc, with train and val in it")
    args = parser.parse_args(argv)
    study = study_of(args)
    trained = Versions(study, study.fitted, most=TRAINED)
    judged = Versions(study, study.held, most=JUDGED, unseen=True)

    torch.manual_seed(args.seed)
    network, ranker = SPIPS(size="mobile"), Ranker()
    network.trunk.load_state_dict(trunk_state())
    maps = trained.features("spips", lambda pictures: five_maps(network, pictures))
    parts = nn.ModuleList([network.judge, ranker])
    if args.bapps:
        triplets = read_bapps(args.bapps / "train")
        rank, count = (lambda at: bapps_loss(network, ranker, triplets, at)), len(triplets)
        data = f"BAPPS, two alternatives: {count:,} triplets of its training part"
    else:
        rank, count = (lambda at: ranking_loss(network, ranker, maps, trained.pairs, at)), len(trained.pairs)
        data = f"BIQ2021: {len(maps):,} photographs of MOS from 0.75, {count:,} pairs of spoiled versions"
    fit(parts, rank, study, epochs=args.epochs, batch=64, seed=args.seed, places=np.arange(count), what="ranking")

    fit_scale(network, maps, trained)
    print(report(judged, scores(network, judged), "SPIPS"))
    if args.bapps:
        print(f"BAPPS, val: 2AFC {100 * judge_bapps(network, read_bapps(args.bapps / 'val')):.1f} %")
    publish(
        network,
        "spips",
        study,
        None,
        args,
        summary="Five maps against the original at small width; full-reference",
        data=data + "; no ratings of spoiled pictures",
        teachers="none" if args.bapps else "severities of the distortions; FSIM and VIF where they can't be compared",
        reference=True,
    )


@torch.no_grad()
def five_maps(network: SPIPS, pictures: UInt8) -> Array:
    """(versions, 5, 48, 48) of the original and its versions behind it."""
    original = torch.from_numpy(pictures[:1])
    return np.concatenate([network.compare(torch.from_numpy(p[None]), original).numpy() for p in pictures[1:]])


def ranking_loss(network: SPIPS, ranker: Ranker, maps: Array, pairs: Pairs, at: Int) -> Tensor:
    """Cross entropy between what the ranker says of two versions' distances and the judgement."""
    i = pairs.original[at]
    a, b = (network.judge(torch.from_numpy(np.asarray(maps[i, k[at]], np.float32))) for k in (pairs.a, pairs.b))
    return F.binary_cross_entropy_with_logits(ranker(a, b), torch.from_numpy(pairs.nearer[at]))


@torch.no_grad()
def distances(network: SPIPS, maps: Array) -> Float32:
    """(n, versions)."""
    rows = [network.judge(torch.from_numpy(np.asarray(row, np.float32))) for row in maps]
    return torch.stack(rows).numpy()


def scores(network: SPIPS, versions: Versions) -> Float32:
    """(n, versions) raw scores."""
    found = distances(network, versions.features("spips", lambda pictures: five_maps(network, pictures)))
    return network.score(torch.from_numpy(found)).numpy()


def fit_scale(network: SPIPS, maps: Array, versions: Versions) -> None:
    """Ranking leaves the unit open: the median version of severity 3 gets the raw score one half."""
    middle = np.array([[version.severity == HALF for version in row] for row in versions.drawn])
    network.scale.fill_(float(np.median(distances(network, maps)[middle])))


def read_bapps(folder: Path) -> list[Triplet]:
    """The triplets of BAPPS in ``folder``: its parts hold ``ref``, ``p0``, ``p1`` and ``judge``, files of one name.

    Raises:
        UsageError: there are none, or a file of a triplet is missing.
    """
    found = []
    for judgement in sorted(folder.glob("**/judge/*.npy")):
        part, name = judgement.parent.parent, judgement.stem
        original, a, b = (part / kind / f"{name}.png" for kind in ("ref", "p0", "p1"))
        if missing := [path for path in (original, a, b) if not path.is_file()]:
            raise UsageError(f"{missing[0]} is missing", hint="get BAPPS whole")
        found.append(Triplet(original, a, b, float(np.load(judgement, allow_pickle=False).item())))
    if not found:
        raise UsageError(f"{folder}: no judgements there", hint="name BAPPS' folder 2afc, with train and val in it")
    return found


def bapps_loss(network: SPIPS, ranker: Ranker, triplets: list[Triplet], at: Int) -> Tensor:
    """As :func:`ranking_loss`, with maps computed now."""
    chosen = [triplets[i] for i in at]
    a, b = _bapps_distances(network, chosen)
    nearer = torch.tensor([triplet.nearer for triplet in chosen])
    return F.binary_cross_entropy_with_logits(ranker(a, b), nearer)


@torch.no_grad()
def judge_bapps(network: SPIPS, triplets: list[Triplet], batch: int = 64) -> float:
    """2AFC, 0..1."""
    network.eval()
    rows = [_bapps_distances(network, triplets[i : i + batch]) for i in range(0, len(triplets), batch)]
    a, b = (torch.cat(column).numpy() for column in zip(*rows, strict=True))
    return two_alternatives(-a, -b, np.array([triplet.nearer for triplet in triplets], np.float32))


def _bapps_distances(network: SPIPS, triplets: list[Triplet]) -> tuple[Tensor, Tensor]:
    original, a, b = (
        torch.from_numpy(np.stack([decode(getattr(triplet, kind)).pixels for triplet in triplets]))
        for kind in ("original", "a", "b")
    )
    with torch.no_grad():
        maps = [network.compare(version, original) for version in (a, b)]
    first, second = (network.judge(m) for m in maps)
    return first, second


if __name__ == "__main__":
    raise SystemExit(exit_code(main))

"""CONTRIQUE at small width: the ridge regressions behind the shared trunk, without and with an original.

    features of rated pictures ──ridge──→ MOS
    |features of an original − of a spoiled version| ──ridge──→ severity

Madhusudana et al., arXiv:2110.13266, section III-C. Nothing else is trained: the trunk learned in
:mod:`dgiqa.training.systems.contrique_encoder`. The paper's originals have rated versions; those here have the
severities of :mod:`dgiqa.training.versions`.

    python -m dgiqa.training.systems.contrique --data biq2021=BIQ2021 --out small/contrique
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dgiqa.distortions import SEVERITIES
from dgiqa.exits import exit_code
from dgiqa.metrics.correlation import srcc
from dgiqa.models.contrique.network import Contrique, Part
from dgiqa.training.small import agree, arguments, floats, publish, runnable, study_of, trunk_state
from dgiqa.training.versions import Versions, report
from dgiqa.types import Float32, UInt8

#: Most photographs whose versions are trained on, and that judge.
TRAINED, JUDGED = 400, 100
#: Weights of the regression's squared length, of which the one is taken that agrees best with pictures left out.
ALPHAS = tuple(10.0**k for k in range(-3, 3))


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(__doc__ or "", epochs=None).parse_args(argv)
    study = study_of(args)
    session = runnable(Looking(start("nr")), ("features",))

    def look(pictures: UInt8) -> Float32:
        return np.concatenate([session.run(None, {"color": pictures[i : i + 1]})[0] for i in range(len(pictures))])

    features = study.once("contrique", lambda i: look(study.pixels(i)[None])[0])
    nr = start("nr")
    fit_ridge(nr, floats(features[study.fitted]), study.mos[study.fitted], args.seed)
    with torch.no_grad():
        raw = nr.judge(floats(features[study.held])).numpy()
    agree(raw, study.mos[study.held])

    trained = Versions(study, study.fitted, most=TRAINED)
    judged = Versions(study, study.held, most=JUDGED, unseen=True)
    apart, kept = distances(trained.features("contrique", look)), 1 - severities(trained) / max(SEVERITIES)
    fr = start("fr")
    # An original itself is no distance from itself, and as good as can be.
    fit_ridge(fr, torch.cat([apart.flatten(0, 1), torch.zeros_like(apart[:, 0])]), np.append(kept, np.ones(len(apart))))
    with torch.no_grad():
        found = [fr.judge(row).numpy() for row in distances(judged.features("contrique", look))]
    print(report(judged, np.stack(found), "CONTRIQUE"))

    data = f"BIQ2021: {len(study.fitted):,} rated pictures"
    summary = "Ridge regression behind a trunk that learned to tell distortions apart, at small width"
    publish(nr, "contrique", study, raw, args, summary=summary, data=data, settings={"part": "nr", "size": "mobile"})
    publish(
        fr,
        "contrique",
        study,
        None,
        args,
        summary=f"{summary}, with a reference",
        data=f"BIQ2021: {len(apart):,} photographs of MOS from 0.75 with {apart.shape[1]} spoiled versions each",
        teachers="severities of the distortions",
        tag="mobile_fr",
        settings={"part": "fr", "size": "mobile"},
        reference=True,
    )


class Looking(nn.Module):
    """What a network sees: color (V, H, W, 3) uint8 to features (V, F)."""

    def __init__(self, network: Contrique) -> None:
        super().__init__()
        self.network = network

    def forward(self, color: Tensor) -> Tensor:
        return self.network.look(color)


def start(part: Part) -> Contrique:
    """The small network with the shared trunk, before its regression is fitted."""
    network = Contrique(part=part, size="mobile")
    assert network.trunk is not None
    network.trunk.load_state_dict(trunk_state())
    return network.eval()


def distances(spoiled: npt.NDArray[Any]) -> Tensor:
    """(n, versions, F) of (n, 1 + versions, F) features, the original's first: how far each version is from it."""
    return (floats(spoiled[:, :1]) - floats(spoiled[:, 1:])).abs()


def severities(versions: Versions) -> Float32:
    """(n · versions,) how much each version is spoiled, 1..5."""
    return np.array([version.severity for drawn in versions.drawn for version in drawn], np.float32)


def fit_ridge(network: Contrique, features: Tensor, targets: npt.ArrayLike, seed: int = 0) -> float:
    """Fits the regression of ``network``; returns the weight of its squared length.

    The weight is chosen on a tenth of the pictures, by rank correlation; then all are fitted.

    Shapes:
        features: (n, F) float; targets: (n,).
    """
    x, y = features.double().numpy(), np.asarray(targets, np.float64)
    order = np.random.default_rng([seed, 5]).permutation(len(x))
    chosen, judging = order[len(x) // 10 :], order[: len(x) // 10]

    def agrees(alpha: float) -> float:
        weight, bias = solve(x[chosen], y[chosen], alpha)
        return srcc(x[judging] @ weight + bias, y[judging])

    alpha = max(ALPHAS, key=agrees)
    weight, bias = solve(x, y, alpha)
    with torch.no_grad():
        network.ridge.weight.copy_(torch.from_numpy(weight)[None])
        network.ridge.bias.fill_(float(bias))
    return alpha


def solve(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], alpha: float
) -> tuple[npt.NDArray[np.float64], float]:
    """Weights and bias that minimise the sum of squared errors plus ``alpha`` times the weights' squared length.

    Hoerl, Kennard, "Ridge Regression", Technometrics 1970; the bias is free, as in scikit-learn.
    """
    mean, middle = x.mean(0), y.mean()
    centred = x - mean
    weight = np.linalg.solve(centred.T @ centred + alpha * np.eye(x.shape[1]), centred.T @ (y - middle))
    return weight, float(middle - mean @ weight)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))

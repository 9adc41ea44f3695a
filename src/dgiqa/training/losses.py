"""The losses of the field, each a plain function of predicted and wanted scores.

All take (n,) float tensors with MOS in 0..1, higher is better, and return a scalar that is 0 where nothing is left
to learn (``spread`` excepted: it is a likelihood). Those that compare pictures need two or more; of fewer, or of
pictures that people rate alike, they say 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Keeps roots and quotients away from 0.
TINY = 1e-8


def l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error."""
    return (found - wanted).abs().mean()


def mse(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error."""
    return (found - wanted).square().mean()


def plcc(found: Tensor, wanted: Tensor) -> Tensor:
    """One minus Pearson's correlation, 0..2."""
    if len(found) < 2:
        return _nothing(found)
    x, y = found - found.mean(), wanted - wanted.mean()
    if not y.any():
        return _nothing(found)
    correlation: Tensor = (x * y).sum() / (x.norm() * y.norm()).clamp(min=TINY)
    return 1 - correlation


def plcc_mse(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared errors between standardised scores, as they are and scaled by their correlation: 0..1/2.

    Of both, each with mean 0 and variance 1 over the batch, the mean of MSE(x, y) / 4 and MSE(ρx, y) / 4, where ρ is
    Pearson's correlation: (1 − ρ)(3 + ρ) / 8. As LoDa is trained (Xu et al., CVPR 2024, arXiv:2308.12001; the authors'
    code, github.com/NeosXu/LoDa, src/utils/loss.py).
    """
    if len(found) < 2:
        return _nothing(found)
    x, y = found - found.mean(), wanted - wanted.mean()
    if not y.any():
        return _nothing(found)
    x, y = (math.sqrt(len(z)) * z / z.norm().clamp(min=TINY) for z in (x, y))
    correlation = (x * y).mean()
    return (mse(x, y) / 4 + mse(correlation * x, y) / 4) / 2


def rank(found: Tensor, wanted: Tensor, margin: float) -> Tensor:
    """Hinge over pairs: of two pictures that people rate differently the better one shall lead by ``margin``, or by
    their difference where that is less.

    After RankIQA (Liu, van de Weijer, Bagdanov, arXiv:1707.08347), with ratings in place of severities.
    """
    first, second = _pairs(len(found), found.device)
    gap = wanted[first] - wanted[second]
    lead = (found[first] - found[second]) * gap.sign()
    hinge = F.relu(gap.abs().clamp(max=margin) - lead)[gap != 0]
    return hinge.mean() if len(hinge) else _nothing(found)


def fidelity(found: Tensor, wanted: Tensor, scale: float, deviations: Tensor | None = None) -> Tensor:
    """Fidelity of the predicted and the people's probability that one picture is better than the other, over pairs.

    Tsai et al., "FRank: a ranking method with fidelity loss", SIGIR 2007; for image quality: Zhang et al.,
    "Uncertainty-aware blind image quality assessment in the laboratory and wild" (UNIQUE), arXiv:2005.13983. Both
    probabilities are Thurstone's: the normal distribution of the difference over its deviation.

    Args:
        scale: deviation of one predicted score.
        deviations: (n,) standard deviations of the ratings; NaN or None where unknown: then the better rated is
            better for certain, and of pictures rated alike either is with probability 1/2.
    """
    first, second = _pairs(len(found), found.device)
    if not len(first):
        return _nothing(found)
    gap = wanted[first] - wanted[second]
    people = 0.5 + 0.5 * gap.sign()
    if deviations is not None:
        together = (deviations[first].square() + deviations[second].square()).sqrt()
        known = together > 0  # not so for NaN
        people = torch.where(known, _normal(gap / together.where(known, torch.ones_like(together))), people)
    network = _normal((found[first] - found[second]) / (math.sqrt(2) * scale))
    both = (people * network + TINY).sqrt() + ((1 - people) * (1 - network) + TINY).sqrt()
    return F.relu(1 - both).mean()


def norm_in_norm(found: Tensor, wanted: Tensor, p: float = 1.0, q: float = 2.0) -> Tensor:
    """Distance in the p-norm of both columns, each centred and divided by its q-norm, over its largest value.

    Li, Jiang, Jiang, "Norm-in-norm loss with faster convergence and better performance for image quality
    assessment", ACM MM 2020 (arXiv:2008.03889), section 3; p = 1 and q = 2 as there. q is 1 or more.
    """
    if len(found) < 2:
        return _nothing(found)
    x, y = found - found.mean(), wanted - wanted.mean()
    if not y.any():
        return _nothing(found)
    distance: Tensor = (x / x.norm(q).clamp(min=TINY) - y / y.norm(q).clamp(min=TINY)).abs().pow(p).sum()
    largest: float = 2.0**p * len(found) ** max(0.0, 1 - p / q)
    return (distance / largest).clamp(max=1)  # rounding goes over; at the largest value no gradient is lost


def spread(found: Tensor, wide: Tensor, wanted: Tensor) -> Tensor:
    """Mean negative log-likelihood of the error under a Laplace distribution: log 2b + |y − ŷ| / b, b = ``wide`` > 0.

    It teaches how far off the score is and never bends the score: no gradient goes into ``found``.
    """
    wide = wide.clamp(min=1e-4)
    return ((2 * wide).log() + (wanted - found.detach()).abs() / wide).mean()


def steps_apart(better: Tensor, worse: Tensor, steps: Tensor, margin: float) -> Tensor:
    """Hinge: ``worse`` shall lie ``margin`` times ``steps`` under ``better``."""
    return F.relu(margin * steps - (better - worse)).mean()


def surely_worse(better: Tensor, worse: Tensor, scale: float) -> Tensor:
    """Fidelity of the predicted probability that ``better`` is the better one, which is certain."""
    certain = _normal((better - worse) / (math.sqrt(2) * scale))
    return (1 - (certain + TINY).sqrt()).mean()


def _pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Each pair once."""
    first, second = torch.triu_indices(n, n, 1, device=device)
    return first, second


def _normal(x: Tensor) -> Tensor:
    """Cumulative distribution of the standard normal."""
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _nothing(found: Tensor) -> Tensor:
    """0, with a gradient of 0."""
    return 0.0 * found.sum()

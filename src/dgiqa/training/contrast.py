"""Contrastive loss with labels: pictures of one label together, all others apart.

Khosla et al., "Supervised Contrastive Learning", arXiv:2004.11362, equation 2: NT-Xent (Chen et al., "SimCLR",
arXiv:2002.05709, equation 1) with every picture of the same label as a positive.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy of finding those of the same label among all others, by cosine over ``temperature``.

    Each row asks in turn; its loss is the mean over its positives. Rows whose label nobody shares only answer; where
    nobody shares one, the loss is 0.

    Shapes:
        features: (n, d) float, of any length (normalised here); labels: (n,) integers; returns a scalar, at least 0.

    Raises:
        ValueError: shapes that don't fit, or a temperature that isn't positive.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"features of shape {tuple(features.shape)} and labels of {tuple(labels.shape)} don't fit")
    if temperature <= 0:
        raise ValueError(f"the temperature must be positive, not {temperature:g}")
    directions = F.normalize(features, dim=1)
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    near = (directions @ directions.T / temperature).masked_fill(itself, float("-inf"))
    # What a row says of itself is -inf, which times a weight of 0 would be no number.
    log_share = near.log_softmax(1).masked_fill(itself, 0.0)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    count = positive.sum(1)
    asking = count > 0
    if not asking.any():
        return 0.0 * features.sum()
    each = -(log_share * positive).sum(1)[asking] / count[asking]
    return each.mean()

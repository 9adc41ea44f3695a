"""Mean quality as a torchmetrics metric, for whoever trains a network that makes pictures.

    quality = MeanQuality()
    quality.update(pictures)          # (N, 3, H, W), uint8 or floats in 0..1
    quality.compute()                 # 0..100, higher is better

It is summed over processes like any metric. It has no gradient: it judges, it doesn't train.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from dgiqa.executors.arrow import kept


class MeanQuality(Metric):
    """Mean of the model's quality, 0 to 100, over all pictures.

    Raises:
        ValueError: pictures of another shape or type, floats outside 0..1, or no picture at all.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, model: str = "default", **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pictures: Tensor) -> None:
        scorer = kept(self.model)  # one a process: a metric is copied and pickled, a network that runs isn't
        for pixels in as_pixels(pictures):
            self.total += scorer.score(pixels).quality
            self.count += 1

    def compute(self) -> Tensor:
        if self.count == 0:
            raise ValueError("no picture was given: call update first")
        return self.total / self.count


def as_pixels(pictures: Tensor) -> np.ndarray:
    """(N, 3, H, W) uint8 or floats in 0..1 as (N, H, W, 3) uint8."""
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures of shape {tuple(pictures.shape)}, not (N, 3, H, W)")
    if pictures.is_floating_point():
        if pictures.numel() and not (pictures.min() >= 0 and pictures.max() <= 1):
            raise ValueError("floats lie outside 0..1")
        pictures = (pictures.float() * 255).round().to(torch.uint8)
    elif pictures.dtype != torch.uint8:
        raise ValueError(f"pictures of {pictures.dtype}, not uint8 or floats")
    return np.ascontiguousarray(pictures.permute(0, 2, 3, 1).cpu().numpy())

"""Several processes at one run, as torchrun starts them; alone, every function here does nothing."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist


def join() -> None:
    """Joins the others, when torchrun started this process."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")


def rank() -> int:
    """This process's number, 0 alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes share the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Returns when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def average_gradients(network: nn.Module) -> None:
    """The mean of every process's gradients, in one message."""
    if dist.is_initialized():
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))


def agree(average: dict[str, Tensor]) -> None:
    """Batch statistics differ between processes; the averaged network takes their mean."""
    if dist.is_initialized():
        for value in average.values():
            if value.dtype.is_floating_point:
                dist.all_reduce(value)
                value.div_(dist.get_world_size())


def add_up(values: np.ndarray) -> np.ndarray:
    """The sum over every process's array."""
    total = torch.from_numpy(values)
    if dist.is_initialized():
        dist.all_reduce(total)
    return total.numpy()

"""Several processes at one run, as torchrun starts them; alone, every function here does nothing.

Each process reads and runs its share of a batch; the losses are computed of the whole batch everywhere, from scores
that all know. So two processes train as one does, but for what batch norm sees: each its own share.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist


def join(device: str = "cpu") -> torch.device:
    """Joins the others, when torchrun started this process; returns the device to work on."""
    if "RANK" not in os.environ:
        return torch.device(device)
    found = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device(device)
    if found.type == "cuda":
        torch.cuda.set_device(found)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
    return found


def leave() -> None:
    """Ends the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


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


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The sum of every process's gradients, in one message.

    A parameter that has no gradient on one process has none on any: which parts of a network a batch reaches does
    not depend on the pictures.
    """
    if dist.is_initialized():
        gradients = [p.grad for p in parameters if p.grad is not None]
        _replace(gradients, 1.0)


def same_buffers(network: nn.Module) -> None:
    """Batch statistics differ between processes; all go on with their mean, so that every process's state is one."""
    if dist.is_initialized():
        _replace([b for b in network.buffers() if b.dtype.is_floating_point], 1 / dist.get_world_size())


def as_the_first(network: nn.Module) -> None:
    """Every process's parameters and buffers become the first one's."""
    if dist.is_initialized():
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)


def from_all(own: Tensor, places: Tensor, n: int) -> Tensor:
    """(n, k): ``own`` (m, k) at ``places``, and the others' rows, through which no gradient goes, at theirs."""
    if not dist.is_initialized():
        return own if len(own) == n else own.new_zeros(n, own.shape[1]).index_copy(0, places, own)
    mine = own.new_zeros(n, own.shape[1]).index_copy(0, places, own)
    total = mine.detach().clone()
    dist.all_reduce(total)
    is_mine = torch.zeros(n, 1, dtype=torch.bool, device=own.device).index_fill(0, places, True)
    return torch.where(is_mine, mine, total)


def add_up(values: np.ndarray, device: torch.device) -> np.ndarray:
    """The sum over every process's array."""
    if not dist.is_initialized():
        return values
    total = torch.from_numpy(values).to(device)
    dist.all_reduce(total)
    return total.cpu().numpy()


def _replace(tensors: list[Tensor], factor: float) -> None:
    """Each tensor by ``factor`` times its sum over the processes."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat *= factor
    for tensor, value in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(value.view_as(tensor))

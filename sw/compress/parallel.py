"""Data-parallel training under ``torchrun``: what the processes share. One process shares nothing.

Each process takes every ``world``-th sample of a batch; gradients are averaged after each step, so
that all of them hold the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from drawbar.sw.compress.backend import nn, torch

group = torch.distributed


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for as long as the context lasts.

    Without ``torchrun``, or where a group is already there, nothing happens. CPU processes talk
    by gloo, those with a GPU each by NCCL.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or group.is_initialized():
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    group.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        group.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def rank() -> int:
    """This process's number; process 0 writes files and shows progress."""
    return group.get_rank() if world() > 1 else 0


def share(samples: torch.Tensor) -> torch.Tensor:
    """This process's part of a batch."""
    return samples[rank() :: world()]


def average(parameters: Iterable[nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
    """Average the gradients over all processes, in place, and the loss with them."""
    if world() == 1:
        return loss.detach()
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([*(g.reshape(-1) for g in gradients), loss.detach().reshape(1)])
    group.all_reduce(flat)
    flat /= world()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return flat[-1]


def same(tensors: Iterable[torch.Tensor]) -> None:
    """Give every process the tensors of process 0, in place."""
    if world() == 1:
        return
    for tensor in tensors:
        group.broadcast(tensor.detach(), 0)

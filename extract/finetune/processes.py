"""Several processes that tune one encoder, one per GPU, as torchrun starts them.

Every process holds the whole encoder and a share of each batch. Vectors are gathered, so that each
picture is contrasted with the texts of all processes; gradients are added up.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started; without torchrun do nothing."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 speaks and writes."""
    # Also before the processes have joined, and after they have parted.
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process on its machine, where a GPU without a number was asked for."""
    if device.type != "cuda" or device.index is not None or "LOCAL_RANK" not in os.environ:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order, without a graph; all have the same number."""
    if world() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows) for _ in range(world())]
    dist.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the sum of all processes' gradients."""
    if world() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:  # a part that saw nothing here may have seen something elsewhere
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)

"""Several processes that train one encoder, one per GPU, as torchrun starts them.

Every process holds the whole encoder and a share of each batch. Vectors are gathered, so that each
picture is contrasted with the texts of all processes; gradients are added up.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

Made = TypeVar("Made")
PATIENCE = timedelta(days=1)


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started; without torchrun do nothing."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    if device.type == "cuda":  # or each would hold some memory of the first GPU, too
        torch.cuda.set_device(device)
    # The others wait while the first one ranks and writes.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
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


def together(rows: Tensor) -> Tensor:
    """The sum over all processes; of rows that all but one process leave zero, the rows of all."""
    if world() > 1:
        dist.all_reduce(rows)
    return rows


def from_first(tensor: Tensor) -> Tensor:
    """The first process's tensor; all have one of the same shape."""
    if world() > 1:
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
    return tensor


def made_by_first(make: Callable[[], Made]) -> Made:
    """What the first process makes; the others are sent it."""
    if world() == 1:
        return make()
    box = [make() if rank() == 0 else None]
    dist.broadcast_object_list(box, 0)
    return cast(Made, box[0])


def same_everywhere(value: float, device: torch.device) -> float:
    """The first process's number, so that all decide alike."""
    if world() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return shared.item()


def anywhere(flag: bool, device: torch.device) -> bool:
    """Whether it is so in any process."""
    if world() == 1:
        return flag
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Give every process the sum of all processes' gradients.

    A weight that has none anywhere keeps none, so that the optimizer leaves it alone.
    """
    if world() == 1:
        return
    has = torch.tensor([float(p.grad is not None) for p in parameters])
    has = has.to(parameters[0].device)
    dist.all_reduce(has)
    for parameter, somewhere in zip(parameters, has.tolist(), strict=True):
        if not somewhere:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)

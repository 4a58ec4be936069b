"""The least time that an epoch or an evaluation can take: bytes and flops at the machine's rates.

Counted are the sparse products (for each entry an index, a value and a row of d floats read; for
each row d floats written; forward and backward, of which one each may leave out what the batch does
not touch), the matrix products, the rows of features read, and Adam (parameter, gradient and two
moments read, three of them written). The bandwidth is that of copying an array far larger than any
cache: what stays in a cache from one step to the next may beat the floor.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recommend.models import Recommender
from recommend.models.freedom import Freedom
from recommend.models.lightgcn import LightGCN
from recommend.models.vbpr import VBPR
from recommend.sampling import Batch
from recommend.sparse import CSR, SparseMatrix
from recommend.train import trainable

FLOAT = 4
COPIED, SIDE = 2**26, 2048  # floats; rows and columns of the matrices that are multiplied
TRIES = 15


@dataclass(frozen=True)
class Machine:
    """What was measured of it.

    Attributes:
        device: Where.
        bandwidth: Bytes per second, read and written, of a copy.
        rate: Floating-point operations per second of a float32 matrix product.
    """

    device: torch.device
    bandwidth: float
    rate: float

    @classmethod
    def measured(cls, device: torch.device) -> "Machine":
        """The best of a few tries each."""
        source = torch.ones(COPIED, device=device)
        target, square = torch.empty_like(source), torch.ones(SIDE, SIDE, device=device)
        copied = best_seconds(lambda: target.copy_(source), device)
        multiplied = best_seconds(lambda: square @ square, device)
        return cls(device, 2 * COPIED * FLOAT / copied, 2 * SIDE**3 / multiplied)


@dataclass(frozen=True)
class Work:
    """Bytes moved and operations done."""

    bytes: float = 0.0
    flops: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.bytes + other.bytes, self.flops + other.flops)

    def __mul__(self, times: float) -> "Work":
        return Work(self.bytes * times, self.flops * times)

    def seconds(self, machine: Machine) -> float:
        """At the machine's rates, one after the other."""
        return self.bytes / machine.bandwidth + self.flops / machine.rate


def clock(device: torch.device) -> float:
    """Seconds on a clock, once the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def best_seconds(step: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few tries, after one that does not count."""
    step()
    found = []
    for _ in range(TRIES):
        start = clock(device)
        step()
        found.append(clock(device) - start)
    return min(found)


def mean_seconds(step: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Of one call, after one that does not count."""
    step()
    start = clock(device)
    for _ in range(rounds):
        step()
    return (clock(device) - start) / rounds


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of a few."""
    side = 8192 if device.type == "cuda" else SIDE
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / best_seconds(lambda: matrix @ matrix, device)


def step_work(model: Recommender, batch: Batch, dims: Mapping[str, int]) -> Work | None:
    """What one training step cannot do without; None for a model that is not counted.

    Args:
        model: The model, with the graphs of an epoch.
        batch: Of an epoch, on the CPU.
        dims: Modality to vector size of the features.
    """
    for kind, count in _COUNTED.items():
        if type(model) is kind:
            parameters = sum(parameter.numel() for parameter in trainable(model))
            return count(model, batch, sum(dims.values())) + Work(7 * FLOAT * parameters)
    return None


def scoring_work(users: int, items: int, width: int) -> Work:
    """The matrix product of an evaluation."""
    return Work(flops=2.0 * users * items * width)


def _product(entries: int, rows: int, width: int) -> Work:
    """A sparse product of that many rows."""
    return Work(entries * (FLOAT * width + 8.0) + rows * FLOAT * width)


def _powers(matrices: Sequence[CSR], wanted: Sequence[Tensor], width: int, layers: int) -> Work:
    """Repeated products with one or two matrices, of whose last the batch's rows are wanted.

    Args:
        matrices: The matrix of each side.
        wanted: The distinct rows of each side that the batch reads.
        width: d.
        layers: Number of products of each side.
    """
    work = Work()
    for matrix, rows in zip(matrices, wanted, strict=True):
        degrees, n = matrix.indptr.diff().cpu(), len(matrix.indptr) - 1
        entries, read = int(degrees.sum()), int(degrees[rows].sum())
        whole = _product(entries, n, width) * (2 * (layers - 1))
        # The last product of the forward pass, and the first of the backward pass.
        work += whole + _product(read, len(rows), width) + _product(read, n, width)
    return work if layers else Work()


def _convolution(graph: SparseMatrix, batch: Batch, width: int, layers: int) -> Work:
    """Propagation over the user-item graph, from users to items and back."""
    wanted = (batch.users.unique(), batch.items)
    return _powers((graph.rows, graph.columns), wanted, width, layers)


def _projection(rows: int, batch: Batch, dims: int, width: int) -> Work:
    """Frozen features times weights, and the weights' gradient; the batch's features are read."""
    return Work(FLOAT * len(batch.items) * dims, 2 * 2.0 * rows * dims * width)


def _lightgcn(model: LightGCN, batch: Batch, dims: int) -> Work:
    return _convolution(model.graph, batch, model.users.shape[1], model.layers)


def _vbpr(model: VBPR, batch: Batch, dims: int) -> Work:
    return _projection(len(batch.items), batch, dims, model.items.shape[1])


def _freedom(model: Freedom, batch: Batch, dims: int) -> Work:
    width, config = model.users.shape[1], model.config
    work = _convolution(model.pruned_graph, batch, width, config.layers)
    work += _powers((model.item_graph.rows,), (batch.items,), width, config.item_layers)
    if config.reg > 0:  # what is projected may be the differences of positives and negatives
        work += _projection(len(batch.positives), batch, dims, width)
    return work


_COUNTED: dict[type[Recommender], Callable[..., Work]] = {
    LightGCN: _lightgcn,
    VBPR: _vbpr,
    Freedom: _freedom,
}

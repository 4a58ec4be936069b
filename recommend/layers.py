"""Building blocks that several models share."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.sparse import SparsePattern, entry_dots

# Rows that are projected at once.
BLOCK_ROWS = 1024


def embedding_table(rows: int, size: int) -> nn.Parameter:
    """A (rows, size) table, initialised uniformly after Glorot and Bengio (Xavier)."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, size)))


class Projection(nn.Linear):
    """A linear map of many wide vectors to few columns, such as of all items' features.

    As `nn.Linear`, whose gradient for its weights is the product of a narrow matrix with a wide
    one; CPU libraries take half the time for its transpose, and for blocks of rows.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, in) -> (n, out)."""
        projected: Tensor = _Project.apply(vectors, self.weight)
        return projected if self.bias is None else projected + self.bias


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, weight)
        blocks = vectors.split(BLOCK_ROWS if vectors.device.type == "cpu" else len(vectors) or 1)
        return torch.cat([block @ weight.T for block in blocks])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        vectors, weight = ctx.saved_tensors
        of_vectors = gradients[0] @ weight if ctx.needs_input_grad[0] else None
        of_weight = (vectors.T @ gradients[0]).T if ctx.needs_input_grad[1] else None
        return of_vectors, of_weight


def row_differences(table: Tensor, plus: Tensor, minus: Tensor) -> Tensor:
    """Rows `plus` less rows `minus` of a table, in one pass over them.

    Args:
        table: (n, d).
        plus: (B,) int64.
        minus: (B,) int64.

    Returns:
        (B, d).
    """
    signs = table.new_ones(len(plus), 2)
    signs[:, 1] = -1
    pairs = torch.stack([plus, minus], dim=1)
    return F.embedding_bag(pairs, table, mode="sum", per_sample_weights=signs)


def edge_dots(pattern: SparsePattern, left: Tensor, right: Tensor) -> Tensor:
    """leftᵢ · rightⱼ for each entry (i, j) of the pattern, (nnz,).

    Args:
        pattern: Of n rows and m columns.
        left: (n, d).
        right: (m, d).
    """
    dots: Tensor = _EdgeDots.apply(left, right, pattern)
    return dots


class _EdgeDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.pattern = pattern
        return entry_dots(pattern, left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (left, right), pattern = ctx.saved_tensors, ctx.pattern
        values = gradients[0].contiguous()
        return pattern.rows(values, right), pattern.columns(values, left), None


def unit_rows(vectors: Tensor) -> Tensor:
    """Each row divided by its length; a row of zeros stays so, and has no gradient.

    Torch's `normalize` takes more than twice as long, most of it for its gradient.

    Args:
        vectors: (n, d).
    """
    unit: Tensor = _UnitRows.apply(vectors)
    return unit


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        lengths.masked_fill_(lengths == 0, torch.inf)
        unit = vectors / lengths
        ctx.save_for_backward(unit, lengths)
        return unit

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        unit, lengths = ctx.saved_tensors
        along = (gradients[0] * unit).sum(dim=1, keepdim=True)
        return torch.addcmul(gradients[0], unit, along, value=-1).div_(lengths)

"""Sparse times dense, with fast gradients.

A product is a weighted sum of rows, which torch's `embedding_bag` computes at the speed of memory,
two to three times as fast on a CPU as torch's own CSR product. The gradient of A @ x is Aᵀ @ g:
keeping both A and Aᵀ in CSR makes the backward pass as fast as the forward one, where torch would
transpose anew at each step.
"""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

# Entries whose two rows are held at once for the gradient of values; 2¹⁸ rows of 64 are 64 MB.
BLOCK_ENTRIES = 2**18


class SparseMatrix(nn.Module):
    """A constant sparse matrix. It moves with the model and is not saved with it.

    Args:
        matrix: (n, m) values; copied to float32.
    """

    def __init__(self, matrix: csr_array) -> None:
        super().__init__()
        self.rows, self.columns = _CSR(matrix), _CSR(matrix.T.tocsr())

    def __matmul__(self, dense: Tensor) -> Tensor:
        """(n, m) @ (m, d) -> (n, d)."""
        product: Tensor = _Product.apply(dense, self.rows, self.columns)
        return product

    def transposed_matmul(self, dense: Tensor) -> Tensor:
        """(n, m)ᵀ @ (n, d) -> (m, d)."""
        product: Tensor = _Product.apply(dense, self.columns, self.rows)
        return product


class SparsePattern(nn.Module):
    """The places of a sparse matrix, whose values are an argument, with a gradient of their own.

    Args:
        matrix: (n, m); only where it has entries counts. They are numbered row by row, as in its
            own arrays.

    Attributes:
        row_of: (nnz,) int64 row of each entry.
        column_of: (nnz,) int64 column of each entry.
    """

    row_of: Tensor
    column_of: Tensor

    def __init__(self, matrix: csr_array) -> None:
        super().__init__()
        coo = matrix.tocoo()
        numbered = csr_array((np.arange(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape)
        self.rows, self.columns = _Places(numbered), _Places(numbered.T.tocsr())
        for name, array in (("row_of", coo.row), ("column_of", coo.col)):
            self.register_buffer(name, torch.from_numpy(array.astype(np.int64)), persistent=False)

    def matmul(self, values: Tensor, dense: Tensor) -> Tensor:
        """(n, m) with `values` (nnz,), times (m, d) -> (n, d)."""
        product: Tensor = _WeightedProduct.apply(values, dense, self, False)
        return product

    def transposed_matmul(self, values: Tensor, dense: Tensor) -> Tensor:
        """(n, m)ᵀ with `values` (nnz,), times (n, d) -> (m, d)."""
        product: Tensor = _WeightedProduct.apply(values, dense, self, True)
        return product


def weighted_sums(indptr: Tensor, indices: Tensor, values: Tensor, dense: Tensor) -> Tensor:
    """The product of a CSR matrix with a dense one, without a gradient.

    Args:
        indptr: (n + 1,) int32 starts of the rows.
        indices: (nnz,) int32 columns.
        values: (nnz,) float.
        dense: (m, d).

    Returns:
        (n, d), in the type of `dense`.
    """
    return F.embedding_bag(
        indices,
        dense,
        indptr,
        mode="sum",
        per_sample_weights=values.to(dense.dtype),
        include_last_offset=True,
    )


class _CSR(nn.Module):
    indptr: Tensor
    indices: Tensor
    values: Tensor

    def __init__(self, matrix: csr_array) -> None:
        super().__init__()
        _keep_places(self, matrix)
        values = torch.from_numpy(matrix.data.astype(np.float32))
        self.register_buffer("values", values, persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        return weighted_sums(self.indptr, self.indices, self.values, dense)


class _Places(nn.Module):
    indptr: Tensor
    indices: Tensor
    order: Tensor  # of the entries, by their numbers in the pattern

    def __init__(self, numbered: csr_array) -> None:
        super().__init__()
        _keep_places(self, numbered)
        order = torch.from_numpy(numbered.data.astype(np.int64))
        self.register_buffer("order", order, persistent=False)

    def forward(self, values: Tensor, dense: Tensor) -> Tensor:
        return weighted_sums(self.indptr, self.indices, values[self.order], dense)


def _keep_places(module: nn.Module, matrix: csr_array) -> None:
    for name, array in (("indptr", matrix.indptr), ("indices", matrix.indices)):
        module.register_buffer(name, torch.from_numpy(array.astype(np.int32)), persistent=False)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: _CSR, transpose: _CSR) -> Tensor:
        ctx.transpose = transpose
        return matrix(dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose(gradients[0].contiguous()), None, None


class _WeightedProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, dense: Tensor, pattern: SparsePattern, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(values, dense)
        ctx.pattern, ctx.transposed = pattern, transposed
        return (pattern.columns if transposed else pattern.rows)(values, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, dense = ctx.saved_tensors
        gradient, pattern = gradients[0].contiguous(), ctx.pattern
        of_values = of_dense = None
        if ctx.needs_input_grad[0]:
            into, out_of = pattern.row_of, pattern.column_of
            if ctx.transposed:
                into, out_of = out_of, into
            of_values = _dots(gradient, into, dense, out_of).to(values.dtype)
        if ctx.needs_input_grad[1]:
            of_dense = (pattern.rows if ctx.transposed else pattern.columns)(values, gradient)
        return of_values, of_dense, None, None


def _dots(left: Tensor, left_rows: Tensor, right: Tensor, right_rows: Tensor) -> Tensor:
    """left[i] · right[j] for each pair of rows (i, j), (nnz,), in blocks."""
    blocks = zip(left_rows.split(BLOCK_ENTRIES), right_rows.split(BLOCK_ENTRIES), strict=True)
    return torch.cat([(left[i] * right[j]).sum(dim=1) for i, j in blocks])

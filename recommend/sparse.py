"""Sparse times dense, with fast gradients.

A product is a weighted sum of rows. On a CPU a small compiled loop computes it, which adds, scales,
and leaves out what is not wanted on the way; elsewhere torch's `embedding_bag`, which is two to
three times as fast as torch's own CSR product. The gradient of A @ x is Aᵀ @ g: keeping both A and
Aᵀ in CSR makes the backward pass as fast as the forward one, where torch would transpose anew at
each step.
"""

import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.native import call, usable


class SparseMatrix(nn.Module):
    """A constant sparse matrix. It moves with the model and is not saved with it.

    Args:
        matrix: (n, m) values; copied to float32.
    """

    def __init__(self, matrix: csr_array) -> None:
        super().__init__()
        self.rows, self.columns = _Valued(matrix), _Valued(matrix.T.tocsr())

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
        self.rows, self.columns = _Numbered(numbered), _Numbered(numbered.T.tocsr())
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


def weighted_sums(
    matrix: "CSR",
    values: Tensor,
    dense: Tensor,
    *,
    start: Tensor | None = None,
    scale: float = 1.0,
    rows: Tensor | None = None,
    active: Tensor | None = None,
) -> Tensor:
    """The matrix scale · (start + A @ dense), or some rows of it, without a gradient.

    Args:
        matrix: The places of A's entries, (n, m).
        values: (nnz,) float.
        dense: (m, d).
        start: (n, d); None for zero.
        scale: A number.
        rows: (k,) int64 rows of the result; None for all.
        active: (m,) bool, false where a row of `dense` is zero and need not be read; None where
            nothing is known.

    Returns:
        (n, d) or (k, d), in the type of `dense`.
    """
    dense = dense.contiguous()
    values = values.to(dense.dtype)
    if usable(dense, values):
        n = len(matrix.indptr) - 1 if rows is None else len(rows)
        out = torch.empty((n, dense.shape[1]))
        start = None if start is None else start.contiguous()
        places = (rows, matrix.indptr, matrix.indices, values, active)
        call("sparse_times_dense", *out.shape, *places, dense, start, float(scale), out)
        return out
    out = F.embedding_bag(
        matrix.indices,
        dense,
        matrix.indptr,
        mode="sum",
        per_sample_weights=values,
        include_last_offset=True,
    )
    out = out if start is None else out + start
    out = out if rows is None else out[rows]
    return out if scale == 1 else out * scale


class CSR(nn.Module):
    """Where the entries of a sparse matrix stand; moved with a model and not saved with it.

    Args:
        matrix: (n, m); columns must be sorted by row, as always in CSR.
    """

    indptr: Tensor
    indices: Tensor

    def __init__(self, matrix: csr_array) -> None:
        super().__init__()
        for name, array in (("indptr", matrix.indptr), ("indices", matrix.indices)):
            self.register_buffer(name, torch.from_numpy(array.astype(np.int32)), persistent=False)


class _Valued(CSR):
    values: Tensor

    def __init__(self, matrix: csr_array) -> None:
        super().__init__(matrix)
        values = torch.from_numpy(matrix.data.astype(np.float32))
        self.register_buffer("values", values, persistent=False)

    def forward(self, dense: Tensor, **more: Any) -> Tensor:
        return weighted_sums(self, self.values, dense, **more)


class _Numbered(CSR):
    order: Tensor  # of the entries, by their numbers in the pattern

    def __init__(self, numbered: csr_array) -> None:
        super().__init__(numbered)
        order = torch.from_numpy(numbered.data.astype(np.int64))
        self.register_buffer("order", order, persistent=False)

    def forward(self, values: Tensor, dense: Tensor) -> Tensor:
        return weighted_sums(self, values.index_select(0, self.order), dense)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: _Valued, transpose: _Valued) -> Tensor:
        ctx.transpose = transpose
        return matrix(dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose(gradients[0]), None, None


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
            sides = (dense, gradient) if ctx.transposed else (gradient, dense)
            of_values = entry_dots(pattern, *sides).to(values.dtype)
        if ctx.needs_input_grad[1]:
            of_dense = (pattern.rows if ctx.transposed else pattern.columns)(values, gradient)
        return of_values, of_dense, None, None


def entry_dots(pattern: SparsePattern, left: Tensor, right: Tensor) -> Tensor:
    """left[i] · right[j] for each entry (i, j) of the pattern, (nnz,), without a gradient."""
    shape, zeros = (len(left), len(right)), left.new_zeros(len(pattern.row_of))
    with warnings.catch_warnings():  # of torch, that its CSR tensors are new
        warnings.simplefilter("ignore", UserWarning)
        places = (pattern.rows.indptr, pattern.rows.indices)
        entries = torch.sparse_csr_tensor(*places, zeros, shape)
    return torch.sparse.sampled_addmm(entries, left, right.T, beta=0).values()

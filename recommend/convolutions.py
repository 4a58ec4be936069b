"""Light graph convolution over the user-item graph, whole or in part.

The mean of the powers of a symmetric matrix is its own gradient, so nothing is kept for the
backward pass, and what a loss does not need is not computed.
"""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from recommend.graphs import prune_by_degree, symmetric_normalise
from recommend.sparse import SparseMatrix


def light_graph_convolution(
    graph: SparseMatrix,
    users: Tensor,
    items: Tensor,
    layers: int,
    rows: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean of Âˡ e over l = 0..layers (LightGCN, He et al. 2020, eq. 3-4).

    Â = [0 R̂; R̂ᵀ 0] is applied as R̂ and R̂ᵀ, half the work of the (U+I)² matrix. Several views of
    the same graph are propagated at once when their vectors stand side by side in the columns.

    Args:
        graph: R̂, the normalised (U, I) matrix.
        users: (U, d) layer-0 embeddings.
        items: (I, d) layer-0 embeddings.
        layers: Number of propagations.
        rows: (n,) and (m,) int64 rows of the users and items that are wanted, such as a batch's;
            repeated ones are allowed. The last propagation and the first of the gradient's then
            work for these rows only.

    Returns:
        Users (U, d) and items (I, d), or (n, d) and (m, d).
    """
    means: tuple[Tensor, Tensor] = _MeanOfPowers.apply(
        users, items, graph, layers, *(rows or (None, None))
    )
    return means


class _MeanOfPowers(torch.autograd.Function):
    """e ↦ (e + Â(e + Â(e + ...))) / (L + 1), which is its own gradient, as Â is symmetric."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        graph: SparseMatrix,
        layers: int,
        user_rows: Tensor | None,
        item_rows: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers = graph, layers
        ctx.sizes, ctx.rows = (len(users), len(items)), (user_rows, item_rows)
        return _mean_of_powers(users, items, graph, layers, rows=ctx.rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (n_users, n_items), (user_rows, item_rows) = ctx.sizes, ctx.rows
        users = _in_table(gradients[0], user_rows, n_users)
        items = _in_table(gradients[1], item_rows, n_items)
        active = _marked(user_rows, n_users), _marked(item_rows, n_items)
        means = _mean_of_powers(users, items, ctx.graph, ctx.layers, active=active)
        return *means, None, None, None, None


# Of the users and of the items.
Both = tuple[Tensor | None, Tensor | None]


def _mean_of_powers(
    users: Tensor,
    items: Tensor,
    graph: SparseMatrix,
    layers: int,
    *,
    rows: Both = (None, None),
    active: Both = (None, None),
) -> tuple[Tensor, Tensor]:
    if layers == 0:
        return _copied(users, rows[0]), _copied(items, rows[1])
    user_sum, item_sum = users, items
    for layer in range(layers):
        last = layer == layers - 1
        scale = 1 / (layers + 1) if last else 1.0
        wanted = rows if last else (None, None)
        known = active if layer == 0 else (None, None)
        user_sum, item_sum = (
            graph.rows(item_sum, start=users, scale=scale, rows=wanted[0], active=known[1]),
            graph.columns(user_sum, start=items, scale=scale, rows=wanted[1], active=known[0]),
        )
    return user_sum, item_sum


def _copied(table: Tensor, rows: Tensor | None) -> Tensor:
    return table.clone() if rows is None else table[rows]


def _in_table(values: Tensor, rows: Tensor | None, size: int) -> Tensor:
    """The (size, d) table in which each row of `values` is added in its place."""
    if rows is None:
        return values
    return values.new_zeros((size, values.shape[1])).index_add_(0, rows, values)


def _marked(rows: Tensor | None, size: int) -> Tensor | None:
    if rows is None:
        return None
    marks = torch.zeros(size, dtype=torch.bool, device=rows.device)
    marks[rows] = True
    return marks


def pruned_graph(matrix: csr_array, dropout: float, generator: np.random.Generator) -> SparseMatrix:
    """An epoch's R̂: R without a share of its edges, drawn by degree, normalised anew.

    Args:
        matrix: R, (U, I), with a 1 for each edge.
        dropout: Share of the edges to leave out, in [0, 1).
        generator: Where the draw comes from.
    """
    return SparseMatrix(symmetric_normalise(prune_by_degree(matrix, 1 - dropout, generator)))


def light_graph_convolution_of_users(
    graph: SparseMatrix, users: Tensor, items: Tensor, layers: int, rows: Tensor | None = None
) -> Tensor:
    """The users of `light_graph_convolution`, or rows of them, at half the cost of both sides.

    A layer of one side depends on nothing but the layer before of the other.
    """
    mean: Tensor = _MeanOnOneSide.apply(users, items, graph.rows, graph.columns, layers, rows)
    return mean


def light_graph_convolution_of_items(
    graph: SparseMatrix, users: Tensor, items: Tensor, layers: int, rows: Tensor | None = None
) -> Tensor:
    """The items of `light_graph_convolution`, or rows of them, at half the cost of both sides."""
    mean: Tensor = _MeanOnOneSide.apply(items, users, graph.columns, graph.rows, layers, rows)
    return mean


class _MeanOnOneSide(torch.autograd.Function):
    """(a, b) ↦ (a + R̂(b + R̂ᵀ(a + ...))) / (L + 1), where R̂ leads from b's side to a's."""

    @staticmethod
    def forward(
        ctx: Any,
        own: Tensor,
        other: Tensor,
        into: nn.Module,
        out_of: nn.Module,
        layers: int,
        rows: Tensor | None,
    ) -> Tensor:
        ctx.into, ctx.out_of, ctx.layers = into, out_of, layers
        ctx.size, ctx.rows = len(own), rows
        if layers == 0:
            return _copied(own, rows)
        total = (own, other)[layers % 2]
        for left in reversed(range(1, layers)):
            start, product = ((own, into), (other, out_of))[left % 2]
            total = product(total, start=start)
        mean: Tensor = into(total, start=own, scale=1 / (layers + 1), rows=rows)
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = _in_table(gradients[0] / (ctx.layers + 1), ctx.rows, ctx.size)
        active = _marked(ctx.rows, ctx.size)
        of_own, of_other = gradient, None
        for layer in range(1, ctx.layers + 1):
            if layer % 2 == 0:
                of_own = ctx.into(of_other, start=gradient)
            else:
                of_other = ctx.out_of(of_own, active=active if layer == 1 else None)
        return of_own, of_other, None, None, None, None


def light_graph_convolution_from_items(
    graph: SparseMatrix, items: Tensor, layers: int, rows: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """`light_graph_convolution` with users of zero, for half of its work; `layers` is 1 or more."""
    means: tuple[Tensor, Tensor] = _MeanFromItems.apply(
        items, graph, layers, *(rows or (None, None))
    )
    return means


class _MeanFromItems(torch.autograd.Function):
    """b ↦ (R̂(b + R̂ᵀR̂(b + ...)), b + R̂ᵀR̂(b + ...)) / (L + 1)."""

    @staticmethod
    def forward(
        ctx: Any,
        items: Tensor,
        graph: SparseMatrix,
        layers: int,
        user_rows: Tensor | None,
        item_rows: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers, ctx.rows = graph, layers, (user_rows, item_rows)
        ctx.sizes, scale = (len(graph.rows.indptr) - 1, len(items)), 1 / (layers + 1)
        item_sum = items
        for _ in range((layers - 1) // 2):
            item_sum = graph.columns(graph.rows(item_sum), start=items)
        if layers % 2:
            users = graph.rows(item_sum, scale=scale, rows=user_rows)
            return users, _copied(item_sum, item_rows).mul_(scale)
        user_sum = graph.rows(item_sum)
        of_items = graph.columns(user_sum, start=items, scale=scale, rows=item_rows)
        return _copied(user_sum, user_rows).mul_(scale), of_items

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        graph, layers = ctx.graph, ctx.layers
        users, items = (
            _in_table(gradient / (layers + 1), rows, size)
            for gradient, rows, size in zip(gradients, ctx.rows, ctx.sizes, strict=True)
        )
        # A layer of one side depends on nothing but the layer before of the other.
        side = layers % 2
        total, active = (items, users)[side], _marked(ctx.rows[1 - side], ctx.sizes[1 - side])
        for left in reversed(range(layers)):
            product, start = ((graph.columns, items), (graph.rows, users))[left % 2]
            total, active = product(total, start=start, active=active), None
        return total, None, None, None, None

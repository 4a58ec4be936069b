"""Building blocks that several models share."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.sparse import SparseMatrix, SparsePattern, entry_dots

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

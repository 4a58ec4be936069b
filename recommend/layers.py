"""Building blocks that several models share."""

from typing import Any

import torch
from torch import Tensor, nn

from recommend.sparse import SparseMatrix


def embedding_table(rows: int, size: int) -> nn.Parameter:
    """A (rows, size) table, initialised uniformly after Glorot and Bengio (Xavier)."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, size)))


def light_graph_convolution(
    graph: SparseMatrix, users: Tensor, items: Tensor, layers: int
) -> tuple[Tensor, Tensor]:
    """The mean of Âˡ e over l = 0..layers (LightGCN, He et al. 2020, eq. 3-4).

    Â = [0 R̂; R̂ᵀ 0] is applied as R̂ and R̂ᵀ, half the work of the (U+I)² matrix. Several views of
    the same graph are propagated at once when their vectors stand side by side in the columns.

    Args:
        graph: R̂, the normalised (U, I) matrix.
        users: (U, d) layer-0 embeddings.
        items: (I, d) layer-0 embeddings.
        layers: Number of propagations.

    Returns:
        Users (U, d) and items (I, d).
    """
    means: tuple[Tensor, Tensor] = _MeanOfPowers.apply(users, items, graph, layers)
    return means


class _MeanOfPowers(torch.autograd.Function):
    """e ↦ (e + Â(e + Â(e + ...))) / (L + 1), which is its own gradient, as Â is symmetric."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, graph: SparseMatrix, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers = graph, layers
        return _mean_of_powers(users, items, graph, layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        users, items = (gradient.contiguous() for gradient in gradients)
        return *_mean_of_powers(users, items, ctx.graph, ctx.layers), None, None


def _mean_of_powers(
    users: Tensor, items: Tensor, graph: SparseMatrix, layers: int
) -> tuple[Tensor, Tensor]:
    user_sum, item_sum = users, items
    for _ in range(layers):
        user_sum, item_sum = (
            graph.rows(item_sum).add_(users),
            graph.columns(user_sum).add_(items),
        )
    return user_sum / (layers + 1), item_sum / (layers + 1)

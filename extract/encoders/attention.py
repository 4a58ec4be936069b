"""Attention with its projections as layers of their own, which `nn.MultiheadAttention` hides.

That one calls neither layer: its weights go into one fused function. So a low-rank term of such a
layer would have no effect there, and peft's own wrapper for it, which adds the term to the weight
before each call and subtracts it afterwards, adds that of the output projection twice (peft 0.21).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class ProjectedAttention(nn.Module):
    """`nn.MultiheadAttention` on the same weights, in two linear layers and the attention proper.

    Args:
        whole: What it takes the place of, for which `can_be_split` holds.
    """

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        super().__init__()
        width, bias = whole.embed_dim, whole.in_proj_bias is not None
        self.in_proj = nn.Linear(width, 3 * width, bias=bias, device="meta")
        self.in_proj.weight, self.in_proj.bias = whole.in_proj_weight, whole.in_proj_bias
        self.out_proj = whole.out_proj
        self.heads = whole.num_heads
        self.dropout = whole.dropout
        self.batch_first = whole.batch_first
        self.train(whole.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """As of `nn.MultiheadAttention`, batched; of attention weights there are none.

        Args:
            query: (n, length, width), or (length, n, width) unless `batch_first`.
            key: (n, places, width), likewise.
            value: As `key`.
            key_padding_mask: (n, places); true or -inf where a place is not attended to.
            need_weights: Without effect.
            attn_mask: (length, places) or (n * heads, length, places); likewise.
            average_attn_weights: Without effect.
            is_causal: A hint about `attn_mask`, which decides alone.

        Returns:
            Of the query's shape; None.
        """
        projected = self._project(query, key, value)
        if not self.batch_first:
            projected = [part.transpose(0, 1) for part in projected]
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected
        )
        attended = scaled_dot_product_attention(
            queries,
            keys,
            values,
            self._mask(attn_mask, key_padding_mask, queries),
            self.dropout if self.training else 0.0,
        )
        joined = attended.transpose(1, 2).flatten(2)
        return self.out_proj(joined if self.batch_first else joined.transpose(0, 1)), None

    def whole(self) -> nn.MultiheadAttention:
        """An `nn.MultiheadAttention` on the same weights again."""
        whole = nn.MultiheadAttention(
            self.in_proj.in_features,
            self.heads,
            self.dropout,
            bias=self.in_proj.bias is not None,
            batch_first=self.batch_first,
            device="meta",
        )
        whole.in_proj_weight = self.in_proj.weight  # type: ignore[assignment]
        whole.in_proj_bias = self.in_proj.bias
        whole.out_proj = self.out_proj
        return whole.train(self.training)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if query is key and key is value:
            return list(self.in_proj(query).chunk(3, dim=-1))
        sources = (query, key, value)
        return [self.in_proj(source).chunk(3, -1)[part] for part, source in enumerate(sources)]

    def _mask(self, pairs: Tensor | None, padding: Tensor | None, queries: Tensor) -> Tensor | None:
        """Both masks as one that is added to the logits of (n, heads, length, places)."""
        added = None if pairs is None else _additive(pairs, queries.dtype)
        if added is not None and added.dim() == 3:
            added = added.unflatten(0, (-1, self.heads))
        if padding is None:
            return added
        places = _additive(padding, queries.dtype)[:, None, None, :]
        return places if added is None else added + places


def can_be_split(module: nn.Module) -> bool:
    """Whether `ProjectedAttention` can take a module's place."""
    return (
        isinstance(module, nn.MultiheadAttention)
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))

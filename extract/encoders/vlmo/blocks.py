"""A layer of VLMo: attention shared by all modalities, and one expert for each.

Bao et al. 2022: ``x' = x + gamma_1 MSA(LN(x))``, then ``x'' = x' + gamma_2 Expert(LN(x'))``,
where the expert is the text's, the picture's or that of both together.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

EPS = 1e-6
EXPERTS = ("text", "imag", "vl")
LAYER_SCALE = 0.1


class Attention(nn.Module):
    """Self-attention over all heads; keys have no bias, as it would change nothing.

    Args:
        dim: The size of a hidden state.
        heads: Among how many heads it is divided.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """Hidden states, (n, length, dim), to what each gathers from all.

        Args:
            hidden: (n, length, dim).
            bias: Added to the scaled products, broadcast over (n, heads, length, length).
        """
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        # In mixed precision a sum with a bias is of the bias's type, the products are not.
        query = (query + self.q_bias).to(key.dtype)
        value = (value + self.v_bias).to(key.dtype)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        bias = None if bias is None else bias.to(key.dtype)
        gathered = scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(gathered.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """An expert: two linear layers with an exact GELU between them.

    Args:
        dim: The size of a hidden state.
        hidden_dim: The size between the layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., dim) to (..., dim)."""
        return self.fc2(self.act(self.fc1(hidden)))


class DropPath(nn.Module):
    """Stochastic depth: in training a row's branch is left out by chance, the others grow for it.

    Args:
        rate: The chance.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(n, length, dim) to the same."""
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.rate
        return branch * kept / (1 - self.rate)


class Block(nn.Module):
    """A layer with experts ``text``, ``imag`` and, in the last layers, ``vl``.

    Args:
        dim: The size of a hidden state.
        heads: Attention heads.
        hidden_dim: The inner size of an expert.
        experts: The experts' names.
        layer_scale: Whether both branches are scaled by learned factors.
    """

    def __init__(
        self, dim: int, heads: int, hidden_dim: int, experts: tuple[str, ...], layer_scale: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, heads)
        for expert in experts:
            self.add_module(f"norm2_{expert}", nn.LayerNorm(dim, eps=EPS))
            self.add_module(f"mlp_{expert}", Mlp(dim, hidden_dim))
        self.gamma_1 = _layer_scale(dim) if layer_scale else None
        self.gamma_2 = _layer_scale(dim) if layer_scale else None
        self.drop_path = DropPath()

    def forward(
        self, hidden: Tensor, bias: Tensor | None, experts: tuple[str, ...], split: int = 0
    ) -> Tensor:
        """Hidden states, (n, length, dim), to the next layer's.

        Args:
            hidden: (n, length, dim).
            bias: As in `Attention`.
            experts: The expert of all places, or of the first `split` and of those after them.
            split: How many places the first of two experts gets.
        """
        hidden = hidden + self._branch(self.attn(self.norm1(hidden), bias), self.gamma_1)
        if len(experts) == 1:
            return self._feed(experts[0], hidden)
        parts = hidden.split([split, hidden.shape[1] - split], dim=1)
        fed = [self._feed(expert, part) for expert, part in zip(experts, parts, strict=True)]
        return torch.cat(fed, dim=1)

    def _feed(self, expert: str, hidden: Tensor) -> Tensor:
        normed = self.get_submodule(f"norm2_{expert}")(hidden)
        return hidden + self._branch(self.get_submodule(f"mlp_{expert}")(normed), self.gamma_2)

    def _branch(self, branch: Tensor, scale: Tensor | None) -> Tensor:
        return self.drop_path(branch if scale is None else scale * branch)


def parameters_of(block: nn.Module, expert: str) -> list[nn.Parameter]:
    """The weights that a layer uses where all places go through one expert."""
    others = [name for name in EXPERTS if name != expert]
    left_out = tuple(f"{part}_{name}." for name in others for part in ("norm2", "mlp"))
    return [weight for name, weight in block.named_parameters() if not name.startswith(left_out)]


def _layer_scale(dim: int) -> nn.Parameter:
    return nn.Parameter(torch.full((dim,), LAYER_SCALE))

"""Bottleneck adapters beside the feed-forwards of an encoder's transformers.

Long et al. 2024, "MultiWay-Adapter" (arXiv 2309.01516), section 2, the new knowledge extractor: a
frozen feed-forward F becomes F(x) + s * U relu(D x), with D of (r, width), U of (width, r), biases,
and dropout before U. Encoders with a feed-forward for each modality get a bottleneck for each.

The paper's other part, the alignment enhancer, is left out: it is a whole feed-forward more in
every layer, tens of percents of an encoder, where adapters are to be a few.
"""

import math

import torch
from torch import Tensor, nn

from extract.encoders.adapters import block_modules, train_adapters_only
from extract.encoders.base import Encoder
from extract.errors import UserError

# The attributes by which blocks of open_clip, timm, transformers and VLMo call a feed-forward that
# leaves the addition of its input to the block.
PARALLEL = ("mlp", "mlp_text", "mlp_imag", "mlp_vl", "ffn", "DenseReluDense")
# The two halves of a feed-forward in BERT and its kin, of which the second adds the input.
BERT_INNER, BERT_OUTPUT = "intermediate", "output"


class Bottleneck(nn.Module):
    """A branch that starts as zero.

    Args:
        width: Of the vectors that it takes and gives.
        rank: Of its inner layer.
        scale: By what its outputs are multiplied.
        dropout: Share of the inner layer that is dropped in training.
    """

    scale: Tensor

    def __init__(self, width: int, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(rank, width)
        # Kept in the state, because it decides the vectors as the weights do.
        self.register_buffer("scale", torch.tensor(scale))
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """What is added, (..., width), from what the feed-forward takes, (..., width)."""
        return self.scale * self.up(self.dropout(torch.relu(self.down(hidden))))

    # The two below are hooks. A module that held the feed-forward and the bottleneck would need no
    # hook, but it would rename all weights inside, and libraries look into their feed-forwards.

    def add_to_output(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Called after a feed-forward."""
        return output + self(inputs[0])

    def add_to_residual(self, _: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Called before the second half of BERT's feed-forward.

        It takes the inner layer and, to add it and normalise the sum, the feed-forward's input.
        """
        inner, residual = inputs
        return inner, residual + self(residual)


def add_bottlenecks(
    encoder: Encoder, rank: int = 64, scale: float = 0.6, dropout: float = 0.1
) -> list[str]:
    """Put bottlenecks beside an encoder's feed-forwards, in place, and freeze all but adapters.

    At the start the vectors are what they were. A bottleneck takes what the feed-forward takes,
    in blocks that normalise first the normalised vector.

    Args:
        encoder: Without bottlenecks yet.
        rank: Of each bottleneck.
        scale: By what their outputs are multiplied.
        dropout: Share of the inner layers that is dropped in training.

    Returns:
        The names of the feed-forwards.

    Raises:
        UserError: The encoder has no feed-forward that is known, or has bottlenecks.
    """
    if any(isinstance(module, Bottleneck) for module in encoder.modules()):
        raise UserError(f"{encoder.spec} has bottlenecks already")
    found = _feed_forwards(encoder)
    if not found:
        raise UserError(
            f"{encoder.spec} has no transformer whose feed-forward is known; LoRA needs none"
        )
    for name, width in found.items():
        parent, _, attribute = name.rpartition(".")
        feed_forward = encoder.get_submodule(name)
        weight = next(feed_forward.parameters())
        bottleneck = Bottleneck(width, rank, scale, dropout).to(weight.device, weight.dtype)
        bottleneck.train(feed_forward.training)
        # Beside the feed-forward, which may be a sequence that would run it.
        encoder.get_submodule(parent).add_module(f"{attribute}_bottleneck", bottleneck)
        if attribute == BERT_OUTPUT:
            feed_forward.register_forward_pre_hook(bottleneck.add_to_residual)
        else:
            feed_forward.register_forward_hook(bottleneck.add_to_output)
    train_adapters_only(encoder)
    return list(found)


def _feed_forwards(encoder: Encoder) -> dict[str, int]:
    """The feed-forwards by name, of BERT's the second half, to their width."""
    modules = block_modules(encoder)
    found = {}
    for name, module in modules.items():
        parent, _, attribute = name.rpartition(".")
        if attribute in PARALLEL:
            found[name] = _width(module, module)
        elif attribute == BERT_OUTPUT and f"{parent}.{BERT_INNER}" in modules:
            found[name] = _width(modules[f"{parent}.{BERT_INNER}"], module)
    return {name: width for name, width in found.items() if width}


def _width(first: nn.Module, last: nn.Module) -> int:
    """Of the vectors that go into the first linear layer and come out of the last; or 0."""
    into = [module for module in first.modules() if isinstance(module, nn.Linear)]
    out_of = [module for module in last.modules() if isinstance(module, nn.Linear)]
    if not into or not out_of or into[0].in_features != out_of[-1].out_features:
        return 0
    return into[0].in_features

"""Low-rank adapters of an encoder's linear layers, through peft.

Hu et al. 2022, "LoRA", equation 3: a frozen layer h = W x becomes h = W x + (alpha / r) B A x,
with A of (r, inputs) and B of (outputs, r), of which B is zero at the start.
"""

import re
import sys
from typing import Any

import torch
from torch import nn

from extract.encoders.adapters import (
    ADAPTER_WEIGHT,
    block_modules,
    replace_module,
    train_adapters_only,
)
from extract.encoders.attention import ProjectedAttention, can_be_split
from extract.encoders.base import Encoder
from extract.encoders.loading import library
from extract.errors import LISTED, UserError

PROJECTIONS = ("in_proj", "out_proj")


def add_lora(
    encoder: Encoder,
    rank: int,
    alpha: float | None = None,
    dropout: float = 0.0,
    pattern: str = "",
) -> list[str]:
    """Give linear layers of an encoder, in place, low-rank terms, and freeze all but adapters.

    Layers that can have one are the linear layers inside the towers' blocks, in attention and
    feed-forward, and convolutions of 1 x 1 there, which are linear layers at each place of a
    picture. At the start the vectors are what they were.

    Args:
        encoder: Without low-rank terms yet.
        rank: Of each term.
        alpha: The terms are multiplied by ``alpha / rank``; the rank itself, unless given.
        dropout: Share of a term's inputs that is dropped in training.
        pattern: A regular expression; only layers in whose names it is found are taken.

    Returns:
        The names of the layers.

    Raises:
        UserError: The encoder has no such layer, or has low-rank terms; the pattern is no regular
            expression or is found in no name.
    """
    if _lora_layers(encoder):
        raise UserError(f"{encoder.spec} has low-rank adapters already; merge them first")
    chosen = choose_layers(encoder, pattern)
    peft = library("peft")
    for name, module in list(encoder.named_modules()):
        if can_be_split(module) and any(f"{name}.{part}" in chosen for part in PROJECTIONS):
            replace_module(encoder, name, ProjectedAttention(module))
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules="|".join(map(re.escape, chosen)),
    )
    peft.inject_adapter_in_model(config, encoder)
    del encoder.peft_config  # peft's note to itself, of which nothing here makes use
    for layer in _lora_layers(encoder).values():
        layer.train(layer.get_base_layer().training)
        # The factor alpha / rank decides the vectors, so a digest of the state must see it.
        for name, factor in layer.scaling.items():
            layer.register_buffer(f"lora_scaling_{name}", torch.tensor(factor))
    train_adapters_only(encoder)
    return chosen


def choose_layers(encoder: Encoder, pattern: str = "") -> list[str]:
    """The names of the layers that can have a low-rank term and in which a pattern is found.

    Raises:
        UserError: As `add_lora`.
    """
    names = [name for module in block_modules(encoder).items() for name in _linear_names(*module)]
    if not names:
        raise UserError(f"{encoder.spec} has no blocks with linear layers, which LoRA needs")
    try:
        chosen = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise UserError(f"{pattern!r} is no regular expression: {error}") from error
    if not chosen:
        step = -(-len(names) // LISTED)  # some from everywhere
        raise UserError(
            f"no layer of {encoder.spec} has a name in which {pattern!r} is found; "
            f"some of its {len(names)} layers: {', '.join(names[::step])}"
        )
    return chosen


def merge_adapters(encoder: Encoder) -> None:
    """Add the low-rank terms to the weights, in place, and remove what was built around them.

    The encoder then has the modules and names of one that never had any; weights stay frozen.
    Bottlenecks are no linear maps, cannot be merged, and stay as they are.
    """
    for name, layer in _lora_layers(encoder).items():
        layer.merge()
        replace_module(encoder, name, layer.get_base_layer())
    for name, module in list(encoder.named_modules()):
        if isinstance(module, ProjectedAttention):
            replace_module(encoder, name, module.whole())


def _linear_names(name: str, module: nn.Module) -> list[str]:
    if can_be_split(module):
        return [f"{name}.{part}" for part in PROJECTIONS]
    pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    linear = isinstance(module, nn.Linear) or (pointwise and module.groups == 1)
    return [name] if linear and not ADAPTER_WEIGHT.search(f"{name}.") else []


def _lora_layers(encoder: Encoder) -> dict[str, Any]:
    if "peft" not in sys.modules:  # then nothing of it can be here
        return {}
    kind = library("peft").tuners.lora.LoraLayer
    return {name: module for name, module in encoder.named_modules() if isinstance(module, kind)}

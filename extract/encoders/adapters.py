"""What all adapters share: the blocks that they sit in, their weights, their share of an encoder.

An adapter is a small trained part in a frozen encoder: a low-rank term of a linear layer (`lora`)
or a bottleneck beside a feed-forward (`bottlenecks`). Those of one encoder are named alike wherever
it is built, so that their weights, saved alone, fit a fresh encoder with the same adapters.
"""

import re

import torch
from PIL import Image
from torch import nn

from extract.encoders.base import Encoder, to_device

# As peft names the factors of a low-rank term, and as `bottlenecks` names its branches.
ADAPTER_WEIGHT = re.compile(r"\.(lora_[AB]|\w+_bottleneck)\.")


def train_adapters_only(encoder: Encoder) -> None:
    """Let gradients reach the adapters and freeze all other weights."""
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(bool(ADAPTER_WEIGHT.search(name)))


def block_modules(encoder: Encoder) -> dict[str, nn.Module]:
    """What adapters may change: the modules inside the blocks that a tower repeats, by name.

    Blocks are what stands in a list or a plain sequence of modules, so that stems, embeddings,
    poolings and final projections are left out. So are modules that no vector passes through, such
    as a captioning decoder: an adapter there would never learn.
    """
    blocks = tuple(
        f"{name}.{place}."
        for name, module in encoder.named_modules()
        if type(module) in (nn.ModuleList, nn.Sequential)
        for place, _ in module.named_children()
    )
    used = _modules_in_use(encoder)
    return {
        name: module
        for name, module in encoder.named_modules()
        if module in used and name.startswith(blocks)
    }


def replace_module(encoder: Encoder, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of that name."""
    parent, _, attribute = name.rpartition(".")
    setattr(encoder.get_submodule(parent), attribute, module)


def _modules_in_use(encoder: Encoder) -> set[nn.Module]:
    """The modules that are called when a blank picture and a word are encoded."""
    used = set()
    hooks = [
        module.register_forward_pre_hook(lambda called, _: used.add(called))
        for module in encoder.modules()
    ]
    in_training = [module for module in encoder.modules() if module.training]
    blank = encoder.prepare_image(Image.new("RGB", (64, 64), "grey"))
    inputs = encoder.collate({"image": [blank], "text": [encoder.prepare_text("word")]})
    weight = next(encoder.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            encoder.eval().encode(to_device(inputs, weight.device, weight.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module in in_training:
            module.training = True
    return used

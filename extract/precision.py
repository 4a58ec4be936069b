"""Which arithmetic an encoder computes in: its weights are cast once, never at each call.

Autocast would cast all weights again for every batch, which makes half precision slower than full
on a CPU. Convolutional picture encoders stay in float32 unless told otherwise: their vectors move
visibly in bfloat16 (see ``benchmarks/results``), those of transformers hardly.
"""

from collections.abc import Iterator

import torch
from torch import nn

from extract.encoders.base import Encoder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def set_precision(encoder: Encoder, precision: str, convolutions: bool = False) -> str:
    """Cast an encoder's weights, in place.

    Args:
        encoder: Whose weights are float32.
        precision: A key of `DTYPES`.
        convolutions: Whether a convolutional picture encoder is cast, too.

    Returns:
        What it computes in: one key of `DTYPES`, or one per modality where they differ.
    """
    keep = precision != "fp32" and is_convolutional(encoder) and not convolutions
    kinds = {name: "fp32" if keep and name == "image" else precision for name in encoder.dims}
    for modality, kind in kinds.items():
        encoder.dtypes[modality] = DTYPES[kind]
    for name, holder, key in _tensors(encoder):
        kind = kinds.get("image" if name.startswith(encoder.image_parts) else "text", precision)
        tensor = getattr(holder, key)
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(DTYPES[kind])
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    return ", ".join(f"{modality} {kind}" for modality, kind in kinds.items())


def is_convolutional(encoder: Encoder) -> bool:
    """Whether the picture side has more convolutions than the one that cuts out patches."""
    return (
        sum(
            isinstance(module, nn.Conv2d) and f"{name}.".startswith(encoder.image_parts)
            for name, module in encoder.named_modules()
        )
        > 1
    )


def _tensors(encoder: Encoder) -> Iterator[tuple[str, nn.Module, str]]:
    """Every weight and buffer: its full name, and the module that holds it under which key."""
    for prefix, module in encoder.named_modules():
        for key, _ in module.named_parameters(recurse=False):
            yield f"{prefix}.{key}", module, key
        for key, _ in module.named_buffers(recurse=False):
            # What no checkpoint holds is computed, such as the frequencies of rotary positions,
            # and may need all of its digits.
            if key not in module._non_persistent_buffers_set:
                yield f"{prefix}.{key}", module, key

"""The weights of an encoder by name: those that are trained, and putting them back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from extract.encoders.base import Encoder


def trained_weights(encoder: Encoder) -> dict[str, Tensor]:
    """The weights with ``requires_grad``, by name, not copied."""
    return {
        name: weight.detach() for name, weight in encoder.named_parameters() if weight.requires_grad
    }


def misfits(encoder: Encoder, weights: Mapping[str, Tensor]) -> list[str]:
    """The names that an encoder does not have, or has in another shape."""
    parameters = dict(encoder.named_parameters())
    return [
        name
        for name, weight in weights.items()
        if name not in parameters or parameters[name].shape != weight.shape
    ]


def put_weights(encoder: Encoder, weights: Mapping[str, Tensor]) -> None:
    """Give an encoder weights by name; those that are not named stay.

    Raises:
        ValueError: A name is unknown, or a shape is wrong.
    """
    wrong = misfits(encoder, weights)
    if wrong:
        raise ValueError(f"{len(wrong)} weights do not fit, such as {wrong[0]}")
    parameters = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)

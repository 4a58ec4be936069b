"""From an image vector and a text vector to one: pure, differentiable functions.

Both vectors are L2-normalised first, so that neither modality wins by its scale.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from extract.errors import UserError, unknown_name

Fusion = Callable[[Tensor, Tensor], Tensor]


def mean(image: Tensor, text: Tensor) -> Tensor:
    """``(i + t) / 2`` of the normalised vectors, (n, d) and (n, d) to (n, d)."""
    return (image + text) / 2


def total(image: Tensor, text: Tensor) -> Tensor:
    """``i + t`` of the normalised vectors, (n, d) and (n, d) to (n, d)."""
    return image + text


def product(image: Tensor, text: Tensor) -> Tensor:
    """``i * t``, element by element, of the normalised vectors, (n, d) and (n, d) to (n, d)."""
    return image * text


def concat(image: Tensor, text: Tensor) -> Tensor:
    """``[i, t]`` of the normalised vectors, (n, d) and (n, e) to (n, d + e)."""
    return torch.cat([image, text], dim=-1)


FUSIONS: dict[str, Fusion] = {"mean": mean, "sum": total, "product": product, "concat": concat}


def fuse(name: str, image: Tensor, text: Tensor) -> Tensor:
    """One vector from two, by the function of that name; a zero vector stays zero."""
    return FUSIONS[name](normalize(image, dim=-1), normalize(text, dim=-1))


def default_fusion(dims: Mapping[str, int]) -> str:
    """``mean`` where image and text have one size, else ``concat``."""
    return "mean" if dims["image"] == dims["text"] else "concat"


def fused_dim(name: str, dims: Mapping[str, int]) -> int:
    """The size of the fused vector.

    Args:
        name: A key of `FUSIONS`.
        dims: Modality to vector size.

    Raises:
        UserError: There is no such fusion, or it needs equal sizes and these are not.
    """
    if name not in FUSIONS:
        raise unknown_name("fusion", name, FUSIONS)
    if name == "concat":
        return dims["image"] + dims["text"]
    if dims["image"] != dims["text"]:
        raise UserError(
            f"the fusion {name!r} needs image and text vectors of one size, found {dims['image']} "
            f"and {dims['text']}; use --fusion concat"
        )
    return dims["image"]

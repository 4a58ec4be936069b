"""Compiled picture encoders: fused convolutions, half again as fast on a CPU.

The compiler takes half a minute, so it pays from some ten thousand pictures on. Transformers gain
nothing on a CPU: nearly all of their time goes into matrix products that are fast already.
"""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from extract.encoders.base import Encoder, to_device
from extract.errors import UserError


def compile_images(encoder: Encoder, size: int, device: torch.device) -> None:
    """Compile the picture side of an encoder, in place, for batches of one size.

    Its vectors then differ from those of the plain encoder in the last digits, as they do between
    batch sizes and machines.

    Args:
        encoder: On `device`, in evaluation mode, its precision set.
        size: Pictures per batch; smaller ones are filled up.
        device: Where it computes.

    Raises:
        UserError: There is no compiler, or it fails.
    """
    from torch._inductor import config  # the documented place of its settings; slow to import

    blank = encoder.prepare_image(Image.new("RGB", (64, 64), "grey"))
    images = to_device(
        encoder.collate({"image": [blank] * size})["image"], device, encoder.dtypes["image"]
    )
    # Only with frozen weights are batch norms folded into convolutions.
    config.freezing = True
    encode = torch.compile(encoder.encode_image)
    try:
        with torch.inference_mode():
            encode(images)
    except Exception as error:  # the compiler and what it calls raise what they like
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the encoder cannot be compiled ({reason[0][:200]}); leave out --compile-images, or "
            "install a C++ compiler"
        ) from error

    def encode_image(images: Any) -> Tensor:
        rows = _length(images)
        found: Tensor = encode(_filled(images, size - rows))
        return found[:rows]

    encoder.encode_image = encode_image  # type: ignore[method-assign]


def _length(images: Any) -> int:
    return _length(next(iter(images.values()))) if isinstance(images, Mapping) else len(images)


def _filled(images: Any, missing: int) -> Any:
    """A batch and so many more of its first picture: another shape would be compiled again."""
    if isinstance(images, Mapping):
        return {name: _filled(value, missing) for name, value in images.items()}
    return torch.cat([images, images[:1].expand(missing, *images.shape[1:])]) if missing else images

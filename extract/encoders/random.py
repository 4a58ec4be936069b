"""The control: vectors that depend on the content and mean nothing."""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from extract.encoders.base import Collate, Encoder, Tokens
from extract.errors import UserError

# Far beyond any encoder's vectors; a slip of the keyboard must not ask for all the memory.
LARGEST_DIM = 65_536


class RandomEncoder(Encoder):
    """Unit vectors drawn from a generator that is seeded by the picture or the text.

    Equal contents have equal vectors, here and on any machine; whatever a recommender gains over
    these features it gains by what a real encoder knows. There are no weights.

    Args:
        dim: The vector size of both modalities.
    """

    shares_space = False

    def __init__(self, dim: int) -> None:
        super().__init__(
            spec=f"random:{dim}",
            normalized={"image": True, "text": True},
            prepare_image=_image_seed,
            prepare_text=partial(_seed, "text"),
            collate=Collate(),
        )
        self.dims = {"image": dim, "text": dim}

    def encode_image(self, images: Tensor) -> Tensor:
        """Seeds, (n, 8), to vectors, (n, dim)."""
        return self._draw(images)

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Seeds, (n, 8), to vectors, (n, dim)."""
        return self._draw(tokens["input_ids"])

    def identity(self) -> Mapping[str, Any]:
        """The size, and how numbers are drawn."""
        return {"family": "random", "dims": self.dims, "draw": "PCG64 standard normal, unit length"}

    def _draw(self, seeds: Tensor) -> Tensor:
        dim = self.dims["image"]
        drawn = [np.random.default_rng(seed).standard_normal(dim) for seed in seeds.tolist()]
        vectors = torch.tensor(np.array(drawn), dtype=torch.float32, device=seeds.device)
        return torch.nn.functional.normalize(vectors, dim=-1)


def create_random(name: str) -> RandomEncoder:
    """The encoder of ``random:DIM``.

    Raises:
        UserError: DIM is not a number from 1 to `LARGEST_DIM`.
    """
    if not re.fullmatch("[0-9]{1,9}", name) or not 1 <= int(name) <= LARGEST_DIM:
        raise UserError(
            f"random:DIM needs a vector size, such as random:64, at most {LARGEST_DIM:,}; found "
            f"{name!r}"
        )
    return RandomEncoder(int(name))


def _image_seed(picture: Image.Image) -> Tensor:
    # Pixels, not the file: two files of one picture have one vector.
    return torch.tensor(_seed(f"{picture.size}", picture.tobytes()))


def _seed(kind: str, content: str | bytes) -> list[int]:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    digest = hashlib.sha256(kind.encode() + b"\0" + data).digest()
    return np.frombuffer(digest, dtype="<u4").astype(np.int64).tolist()

"""Learned projections of an encoder's picture and text vectors into one space."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from extract.encoders.base import Encoder, Stage, Tokens

# What CLIP (Radford et al. 2021, section 2.5) starts from: a temperature of 0.07.
FIRST_LOG_SCALE = math.log(1 / 0.07)


class ProjectedEncoder(Encoder):
    """An encoder with a projection behind each of its towers; its vectors have length 1.

    Projections are all that is needed to compare pictures with texts across two towers that have
    never seen each other, such as those of a pair.

    Args:
        base: The encoder whose vectors are projected.
        dim: Size of the space.
        layers: Of each projection: 1 is linear; 2 has a hidden layer of twice `dim`.
        dropout: Share of a projection's inputs that is dropped in training.
    """

    def __init__(self, base: Encoder, dim: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(
            base.spec,
            {"image": True, "text": True},
            base.prepare_image,
            base.prepare_text,
            base.collate,
            base.picture_side,
        )
        self.base = base
        self.dims = {"image": dim, "text": dim}
        self.token_dims = base.token_dims
        self.image_parts = (*(f"base.{part}" for part in base.image_parts), "heads.image.")
        self.heads = nn.ModuleDict(
            {name: projection(base.dims[name], dim, layers, dropout) for name in self.dims}
        )
        self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE))
        self._identity = {"family": "projected", "dim": dim, "layers": layers}

    def encode_image(self, images: Any) -> Tensor:
        """Collated pictures to unit vectors, (n, dim)."""
        return self._project("image", self.base.encode_image(images))

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Collated texts to unit vectors, (n, dim)."""
        return self._project("text", self.base.encode_text(tokens))

    def encode_tokens(self, modality: str, batch: Any) -> tuple[Tensor, Tensor]:
        """The base's patch or word vectors, which are not projected."""
        return self.base.encode_tokens(modality, batch)

    def stages(self, modality: str) -> Sequence[Stage]:
        """The base's steps, and the projection."""
        head = self.heads[modality]
        last = Stage(lambda vectors: self._project(modality, vectors), tuple(head.parameters()))
        return (*self.base.stages(modality), last)

    @property
    def log_scales(self) -> tuple[nn.Parameter, ...]:
        """The one of the projected space."""
        return (self.log_scale,)

    def identity(self) -> Mapping[str, Any]:
        """The base's, and the projections' form."""
        return {**self._identity, "base": self.base.identity()}

    def _project(self, modality: str, vectors: Tensor) -> Tensor:
        return normalize(self.heads[modality](vectors), dim=-1)


def projection(source: int, dim: int, layers: int, dropout: float = 0.0) -> nn.Sequential:
    """A projection from vectors of `source` to `dim`, of one layer or two.

    The layer norm in front lets one rate of learning serve towers whose vectors differ in scale.
    """
    if layers not in (1, 2):
        raise ValueError(f"a projection has one layer or two, not {layers}")
    inner = [nn.LayerNorm(source), nn.Dropout(dropout)]
    if layers == 2:
        inner += [nn.Linear(source, 2 * dim), nn.GELU(), nn.Dropout(dropout)]
        source = 2 * dim
    return nn.Sequential(*inner, nn.Linear(source, dim, bias=False))

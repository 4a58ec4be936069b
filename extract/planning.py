"""What a catalogue is going to be encoded to, and under what circumstances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from extract.catalog import Catalog
from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.fusion import default_fusion, fused_dim

Rows = Sequence[int] | np.ndarray
# The fused vector is the encoder's own, of picture and text together.
JOINT = "joint"


class EmbedOptions(BaseModel):
    """Under what circumstances a catalogue is encoded."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Pictures or texts per batch.  [default: 16, on a GPU 256; texts by their "
        "length]",
    )
    workers: int | None = Field(
        default=None,
        ge=0,
        description="Threads, or for a GPU processes, that decode pictures; 0 decodes in the main "
        "one.  [default: by the number of cores]",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Arithmetic of the encoder; below fp32 it is faster where the hardware has it, "
        "and less exact. Convolutional picture encoders stay in fp32.",
    )
    half_convolutions: bool = Field(
        default=False,
        description="Let --precision apply to convolutional picture encoders, too; their vectors "
        "move visibly.",
    )
    dtype: Literal["float32", "float16"] = Field(
        default="float32", description="How vectors are stored; float16 takes half the space."
    )
    fusion: Literal["auto", "joint", "mean", "sum", "product", "concat", "none"] = Field(
        default="auto",
        description="How the fused vector is made; auto is joint where the encoder has a tower "
        "that sees both, else mean where image and text vectors have one size, else concat.",
    )
    compile_images: bool = Field(
        default=False,
        description="Compile the picture encoder first: half a minute, after which convolutions on "
        "a CPU are half again as fast.",
    )
    shard_rows: int = Field(default=4096, ge=1, le=100_000, description="Items per shard.")


def picture_batch(options: EmbedOptions, device: torch.device) -> int:
    """Pictures per batch: what was asked for, or what was measured to be best."""
    return options.batch_size or (256 if device.type == "cuda" else 16)


@dataclass(frozen=True)
class Plan:
    """What `embed` is going to give, known before it starts.

    Attributes:
        dims: Modality to vector size, fused last.
        normalized: Modality to whether its vectors have length 1.
        fusion: A key of `FUSIONS`, or `JOINT`, or None.
    """

    dims: dict[str, int]
    normalized: dict[str, bool]
    fusion: str | None

    @property
    def encoded(self) -> tuple[str, ...]:
        """The modalities of the catalogue that are encoded."""
        return tuple(name for name in self.dims if name != "fused")

    @property
    def towers(self) -> tuple[str, ...]:
        """The columns that the encoder itself gives."""
        return (*self.encoded, "fused") if self.fusion == JOINT else self.encoded


def plan(encoder: Encoder, catalog: Catalog, options: EmbedOptions) -> Plan:
    """Which vectors a catalogue gets.

    A modality of which no item has anything is left out, instead of a column of nothing.

    Raises:
        UserError: There is nothing to encode, or the fusion does not fit.
    """
    dims = {name: encoder.dims[name] for name in catalog.modalities if name in encoder.dims}
    if not dims:
        raise UserError(
            f"none of the {len(catalog):,} items has a picture or a text to encode; prepare the "
            "data set with some"
        )
    normalized = {name: encoder.normalized[name] for name in dims}
    fusion = _choose_fusion(encoder, dims, options.fusion)
    if fusion == JOINT:
        dims["fused"] = encoder.dims["fused"]
        normalized["fused"] = encoder.normalized.get("fused", False)
    elif fusion:
        dims["fused"], normalized["fused"] = fused_dim(fusion, dims), False
    return Plan(dims, normalized, fusion)


def split(rows: Rows, size: int) -> list[Rows]:
    """Rows in pieces of a size, the last perhaps smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _choose_fusion(encoder: Encoder, dims: dict[str, int], wanted: str) -> str | None:
    if wanted == "none" or (wanted == "auto" and len(dims) < 2):
        return None
    if wanted == JOINT and "fused" not in encoder.dims:
        raise UserError(
            f"the fusion {JOINT!r} needs an encoder with a tower that sees picture and text "
            f"together, which {encoder.spec} has not; use --fusion auto"
        )
    if len(dims) < 2:
        raise UserError(
            f"the fusion {wanted!r} needs pictures and texts, found only {', '.join(dims)}; "
            "use --fusion none"
        )
    if wanted != "auto":
        return wanted
    return JOINT if "fused" in encoder.dims else default_fusion(dims)

"""Settings of training with an encoder in the loop."""

from typing import Literal

from pydantic import Field

from extract.encoders.adaptation import Adaptation
from extract.finetune.options import Rates
from pipelines.config import Config

# Those that are options of mmrec-train by their own names; all can be set as end_to_end.NAME.
OPTIONS = ("encoder_rate", "itc_weight", "chunk_size", "warm_epochs")


class EndToEndOptions(Adaptation, Rates, Config):
    """How an encoder takes part in training."""

    projection: int | None = Field(
        None,
        ge=0,
        description="Size of learned projections that are put behind the towers.  [default: none; "
        "for the ITC term of an encoder whose towers have no space in common, as mmrec-finetune]",
    )
    encoder_rate: float = Field(
        1e-5, gt=0, description="Adam's step size for the encoder's own weights."
    )
    learning_rate: float = Field(1e-3, gt=0, description="The same for what is added to it.")
    weight_decay: float = Field(
        0.0, ge=0, description="Adam's (L2, not decoupled), of the encoder's matrices."
    )
    warmup_steps: int = Field(
        100, ge=0, description="Steps in which the encoder's rates rise to their full size."
    )
    chunk_size: int = Field(
        32,
        ge=0,
        description="Items that go through the encoder at once, 0 for all of a batch; gradients "
        "are the same, memory is bounded.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Arithmetic of the encoder; its weights stay in fp32."
    )
    dropout: bool = Field(True, description="Whether the trained part of the encoder drops out.")
    warm_epochs: int = Field(
        0, ge=0, description="Epochs on features as they are, before the encoder takes part."
    )
    refresh_every: int = Field(
        1,
        ge=0,
        description="Epochs between encodings of the whole catalogue for training; 0 for none but "
        "those of validations.",
    )
    max_age: int | None = Field(
        None,
        ge=1,
        description="Steps after which a row that no batch held is encoded again.  [default: any]",
    )
    itc_weight: float = Field(
        0.0, ge=0, description="Weight of image-text contrast between a batch's items."
    )
    keep_frozen: bool = Field(
        True,
        description="Keep in memory what frozen layers give, or else decoded pictures, instead of "
        "making them again.",
    )
    workers: int | None = Field(
        None, ge=0, description="Threads or processes that decode.  [default: by the cores]"
    )

    @property
    def adaptation(self) -> Adaptation:
        """What is added to the encoder."""
        return Adaptation(**{name: getattr(self, name) for name in Adaptation.model_fields})


# What decides how training goes on, not what it comes to.
CIRCUMSTANCES = {"keep_frozen", "workers"}

"""What is trained of an encoder, by which losses, and under what circumstances."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

LOSSES = ("itc", "itm", "mlm", "label")


class Rates(BaseModel):
    """What of an encoder is trained, and at which rates."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    train: tuple[str, ...] = Field(
        (),
        description="What is trained beside what is added: 'all', 'none', or regular expressions "
        "over names of weights, each perhaps with its rate, PATTERN=RATE.  [default: none where "
        "something is added, else all]",
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak rate of what is added.")
    encoder_rate: float = Field(2e-5, gt=0, description="Peak rate of the encoder's own weights.")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Factor on the rate for each layer further from the top; 1 for none.",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, of matrices only.")
    clip_norm: float = Field(1.0, ge=0, description="Largest norm of a step's gradient; 0 for any.")


class TuneOptions(Rates):
    """Circumstances of fine-tuning, the same for every encoder."""

    losses: tuple[str, ...] = Field(
        (),
        description="Of itc, itm, mlm, label.  [default: itc; itc,itm,mlm for VLMo; and label "
        "where there is a --label-column]",
    )
    epochs: int = Field(10, ge=1, description="Epochs at most.")
    batch_size: int = Field(256, ge=2, description="Pairs that are contrasted with each other.")
    chunk_size: int | None = Field(
        None,
        ge=1,
        description="Pairs that go through the encoder at once; gradients are the same, memory "
        "is bounded.  [default: 32, or a whole batch of vectors from frozen towers]",
    )
    accumulate: int = Field(1, ge=1, description="Batches per step.")
    warmup: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of all steps in which rates rise; then they fall as a cosine.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Arithmetic of the encoder; weights and losses stay in fp32."
    )
    patience: int = Field(5, ge=1, description="Validations without improvement before the end.")
    evaluate_every: int = Field(1, ge=1, description="Epochs between validations.")
    mlm_probability: float = Field(0.15, gt=0, lt=1, description="Share of words that are hidden.")
    mlm_weight: float = Field(0.25, ge=0, description="Of the loss of hidden words.")
    label_weight: float = Field(1.0, ge=0, description="Of the label-aware loss.")
    label_temperature: float = Field(0.1, gt=0, description="Of the label-aware loss.")
    label_negatives: Literal["plain", "hard"] = Field(
        "plain", description="plain as in LaCViT; hard, near ones weighted up, as in CLCE."
    )
    keep_frozen: bool = Field(
        True,
        description="Keep in memory what frozen layers give, or else decoded pictures, instead of "
        "making them again.",
    )

    @field_validator("losses")
    @classmethod
    def _check_losses(cls, losses: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in losses if name not in LOSSES]
        if unknown:
            raise ValueError(f"unknown losses {', '.join(unknown)}; known: {', '.join(LOSSES)}")
        if losses and not {"itc", "label"} & set(losses):
            raise ValueError("one of itc and label is needed, which draw pictures to their texts")
        return losses

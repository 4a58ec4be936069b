"""Settings of ``mmrec-finetune``."""

from typing import Any

from pydantic import Field

from extract.encoders.adaptation import Adaptation
from extract.finetune.options import TuneOptions
from pipelines.config import Seed
from pipelines.overwriting import Overwriting

# What a setting of this kind is decides how training goes on, not what it comes to.
CIRCUMSTANCES = {"device", "workers", "checkpoint_seconds", "keep_frozen", "chunk_size", "merge"}
# Of these only what they name matters, whose digests are compared.
NAMES = {"encoder", "dataset", "out"}


class FinetuneConfig(Adaptation, TuneOptions, Overwriting):
    """What is tuned, how, and under what circumstances."""

    encoder: str | None = Field(
        default=None,
        description="The encoder, in one of the forms above, or one that was tuned before.",
    )
    out: str = Field(description="Name of the encoder that comes out, such as clip_ft.")
    dataset: str | None = Field(
        default=None, description="The data set; may be left out where there is just one."
    )
    holdout: tuple[float, float] = Field(
        default=(0.05, 0.05),
        description="Shares of the pairs for choosing the best weights and for the figures.",
    )
    holdout_column: str | None = Field(
        default=None,
        description="Column of the items; those with the same value are held out together, such "
        "as the colours of one product.",
    )
    label_column: str | None = Field(
        default=None, description="Column of the items, such as a category, for the loss label."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    seed: Seed = Field(default=0, description="Seed of everything drawn.")
    workers: int | None = Field(
        default=None, ge=0, description="Threads or processes that decode.  [default: by the cores]"
    )
    checkpoint_seconds: float = Field(
        default=60.0, ge=0, description="Seconds between checkpoints."
    )
    merge: str | None = Field(
        default=None,
        description="Train nothing: of this encoder of the data set make one whose LoRA adapters "
        "are part of its weights.",
    )

    @property
    def adaptation(self) -> Adaptation:
        """What is added to the encoder."""
        return Adaptation(**{name: getattr(self, name) for name in Adaptation.model_fields})

    def results(self) -> dict[str, Any]:
        """The settings that decide the result."""
        return self.model_dump(mode="json", exclude=CIRCUMSTANCES | NAMES)

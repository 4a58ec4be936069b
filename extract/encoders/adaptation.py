"""What is added to an encoder before it is tuned: projections, low-rank terms, bottlenecks."""

from pydantic import BaseModel, ConfigDict, Field

from extract.encoders.adapters import train_adapters_only
from extract.encoders.base import Encoder
from extract.encoders.bottlenecks import add_bottlenecks
from extract.encoders.lora import add_lora
from extract.encoders.projected import ProjectedEncoder
from extract.errors import UserError

USUAL_PROJECTION = 256


class Adaptation(BaseModel):
    """What is added to an encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    projection: int | None = Field(
        None,
        ge=0,
        description="Size of learned projections into one space; 0 for none.  [default: "
        f"{USUAL_PROJECTION} for an encoder whose towers have no space in common, such as a pair]",
    )
    projection_layers: int = Field(1, ge=1, le=2, description="Of each projection.")
    projection_dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of a projection's inputs that is dropped in training."
    )
    lora: int = Field(0, ge=0, description="Rank of LoRA adapters; 0 for none.")
    lora_alpha: float | None = Field(
        None, gt=0, description="Their scale times their rank.  [default: twice the rank]"
    )
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of a LoRA adapter's inputs that is dropped in training."
    )
    lora_layers: str = Field(
        "", description="Regular expression over names of layers that get one.  [default: all]"
    )
    bottlenecks: int = Field(
        0, ge=0, description="Size of MultiWay-Adapter bottlenecks; 0 for none."
    )


def adapt(encoder: Encoder, adaptation: Adaptation) -> tuple[Encoder, tuple[str, ...]]:
    """Add to an encoder what an adaptation tells of; its own weights may be changed in place.

    Returns:
        The encoder, and the names of the weights that were added.

    Raises:
        UserError: It has no place for them.
    """
    # What was merged into its weights is part of them: it is about to become another encoder.
    encoder.merged_from = ""
    lora, bottlenecks = adaptation.lora, adaptation.bottlenecks
    if lora:
        alpha = adaptation.lora_alpha or 2 * lora
        add_lora(encoder, lora, alpha, adaptation.lora_dropout, adaptation.lora_layers)
    if bottlenecks:
        add_bottlenecks(encoder, bottlenecks)
    added: list[str] = []
    if lora or bottlenecks:
        train_adapters_only(encoder)
        added = [name for name, weight in encoder.named_parameters() if weight.requires_grad]
    if adaptation.projection:
        encoder = ProjectedEncoder(
            encoder,
            adaptation.projection,
            adaptation.projection_layers,
            adaptation.projection_dropout,
        )
        own = [name for name, _ in encoder.named_parameters() if not name.startswith("base.")]
        added = [*(f"base.{name}" for name in added), *own]
    encoder.adapted = adaptation.model_dump(exclude={"projection_dropout", "lora_dropout"})
    return encoder, tuple(added)


def with_defaults(adaptation: Adaptation, encoder: Encoder) -> Adaptation:
    """The same with a projection where the encoder needs one and nothing was said.

    Raises:
        UserError: None is wanted, and pictures cannot be compared with texts without one.
    """
    sizes = {encoder.dims[name] for name in ("image", "text")}
    if adaptation.projection == 0 and len(sizes) > 1:
        raise UserError(
            f"{encoder.spec} gives vectors of {encoder.dims['image']} for pictures and of "
            f"{encoder.dims['text']} for texts, which cannot be compared without a projection"
        )
    if adaptation.projection is not None:
        return adaptation
    size = 0 if encoder.shares_space else USUAL_PROJECTION
    return adaptation.model_copy(update={"projection": size})

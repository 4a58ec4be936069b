"""The settings of a comparison."""

from typing import Any, Literal

from pydantic import Field, field_validator

from extract.errors import unknown_name
from pipelines.config import Config, Seed
from recommend.evaluate import Protocol
from recommend.metrics import NAMES
from recommend.sources import SourceName
from recommend.train import TrainOptions

# One from interactions alone, and three that use features in three ways.
USUAL_MODELS = ("lightgcn", "vbpr", "freedom", "bm3")
FROZEN: SourceName = "frozen"


class JudgeConfig(Config):
    """How finished runs are judged."""

    dataset: str | None = Field(None, description="Data set; may be left out where there is one.")
    name: str = Field(
        "compare", description="Of the comparison, whose folder is comparisons/DATASET/NAME."
    )
    primary: str = Field("recall@20", description="Metric that differences are judged by.")
    test: Literal["randomisation", "wilcoxon"] = Field(
        "randomisation", description="Paired test by user."
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="Of all intervals.")

    @field_validator("primary")
    @classmethod
    def _check_metric(cls, name: str) -> str:
        if name not in NAMES:
            raise ValueError(str(unknown_name("metric", name, NAMES)))
        return name


class PickedConfig(JudgeConfig):
    """How runs are judged that are there already; a grid's comparison is not written over."""

    name: str = Field("picked", description="Of the comparison.")


class CompareConfig(JudgeConfig):
    """What is compared, and how its runs are trained."""

    features: tuple[str, ...] | None = Field(
        None, description="Feature sets and controls.  [default: all finished feature sets]"
    )
    models: tuple[str, ...] = Field(USUAL_MODELS, description="Models.")
    regimes: tuple[SourceName, ...] = Field(
        (FROZEN,), description="Of frozen, tuned, refresh, end-to-end."
    )
    seeds: tuple[Seed, ...] = Field((0, 1, 2), description="Seeds, of each a run.")
    controls: bool = Field(
        True, description="Whether random and shuffled features are added to the grid."
    )
    protocol: Protocol = Field(
        "strict", description="strict hides validation items at test; mmrec does not."
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="Which of image,text,fused to use; image and text where there are such."
    )
    encoder: str | None = Field(
        None, description="The encoder of the regimes refresh and end-to-end."
    )
    trials: int = Field(
        0, ge=0, description="Settings to try on validation for each system; 0 takes them as given."
    )
    processes: int | None = Field(
        None, ge=1, description="Runs at a time.  [default: one a core, or one on a GPU]"
    )
    device: str = Field("auto", description="auto, cpu or cuda[:n].")
    checkpoint_seconds: float = Field(
        30.0, ge=0, description="Seconds between a run's checkpoints; 0 writes each epoch's."
    )
    train: TrainOptions = Field(TrainOptions(), description="The circumstances of training.")
    model: dict[str, Any] = Field({}, description="Settings that all of the models know.")
    end_to_end: dict[str, Any] = Field({}, description="How the encoder takes part.")

"""The settings of one run: what is trained, on what, under which circumstances."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from extract.errors import UserError, unknown_name
from extract.files import digest
from extract.finetune.options import Rates
from pipelines.config import Config, Seed, merged_settings, read_toml, validate
from pipelines.end_to_end_config import CIRCUMSTANCES, OPTIONS, EndToEndOptions
from recommend.evaluate import Protocol
from recommend.models import model_class
from recommend.sources import LIVE, SourceName
from recommend.train import TrainOptions

# What settings of an encoder mean nothing where it is not trained.
TRAINED_ONLY = (*Rates.model_fields, "warmup_steps", "max_age", "itc_weight")


class RunConfig(Config):
    """One run of ``mmrec-train``; `model` holds the model's name and its own settings."""

    dataset: str | None = Field(None, description="Data set; may be left out where there is one.")
    features: str | None = Field(
        None, description="Feature set, or the controls random and shuffled:NAME."
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="Which of image,text,fused to use; image and text where there are such."
    )
    protocol: Protocol = Field(
        "strict", description="strict hides validation items at test; mmrec, to compare, does not."
    )
    feature_source: SourceName = Field(
        "frozen",
        description="The regime: features as they are; a copy of them that is trained with the "
        "model; encoded again before each epoch, without a gradient; or encoded in each step by "
        "an encoder that the loss reaches.",
    )
    encoder: str | None = Field(
        None,
        description="The encoder of the regimes refresh and end-to-end, as for mmrec-extract; "
        "--features may then name its vectors, to start from.",
    )
    run: str | None = Field(None, description="Name of the run; made from the settings if absent.")
    seed: Seed = Field(0, description="Seed of everything random.")
    device: str = Field("auto", description="auto, cpu or cuda[:n].")
    checkpoint_seconds: float = Field(
        30.0, ge=0, description="Seconds between checkpoints for --resume; 0 writes each epoch's."
    )
    model: dict[str, Any] = Field(description="The model's name and settings.")
    train: TrainOptions = Field(TrainOptions(), description="The circumstances of training.")
    end_to_end: EndToEndOptions | None = Field(
        None, description="How an encoder takes part, in the regimes that have one."
    )

    def default_run_name(self, features: str) -> str:
        """``<model>-<features>[-<regime>]-s<seed>``, and a digest of what else is not default.

        Args:
            features: What the features are called.
        """
        regime = "" if self.feature_source == "frozen" else f"-{self.feature_source}"
        name = f"{self.model['name']}-{features}{regime}-s{self.seed}".replace(":", "-")
        default = resolve_run({"model": {"name": self.model["name"]}})
        own: list[Any] = [self.model, self.train, self.protocol, self.modalities]
        usual: list[Any] = [default.model, default.train, default.protocol, default.modalities]
        if self.end_to_end is not None:
            usual.append(EndToEndOptions())
            of_no_matter = {name: getattr(usual[-1], name) for name in CIRCUMSTANCES}
            own.append(self.end_to_end.model_copy(update=of_no_matter))
        return name if own == usual else f"{name}-{digest([repr(tuple(own))])[:6]}"

    def results(self) -> dict[str, Any]:
        """The settings that the results depend on, as plain values."""
        told = self.model_dump(mode="json", exclude={"device", "checkpoint_seconds"})
        if self.end_to_end is not None:
            told["end_to_end"] = self.end_to_end.model_dump(mode="json", exclude=CIRCUMSTANCES)
        return told


def run_settings(
    given: Mapping[str, Any], model: str | None, config_file: Path | None, sets: tuple[str, ...]
) -> RunConfig:
    """The settings of a run from options, ``--set``, and a file.

    Args:
        given: Options by field name; None means not given.
        model: The model's name, if given.
        config_file: A file, or the name of one of the settings that come with the project.
        sets: ``KEY=VALUE`` strings.

    Raises:
        UserError: All that is wrong with them.
    """
    path = shipped_config(config_file) if config_file else None
    live = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    others = {name: value for name, value in given.items() if name not in OPTIONS}
    settings = merged_settings(others, path, sets)
    own = settings.get("end_to_end", {})
    if live and isinstance(own, Mapping):  # anything else is refused below
        settings["end_to_end"] = {**own, **live}
    table = settings.get("model", {})
    table = {"name": table} if isinstance(table, str) else table
    named = table.get("name", model) if isinstance(table, dict) else None
    if model is not None and named != model:
        raise UserError(
            f"--model says {model!r}, the other settings are for {named!r}; leave out one of them"
        )
    return resolve_run({**settings, "model": {**table, "name": named}})


def read_run_config(path: Path) -> RunConfig:
    """The resolved settings of a run from its folder."""
    return resolve_run(read_toml(path))


def resolve_run(settings: Mapping[str, Any]) -> RunConfig:
    """Check settings, and fill in the defaults of the model that they name.

    Raises:
        UserError: All that is wrong with them.
    """
    table = settings.get("model")
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise UserError("which model? give --model NAME, or model.name in the settings file")
    name = table["name"]
    own = {key: value for key, value in table.items() if key != "name"}
    config_class = model_class(name).config_class
    problems = _regime_problems(settings)
    if settings.get("feature_source") in LIVE:
        settings = {"end_to_end": {}, **settings}
    try:
        table = {"name": name} | validate(config_class, own, "model").model_dump()
    except UserError as error:
        problems.append(str(error))
    try:
        config = validate(RunConfig, {**settings, "model": table})
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError("; ".join(problems))
    if config.end_to_end and config.end_to_end.warm_epochs >= config.train.max_epochs:
        raise UserError(
            f"the encoder would take no part: {config.end_to_end.warm_epochs} warm epochs of "
            f"{config.train.max_epochs} in all; give fewer --warm-epochs, or more train.max_epochs"
        )
    return config


def _regime_problems(settings: Mapping[str, Any]) -> list[str]:
    """What regime, encoder and its settings have against each other."""
    regime, encoder = settings.get("feature_source", "frozen"), settings.get("encoder")
    if regime in LIVE:
        problems = [] if encoder else [f"the regime {regime} needs --encoder SPEC"]
        return problems + (_trained_only(settings.get("end_to_end")) if regime == "refresh" else [])
    regimes = " or ".join(f"--feature-source {name}" for name in sorted(LIVE))
    told = {"--encoder": encoder, "the settings end_to_end": settings.get("end_to_end")}
    given = [name for name, value in told.items() if value is not None]
    return [f"only {regimes} can have {' and '.join(given)}"] if given else []


def _trained_only(table: Any) -> list[str]:
    """Which of `TRAINED_ONLY` are given."""
    usual, own = EndToEndOptions(), table if isinstance(table, Mapping) else {}
    given = [name for name in TRAINED_ONLY if own.get(name) not in (None, [], getattr(usual, name))]
    return [f"only --feature-source end-to-end can have {' and '.join(given)}"] if given else []


def shipped_config(file: Path) -> Path:
    """A settings file by path, or by the name of one that comes with the project.

    Raises:
        UserError: It is neither.
    """
    if file.is_file():
        return file
    folder = Path(str(resources.files("pipelines") / "configs"))
    shipped = {path.stem: path for path in folder.glob("*.toml")}
    if str(file) in shipped:
        return shipped[str(file)]
    raise unknown_name("settings file", str(file), shipped, "Or give the path of a TOML file")

"""The settings of one run: what is trained, on what, under which circumstances."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from extract.errors import UserError, unknown_name
from extract.files import digest
from pipelines.config import Config, Seed, merged_settings, read_toml, validate
from recommend.evaluate import Protocol
from recommend.models import model_class
from recommend.sources import SourceName
from recommend.train import TrainOptions


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
        "frozen", description="Features as they are, or a copy that is trained with the model."
    )
    run: str | None = Field(None, description="Name of the run; made from the settings if absent.")
    seed: Seed = Field(0, description="Seed of everything random.")
    device: str = Field("auto", description="auto, cpu or cuda[:n].")
    checkpoint_seconds: float = Field(
        30.0, ge=0, description="Seconds between checkpoints for --resume; 0 writes each epoch's."
    )
    model: dict[str, Any] = Field(description="The model's name and settings.")
    train: TrainOptions = Field(TrainOptions(), description="The circumstances of training.")

    def default_run_name(self) -> str:
        """``<model>-<features>[-tuned]-s<seed>``, and a digest of what else is not default."""
        tuned = "-tuned" if self.feature_source == "tuned" else ""
        name = f"{self.model['name']}-{self.features}{tuned}-s{self.seed}".replace(":", "-")
        default = resolve_run({"model": {"name": self.model["name"]}})
        own = (self.model, self.train, self.protocol, self.modalities)
        if own == (default.model, default.train, default.protocol, default.modalities):
            return name
        return f"{name}-{digest([repr(own)])[:6]}"

    def results(self) -> dict[str, Any]:
        """The settings that the results depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"device", "checkpoint_seconds"})


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
    settings = merged_settings(given, path, sets)
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
    problems: list[str] = []
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
    return config


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

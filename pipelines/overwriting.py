"""What a command may write over: the same thing made again; anything else only when told to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from extract.errors import UserError
from extract.manifest import MANIFEST, Manifest
from extract.parts import unfinished_encoder
from pipelines.config import Config
from pipelines.workspace import Dataset, read_json


class Overwriting(Config):
    """Settings of a command whose result has a name that may be taken."""

    # Not a property of the result, so it is not written down with it.
    overwrite: bool = Field(
        False,
        exclude=True,
        description="Replace what has that name already, though it was made otherwise.",
    )


def finished_features(folder: Path) -> Manifest | None:
    """The manifest of a feature folder; None where it is unfinished or cannot be read."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return Manifest.read(folder)
    except UserError:  # of another format, or torn
        return None


def check_same_encoder(folder: Path, encoder: Mapping[str, str], overwrite: bool) -> None:
    """Refuse to write features over those of another encoder, finished or not.

    Args:
        folder: Where they are to go.
        encoder: The ``spec`` and ``model``, or ``fingerprint``, of what is to make them.
        overwrite: Whether the user wants it nevertheless.

    Raises:
        UserError: The folder holds features of another encoder.
    """
    finished = None if overwrite else finished_features(folder)
    there = finished.encoder if finished else {} if overwrite else unfinished_encoder(folder)
    if there and _model(there) != _model(encoder):
        raise UserError(
            f"{folder} holds {'' if finished else 'unfinished '}features of {_told(there)}, not of "
            f"{_told(encoder)}; give these another name with --features, or replace those with "
            "--overwrite"
        )


def check_same_source(dataset: Dataset, kind: str, config: Overwriting) -> None:
    """Refuse to write a data set over one that was made otherwise.

    Args:
        dataset: Where it is to go.
        kind: The kind of its source.
        config: That source's settings.

    Raises:
        UserError: There is a finished data set of that name, and its description tells of another
            source or of other settings.
    """
    if config.overwrite or not dataset.description.is_file():
        return
    other = _difference(_described(dataset), kind, config)
    if other:
        raise UserError(
            f"the data set {dataset.folder} was made {other}; give this one another name with "
            "--dataset, or replace that one with --overwrite"
        )


def _told(encoder: Mapping[str, str]) -> str:
    return f"{encoder.get('spec')} (fingerprint {_model(encoder)[:8]})"


def _model(encoder: Mapping[str, str]) -> str:
    return encoder.get("model") or encoder.get("fingerprint", "")


def _described(dataset: Dataset) -> Any:
    try:
        return read_json(dataset.description)
    except UserError:  # torn
        return None


def _difference(described: Any, kind: str, config: Overwriting) -> str:
    """How the data set that is described was made otherwise; empty where it was not."""
    try:
        former_kind, settings = described["source"]["kind"], described["settings"]
        if former_kind != kind:
            return f"from the source {former_kind}, not {kind}"
        # Through the class, so that a setting that is new since then counts as its default.
        former = type(config).model_validate(settings)
    except (KeyError, TypeError, ValidationError):
        return "in a way that its dataset.json does not tell"
    told = [
        f"{name} {value}, not {getattr(config, name)}"
        for name, value in former
        if not type(config).model_fields[name].exclude and value != getattr(config, name)
    ]
    return f"with {'; '.join(told)}" if told else ""

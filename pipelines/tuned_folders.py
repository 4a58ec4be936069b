"""Folders of tuned encoders: what they say of themselves, and what may be written over them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extract.encoders.tuned import DESCRIPTION, FAMILY
from extract.errors import UserError
from pipelines.finetune_config import FinetuneConfig
from pipelines.workspace import Dataset, read_json

# Settings that decide which pairs are held out.
HELD_OUT_BY = ("seed", "holdout", "holdout_column")


def check_free(folder: Path, config: FinetuneConfig) -> None:
    """Refuse to write over a finished encoder, unless told to.

    Raises:
        UserError: There is one.
    """
    if (folder / DESCRIPTION).is_file() and not config.overwrite:
        raise UserError(
            f"{folder} holds an encoder that was made otherwise; give this one another name with "
            "--out, or replace that one with --overwrite"
        )


def describe(config: FinetuneConfig, dataset: Dataset) -> dict[str, Any]:
    """What ``encoder.json`` says of where an encoder comes from."""
    return {
        "name": config.out,
        "dataset": dataset.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": config.model_dump(mode="json", exclude_none=True),
    }


def knows_held_out(spec: str, config: FinetuneConfig, dataset: Dataset) -> bool:
    """Whether an encoder was tuned on pairs of the data set that are now to be held out.

    Args:
        spec: The encoder that is to be tuned.
        config: The settings.
        dataset: On which.
    """
    family, _, folder = spec.partition(":")
    if family != FAMILY:
        return False
    told = read_json(Path(folder) / DESCRIPTION)
    former, own = told.get("settings", {}), config.model_dump(mode="json", exclude_none=True)
    other = any(former.get(name) != own.get(name) for name in HELD_OUT_BY)
    return told.get("dataset") == dataset.name and other

"""What can be set of models and of training, for the help of ``mmrec-train``."""

from pydantic import BaseModel

from pipelines.end_to_end_config import EndToEndOptions
from recommend.models import MODELS
from recommend.train import TrainOptions


def settings_help() -> str:
    """Every setting with its default and meaning, as paragraphs that click leaves as they are."""
    paragraphs = [
        _paragraph("train", "Settings of training", TrainOptions),
        _paragraph("end_to_end", "Settings of an encoder that takes part", EndToEndOptions),
    ]
    for name, kind in MODELS.items():
        if kind.config_class.model_fields:
            paragraphs.append(_paragraph("model", f"Settings of {name}", kind.config_class))
    return "\n\n".join(paragraphs)


def _paragraph(table: str, title: str, config_class: type[BaseModel]) -> str:
    fields = config_class.model_fields.items()
    assignments = {key: f"{table}.{key}={field.default}" for key, field in fields}
    width = max(map(len, assignments.values()))
    lines = [f"  {assignments[key]:<{width}}  {field.description}" for key, field in fields]
    return "\n".join(["\b", f"{title} (--set), with their defaults:", *lines])

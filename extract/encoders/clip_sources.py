"""What the name of an open_clip model means: a tag, a weight file, or a folder."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.encoders.loading import looks_like_path, require_folder
from extract.errors import UserError, unknown_name

FOLDER_CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Source:
    """What open_clip is asked for.

    Attributes:
        model: A model's name, or ``local-dir:`` and a folder.
        weights: A tag or a file; None for a folder, which holds its own.
        quick_gelu: Whether the weights were trained with the activation QuickGELU.
        torchscript: Whether the file is a TorchScript archive, as OpenAI published them.
    """

    model: str
    weights: str | None = None
    quick_gelu: bool = False
    torchscript: bool = False


def find_source(open_clip: Any, spec: str) -> Source:
    """What a spec means by its part after the family and the colon.

    Raises:
        UserError: The folder, the model or its tag is unknown, or the weight file missing.
    """
    family, _, name = spec.partition(":")
    if looks_like_path(name):
        folder = Path(name).expanduser()
        require_folder(spec, folder, FOLDER_CONFIG)
        return Source(f"local-dir:{folder}")
    model, _, weights = name.partition("/")
    if model not in open_clip.list_models():
        raise unknown_name("open_clip model", model, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not weights:
        known = f"; its tags: {', '.join(tags)}" if tags else ""
        raise UserError(f"{spec} needs a tag or a weight file, {family}:{model}/TAG_OR_FILE{known}")
    return _weights_source(open_clip, spec, model, weights, tags)


def _weights_source(open_clip: Any, spec: str, model: str, weights: str, tags: list[str]) -> Source:
    tag = open_clip.get_pretrained_cfg(model, weights)
    if tag:
        # open_clip only warns of weights that were trained with QuickGELU and then runs them with
        # GELU, which gives other vectors; its default ViT-B-16/openai is such a case.
        return Source(model, weights, quick_gelu=tag.get("quick_gelu", False))
    file = Path(weights).expanduser()
    if file.is_file():
        torchscript = _is_torchscript(file)
        return Source(model, str(file), quick_gelu=torchscript, torchscript=torchscript)
    if file.suffix or "/" in weights:
        raise UserError(f"the encoder {spec} names the weight file {file}, which does not exist")
    raise unknown_name(f"tag of {model}", weights, tags, "Or give a weight file")


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())

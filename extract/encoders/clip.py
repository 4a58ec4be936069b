"""open_clip's dual encoders: by tag, from a weight file, or from a folder."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.encoders.base import Collate, Encoder, PrepareImage, Tokens, measure_dims
from extract.encoders.loading import (
    library,
    loading,
    looks_like_path,
    require_folder,
    spare_retries,
    tokenizer_digest,
)
from extract.errors import UserError, unknown_name

DEFAULT = "ViT-B-16/openai"
FOLDER_CONFIG = "open_clip_config.json"


class ClipEncoder(Encoder):
    """A model of open_clip, with its own transform and tokenizer; vectors in the joint space.

    Args:
        spec: The spec it was made from.
        model: What open_clip built, weights loaded.
        transform: Its transform for inference.
        tokenizer: Its tokenizer, which pads every text to the model's length.
        architecture: Its configuration.
    """

    image_parts = ("model.visual.",)

    def __init__(
        self,
        spec: str,
        model: Any,
        transform: PrepareImage,
        tokenizer: Callable[[list[str]], Tensor],
        architecture: Mapping[str, Any],
    ) -> None:
        size = model.visual.preprocess_cfg["size"]
        self.spares_padding = is_causal(model)
        super().__init__(
            spec,
            {"image": False, "text": False},
            transform,
            TokenIds(tokenizer, trimmed=self.spares_padding),
            Collate(),
            max(size) if isinstance(size, tuple | list) else size,
        )
        self.model = model
        self._identity = {
            "family": "clip",
            "architecture": dict(architecture),
            "preprocessing": dict(model.visual.preprocess_cfg),
            "tokenizer": describe_tokenizer(tokenizer),
        }
        self.dims = measure_dims(self)

    def encode_image(self, images: Tensor) -> Tensor:
        """Pixels, (n, 3, height, width), to the joint space."""
        return self.model.encode_image(images)

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Ids, (n, length), to the joint space; the model finds the end of a text by its token."""
        if self.spares_padding:
            return encode_causal_text(self.model, tokens["input_ids"])
        return self.model.encode_text(tokens["input_ids"])

    def identity(self) -> Mapping[str, Any]:
        """Architecture, transform, tokenizer."""
        return self._identity


@dataclass(frozen=True)
class TokenIds:
    """A tokenizer of open_clip as a function of one text.

    Attributes:
        tokenizer: It pads every text to the model's length, with zeros.
        trimmed: Whether the padding is left out.
    """

    tokenizer: Callable[[list[str]], Tensor]
    trimmed: bool = False

    def __call__(self, text: str) -> list[int]:
        """The text's ids."""
        ids: list[int] = self.tokenizer([text])[0].tolist()
        # Zero is a word, too; but every text ends with the mark of the end.
        while self.trimmed and len(ids) > 1 and ids[-1] == 0:
            ids.pop()
        return ids


def is_causal(model: Any) -> bool:
    """Whether no token of a text sees those after it, so that padding decides nothing.

    That is so in CLIP itself; other text towers of open_clip attend to all of a text.
    """
    return (
        type(model).__name__ == "CLIP"
        and getattr(model, "attn_mask", None) is not None
        and getattr(model, "text_pool_type", None) == "argmax"
    )


def encode_causal_text(model: Any, ids: Tensor) -> Tensor:
    """CLIP's text tower on texts that are not padded to its full length.

    Radford et al. 2021, section 2.4: embeddings with positions, a transformer in which a token
    sees those before it, and the projection of what stands at the end of the text.

    Args:
        model: A CLIP of open_clip, for which `is_causal` holds.
        ids: (n, length), zeros after the end of a text; of all ids the end's is the largest.

    Returns:
        (n, dim), equal to ``model.encode_text`` of the same ids padded.
    """
    length = ids.shape[1]
    dtype = model.transformer.get_cast_dtype()
    hidden = model.token_embedding(ids).to(dtype) + model.positional_embedding[:length].to(dtype)
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    ends = model.ln_final(hidden)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
    projection = model.text_projection
    if projection is None:
        return ends
    return projection(ends) if isinstance(projection, torch.nn.Module) else ends @ projection


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


def create_clip(name: str) -> ClipEncoder:
    """The encoder of ``clip``, ``clip:MODEL/TAG_OR_FILE`` or ``clip:FOLDER``.

    Raises:
        UserError: An unknown model or tag, a missing file, or weights that cannot be had or do
            not fit.
    """
    name = name or DEFAULT
    spec = f"clip:{name}"
    open_clip = library("open_clip", "open_clip_torch")
    source = find_source(open_clip, spec, name)
    remedy = "check that the weights belong to the model"
    if source.weights and not Path(source.weights).is_file():
        spare_retries()
        remedy = f"with the weights in a local file write clip:{source.model}/FILE"
    with loading(spec, remedy):
        model, transform = open_clip.create_model_from_pretrained(
            source.model,
            source.weights,
            force_quick_gelu=source.quick_gelu,
            weights_only=not source.torchscript,
        )
        tokenizer = open_clip.get_tokenizer(source.model)
        architecture = open_clip.get_model_config(source.model)
        architecture["quick_gelu"] = architecture.get("quick_gelu", False) or source.quick_gelu
        return ClipEncoder(spec, model.eval(), transform, tokenizer, architecture)


def find_source(open_clip: Any, spec: str, name: str) -> Source:
    """What the part of a spec after ``clip:`` means."""
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
        raise UserError(f"{spec} needs a tag or a weight file, clip:{model}/TAG_OR_FILE{known}")
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


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """What of an open_clip tokenizer decides the ids."""
    inner = getattr(tokenizer, "tokenizer", None)  # of its wrapper around transformers
    if inner is not None:
        vocabulary = tokenizer_digest(inner)
    else:
        text = json.dumps(tokenizer.encoder, sort_keys=True)
        vocabulary = hashlib.sha256(text.encode()).hexdigest()[:32]
    return {
        "class": type(tokenizer).__name__,
        "context_length": tokenizer.context_length,
        "clean": getattr(getattr(tokenizer, "clean_fn", None), "__name__", ""),
        "vocabulary": vocabulary,
    }

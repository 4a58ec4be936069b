"""open_clip's dual encoders: by tag, from a weight file, or from a folder."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.encoders.base import Collate, Encoder, PrepareImage, Tokens, measure_dims
from extract.encoders.clip_sources import find_source
from extract.encoders.loading import library, loading, spare_retries, tokenizer_digest
from extract.encoders.token_vectors import (
    TokenVectors,
    filled,
    measure_token_dims,
    open_clip_image_tokens,
    open_clip_text_tokens,
)

DEFAULT = "ViT-B-16/openai"


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
        self.token_dims = measure_token_dims(self)

    def encode_image(self, images: Tensor) -> Tensor:
        """Pixels, (n, 3, height, width), to the joint space."""
        # CoCa would normalise unless told not to.
        return self.model.encode_image(images, normalize=False)

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Ids, (n, length), to the joint space; the model finds the end of a text by its token."""
        if self.spares_padding:
            return encode_causal_text(self.model, tokens["input_ids"])
        return self.model.encode_text(tokens["input_ids"], normalize=False)

    def encode_tokens(self, modality: str, batch: Any) -> TokenVectors:
        """Patches with the class token, or words, before pooling and projection."""
        if modality == "image":
            return open_clip_image_tokens(self.model.visual, batch)
        ids = batch["input_ids"]
        if self.spares_padding:
            return causal_states(self.model, ids), filled(ids)
        return open_clip_text_tokens(self.model, ids)

    @property
    def log_scales(self) -> tuple[torch.nn.Parameter, ...]:
        """The scale that the model was trained with."""
        scale = getattr(self.model, "logit_scale", None)
        return (scale,) if isinstance(scale, torch.nn.Parameter) else ()

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

    Radford et al. 2021, section 2.4: the projection of what stands at the end of the text in
    `causal_states`.

    Args:
        model: A CLIP of open_clip, for which `is_causal` holds.
        ids: (n, length), zeros after the end of a text; of all ids the end's is the largest.

    Returns:
        (n, dim), equal to ``model.encode_text`` of the same ids padded.
    """
    rows = torch.arange(len(ids), device=ids.device)
    ends = causal_states(model, ids)[rows, ids.argmax(dim=-1)]
    projection = model.text_projection
    if projection is None:
        return ends
    return projection(ends) if isinstance(projection, torch.nn.Module) else ends @ projection


def causal_states(model: Any, ids: Tensor) -> Tensor:
    """The vectors of a text's words in CLIP, before pooling and projection.

    They are embeddings with positions, and a transformer in which a token sees those before it.

    Args:
        model: As for `encode_causal_text`.
        ids: As for `encode_causal_text`.

    Returns:
        (n, length, width).
    """
    length = ids.shape[1]
    dtype = model.transformer.get_cast_dtype()
    hidden = model.token_embedding(ids).to(dtype) + model.positional_embedding[:length].to(dtype)
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(hidden)


def create_clip(name: str) -> ClipEncoder:
    """The encoder of ``clip``, ``clip:MODEL/TAG_OR_FILE`` or ``clip:FOLDER``.

    Raises:
        UserError: An unknown model or tag, a missing file, or weights that cannot be had or do
            not fit.
    """
    return load_clip(f"clip:{name or DEFAULT}", ClipEncoder)


def load_clip(
    spec: str, encoder: Callable[..., ClipEncoder], **preprocessing: object
) -> ClipEncoder:
    """The encoder of a whole spec, of whatever family.

    Args:
        spec: A family, a colon, and a name as for `create_clip`.
        encoder: From what `ClipEncoder` takes to what is wanted.
        preprocessing: What of the model's own transform is replaced, as open_clip names it.

    Raises:
        UserError: As `create_clip` does.
    """
    open_clip = library("open_clip", "open_clip_torch")
    source = find_source(open_clip, spec)
    remedy = "check that the weights belong to the model"
    if source.weights and not Path(source.weights).is_file():
        spare_retries()
        family = spec.partition(":")[0]
        remedy = f"with the weights in a local file write {family}:{source.model}/FILE"
    with loading(spec, remedy):
        model, transform = open_clip.create_model_from_pretrained(
            source.model,
            source.weights,
            force_quick_gelu=source.quick_gelu,
            weights_only=not source.torchscript,
            **preprocessing,
        )
        tokenizer = open_clip.get_tokenizer(source.model)
        architecture = open_clip.get_model_config(source.model)
        architecture["quick_gelu"] = architecture.get("quick_gelu", False) or source.quick_gelu
        return encoder(spec, model.eval(), transform, tokenizer, architecture)


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

"""The vectors of patches and words, from what each library has of them.

Each function gives vectors, (n, length, dim), of the last layer, and which of them are there,
(n, length) bool, and raises `NotImplementedError` of a model that has none.
"""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from extract.encoders.base import Encoder, Tokens

TokenVectors = tuple[Tensor, Tensor]


def measure_token_dims(encoder: Encoder) -> dict[str, int]:
    """The sizes of an encoder's token vectors, found with a blank picture and a word.

    A modality for which `encode_tokens` raises `NotImplementedError` is left out.
    """
    blank = encoder.prepare_image(Image.new("RGB", (64, 64), "grey"))
    inputs = encoder.collate({"image": [blank], "text": [encoder.prepare_text("word")]})
    dims = {}
    for modality, batch in inputs.items():
        try:
            with torch.no_grad():
                dims[modality] = encoder.encode_tokens(modality, batch)[0].shape[-1]
        except NotImplementedError:
            continue
    return dims


def filled(ids: Tensor, pad: int = 0) -> Tensor:
    """Which ids of (n, length) stand before the padding at the end.

    The padding's id may be a word inside of a text.
    """
    return (ids != pad).flip(1).cumsum(1).flip(1) > 0


def timm_tokens(model: Any, images: Tensor) -> TokenVectors:
    """A timm model's last map, place by place, or its last sequence, class token first."""
    features = model.forward_features(images.contiguous(memory_format=torch.channels_last))
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        raise NotImplementedError(f"{type(model).__name__} gives no map and no sequence")
    if features.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC":
        features = features.flatten(1, 2)
    return _all_there(features)


def open_clip_image_tokens(visual: Any, images: Tensor) -> TokenVectors:
    """What the picture tower of open_clip gives before pooling and projection.

    Of a vision transformer it is the class token and the patches, layer norm done; where the tower
    pools by attention, they are what that attends to. Of a ResNet it is the last map.
    """
    if hasattr(visual, "trunk"):
        return timm_tokens(visual.trunk, images)
    if not hasattr(visual, "ln_post"):
        found = visual.forward_intermediates(images, indices=1, intermediates_only=True)
        return _all_there(found["image_intermediates"][-1])
    found = visual.forward_intermediates(
        images,
        indices=1,
        normalize_intermediates=visual.attn_pool is None,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    first, patches = found["image_intermediates_prefix"][-1], found["image_intermediates"][-1]
    return _all_there(torch.cat([first, patches], dim=1))


def open_clip_text_tokens(model: Any, ids: Tensor) -> TokenVectors:
    """What the text tower of open_clip gives before pooling and projection, layer norm done.

    Args:
        model: A model of open_clip.
        ids: (n, length), padded to the model's length.
    """
    tower = getattr(model, "text", None)
    if tower is None:
        found = model.forward_intermediates(
            text=ids, text_indices=1, normalize_intermediates=True, intermediates_only=True
        )
        return found["text_intermediates"][-1], filled(ids)
    if hasattr(tower, "config"):  # a model of transformers
        there = ids != tower.config.pad_token_id
        output = tower.transformer(input_ids=ids, attention_mask=there.long())
        return output.last_hidden_state, there
    found = tower.forward_intermediates(
        ids, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
    )
    return found["text_intermediates"][-1], filled(ids, tower.pad_id)


def transformers_tokens(output: Any, mask: Tensor | None) -> TokenVectors:
    """The last hidden states of a tower of transformers.

    Args:
        output: What ``get_image_features`` or ``get_text_features`` gave.
        mask: Which of the inputs are there, (n, length); None for all.
    """
    states = getattr(output, "last_hidden_state", None)
    if not isinstance(states, Tensor):
        raise NotImplementedError("it does not tell its hidden states")
    if mask is None or mask.shape != states.shape[:2]:
        return _all_there(states)
    return states, mask.bool()


def sentence_tokens(model: Any, tokens: Tokens) -> TokenVectors:
    """The word vectors that a text model of sentence-transformers pools, prompt included."""
    vectors: Mapping[str, Tensor] = model({**tokens})
    return vectors["token_embeddings"], tokens["attention_mask"].bool()


def _all_there(vectors: Tensor) -> TokenVectors:
    """A map, (n, dim, height, width), or a sequence, (n, length, dim), of which nothing lacks."""
    if vectors.ndim == 4:
        vectors = vectors.flatten(2).transpose(1, 2)
    return vectors, torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)

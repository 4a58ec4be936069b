"""From a VLMo checkpoint to the model: containers, what may be missing, other resolutions.

Only weights are loaded: a pickle that would run code is refused.
"""

import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.encoders.vlmo.heads import HEADS
from extract.encoders.vlmo.model import VLMo
from extract.encoders.vlmo.positions import resize_bias_table, resize_positions
from extract.encoders.vlmo.sizes import (
    POSITIONS,
    TABLE,
    Shapes,
    Sizes,
    infer_sizes,
    read_fields,
)
from extract.errors import UserError

CONTAINERS = ("state_dict", "module", "model")
# Computed from the sizes; some versions of the published code save them.
IGNORED = {
    "text_embeddings.position_ids",
    "relative_position_index",
    "text_relative_position_index",
    "text_imag_relative_position_index",
}
LISTED = 3
MOST_PIXELS = 1024


def load_checkpoint(file: Path, pixels: int | None = None) -> VLMo:
    """The model of a checkpoint, in float32, on the CPU.

    Args:
        file: A file of ``torch.save`` or of safetensors.
        pixels: The side of the pictures it shall take; None: that of its own.

    Raises:
        UserError: There is no such file, it cannot be read, it is not exactly a VLMo, or pictures
            cannot have that side.
    """
    weights = {key: value for key, value in read_weights(file).items() if key not in IGNORED}
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    sizes = infer_sizes(shapes, read_config(file), str(file))
    _cut(weights, sizes)
    heads = [head for head, begin in HEADS.items() if any(k.startswith(begin) for k in weights)]
    _check_fit(weights, _without_memory(sizes, heads), file)
    model = _without_memory(_resize(weights, sizes, pixels, file), heads)
    # Copied, so that no two weights share their memory, whatever they did in the file.
    own = {key: value.to(torch.float32, copy=True) for key, value in weights.items()}
    model.load_state_dict(own, assign=True)
    return model


def read_weights(file: Path) -> dict[str, Tensor]:
    """The state dict in a file, out of its container and without a prefix ``module.``.

    Raises:
        UserError: There is no such file, or it holds something else or more.
    """
    if not file.is_file():
        raise UserError(f"there is no checkpoint {file}; vlmo is written vlmo:FILE[@PIXELS]")
    content = _read(file)
    if isinstance(content, Mapping):
        name = next((name for name in CONTAINERS if isinstance(content.get(name), Mapping)), None)
        content = content[name] if name else content
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"the checkpoint {file} holds {_kind(content)}; expected a state dict")
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise UserError(
                f"the checkpoint {file} holds {_kind(value)} under {key!r}; expected a state dict, "
                f"bare or under one of {', '.join(CONTAINERS)}"
            )
    return {key.removeprefix("module."): value for key, value in content.items()}


def read_config(file: Path) -> dict[str, Any]:
    """The sizes that a JSON file beside a checkpoint tells, if there is one.

    That is the file of the same name, or ``config.json`` if it speaks of ``num_heads``; other
    models' files of that name do not.

    Raises:
        UserError: It is no JSON, or a size is of the wrong type.
    """
    own, common = file.with_suffix(".json"), file.parent / "config.json"
    found = own if own.is_file() else common
    if not found.is_file():
        return {}
    try:
        config = json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{found} is no JSON ({error}); it should tell VLMo's sizes") from error
    if not isinstance(config, dict):
        raise UserError(f"{found} holds {_kind(config)}; expected an object of VLMo's sizes")
    return read_fields(config, str(found)) if found == own or "num_heads" in config else {}


def _read(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers and archive readers raise what they like
        unpickling = isinstance(error, pickle.UnpicklingError)
        if unpickling and "GLOBAL" in str(error):  # it names a function or a class
            raise UserError(
                f"the checkpoint {file} holds more than weights, which could run code, and is not "
                "loaded; if you trust it, save its state dict alone: torch.save(model.state_dict())"
            ) from error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        if unpickling:  # what PyTorch says then is about its own options
            reason = "no file of torch.save"
        raise UserError(
            f"the checkpoint {file} is damaged or of another format ({reason}); fetch it again"
        ) from error


def _kind(value: Any) -> str:
    return "nothing" if isinstance(value, Mapping) and not value else f"a {type(value).__name__}"


def _without_memory(sizes: Sizes, heads: Iterable[str]) -> VLMo:
    with torch.device("meta"):
        return VLMo(sizes, heads)


def _cut(weights: dict[str, Tensor], sizes: Sizes) -> None:
    """Cut tables that a checkpoint may have longer: text positions, and a second picture's row."""
    for key, rows in (
        ("text_embeddings.position_embeddings.weight", sizes.max_text_len),
        ("token_type_embeddings.weight", 2),
    ):
        if key in weights:
            weights[key] = weights[key][:rows]


def _check_fit(weights: Mapping[str, Tensor], model: VLMo, file: Path) -> None:
    expected: Shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    other = [key for key in expected if key in found and found[key] != expected[key]]
    kinds = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{key} {found[key]} instead of {expected[key]}" for key in sorted(other)
        ],
    }
    if any(kinds.values()):
        told = "; ".join(f"{len(k)} {kind} ({_first(k)})" for kind, k in kinds.items() if k)
        sizes = model.sizes
        raise UserError(
            f"the checkpoint {file} does not fit a VLMo of {sizes.depth} layers, {sizes.embed_dim} "
            f"dimensions and {sizes.image_size} pixels: weights {told}; a pre-trained or "
            "retrieval-tuned checkpoint is needed"
        )


def _first(names: Iterable[str]) -> str:
    names = list(names)
    more = f", ... {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _resize(weights: dict[str, Tensor], sizes: Sizes, pixels: int | None, file: Path) -> Sizes:
    if pixels is None:
        return sizes
    if pixels % sizes.patch_size or not 0 < pixels <= MOST_PIXELS:
        raise UserError(
            f"{pixels} pixels do not suit the checkpoint {file}; expected a multiple of the side "
            f"of its patches, {sizes.patch_size}, at most {MOST_PIXELS}"
        )
    resized = replace(sizes, image_size=pixels)
    for key, resize in ((TABLE, resize_bias_table), (POSITIONS, resize_positions)):
        if key in weights:
            # Tables of half precision are resized in full, too.
            table = weights[key].float()
            weights[key] = resize(table, sizes.window, resized.window)
    return resized

"""Encoders that were tuned on a catalogue: a folder with a recipe, and the weights that differ.

``encoder.json``, written last, says what the encoder was made from, what was added to it, and how
well it does; ``weights.safetensors`` holds the trained weights and no others, so that adapters take
little room. Everything else comes from the base, which is checked to be the one that it was.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from extract.encoders.adaptation import Adaptation, adapt
from extract.encoders.base import Encoder
from extract.encoders.lora import merge_adapters
from extract.encoders.weights import misfits, put_weights
from extract.errors import UserError
from extract.files import file_sha256, is_remote, local_copy, replacing, write_json

FORMAT = "mmrec-encoder/1"
DESCRIPTION, WEIGHTS = "encoder.json", "weights.safetensors"
FAMILY = "tuned"
# A base in the same workspace is told by its path from the encoder's own folder.
RELATIVE = f"{FAMILY}:../"
# Where encoders lie in a workspace: those of data sets, and those of runs.
PLACE = re.compile(r"(?P<root>.*)/(?:data/[^/]+/encoders/[^/]+|runs/[^/]+/[^/]+/encoder)")


@dataclass(frozen=True)
class Recipe:
    """How a tuned encoder's form is made.

    Attributes:
        base: The spec of the encoder that was tuned.
        base_model: Its fingerprint.
        adaptation: What was added to it.
    """

    base: str
    base_model: str
    adaptation: Adaptation


def save_tuned(
    folder: Path, recipe: Recipe, weights: Mapping[str, Tensor], told: Mapping[str, Any]
) -> None:
    """Write a tuned encoder; it is finished when this returns.

    Args:
        folder: Where to.
        recipe: How its form is made.
        weights: Those that differ from the form's own, by name.
        told: What else ``encoder.json`` is to say.
    """
    (folder / DESCRIPTION).unlink(missing_ok=True)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
        sha256 = file_sha256(temporary)
    description = {
        "format": FORMAT,
        "base": _as_relative(recipe.base, folder),
        "base_model": recipe.base_model,
        "adaptation": recipe.adaptation.model_dump(),
        "weights": {
            "sha256": sha256,
            "tensors": len(tensors),
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
        },
        **told,
    }
    write_json(folder / DESCRIPTION, description)


def create_tuned(name: str) -> Encoder:
    """The encoder of ``tuned:FOLDER``, low-rank adapters merged.

    Raises:
        UserError: The folder holds no finished encoder, it is torn, or its base is another one.
    """
    return load_tuned(Path(name).expanduser())


def load_tuned(folder: Path, merge: bool = True) -> Encoder:
    """The encoder of a folder.

    Args:
        folder: What `save_tuned` wrote.
        merge: Whether low-rank adapters become part of the weights, which is faster. The
            fingerprint is the same either way.

    Raises:
        UserError: As `create_tuned`.
    """
    recipe, sha256 = read_recipe(folder)
    weights = _read_weights(folder, sha256)
    encoder = build(recipe, folder)
    _put(encoder, weights, folder)
    encoder.spec = f"{FAMILY}:{folder}"
    if merge and recipe.adaptation.lora:
        encoder.merged_from = encoder.fingerprint()
        merge_adapters(encoder)
    return encoder.eval()


def build(recipe: Recipe, folder: Path) -> Encoder:
    """An encoder of a recipe's form, with the base's weights.

    Raises:
        UserError: The base cannot be had, or is another one than it was.
    """
    from extract.encoders import create_encoder  # which knows all families, this one too

    base = create_encoder(recipe.base)
    if base.fingerprint() != recipe.base_model:
        raise UserError(
            f"the encoder {folder} was tuned from {recipe.base} with the fingerprint "
            f"{recipe.base_model[:8]}, and what that names now has {base.fingerprint()[:8]}; bring "
            f"the former back, or {_remedy(folder)}"
        )
    return adapt(base, recipe.adaptation)[0]


def read_recipe(folder: Path) -> tuple[Recipe, str]:
    """The recipe of a tuned encoder, and the digest of its weights.

    Raises:
        UserError: The folder holds no finished encoder, or not one of ours.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"the folder {folder} has no {DESCRIPTION}, so there is no finished encoder in it; "
            f"make it with mmrec-finetune --encoder SPEC --out {folder.name}"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise UserError(f"{path} has format {told['format']!r}, expected {FORMAT!r}")
        recipe = Recipe(
            _from_relative(told["base"], folder),
            told["base_model"],
            Adaptation.model_validate(told["adaptation"]),
        )
        return recipe, told["weights"]["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = " ".join(repr(error).split())
        raise UserError(
            f"{path} does not describe an encoder ({reason:.100}); {_remedy(folder)}"
        ) from error


def merge_folder(folder: Path, target: Path, told: Mapping[str, Any]) -> None:
    """Write an encoder whose low-rank adapters are part of its weights.

    Raises:
        UserError: The folder holds no encoder with low-rank adapters.
    """
    recipe, _ = read_recipe(folder)
    if not recipe.adaptation.lora:
        raise UserError(f"the encoder {folder} has no LoRA adapters, so there is nothing to merge")
    plain = Recipe(recipe.base, recipe.base_model, recipe.adaptation.model_copy(update={"lora": 0}))
    before = dict(build(plain, folder).named_parameters())
    merged = {
        name: weight
        for name, weight in load_tuned(folder).named_parameters()
        if not torch.equal(weight, before[name])
    }
    save_tuned(target, plain, merged, told)


def _read_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    try:
        with local_copy(path) as file:
            if file_sha256(file) != sha256:
                raise UserError(
                    f"{path} is not the file that {DESCRIPTION} tells of, it may be torn; "
                    f"{_remedy(folder)}"
                )
            return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); {_remedy(folder)}") from error


def _put(encoder: Encoder, weights: Mapping[str, Tensor], folder: Path) -> None:
    wrong = misfits(encoder, weights)
    if wrong:
        raise UserError(
            f"{len(wrong)} weights of {folder} do not fit the encoder that it was made from, such "
            f"as {wrong[0]}; {_remedy(folder)}"
        )
    put_weights(encoder, weights)


def _as_relative(base: str, folder: Path) -> str:
    """A tuned base beside the folder or in its workspace by its path from there.

    So the data set and the workspace can move.
    """
    family, _, path = base.partition(":")
    if family != FAMILY:
        return base
    here = os.path.normpath(str(folder) if is_remote(folder) else folder.resolve())
    if base.startswith(RELATIVE):
        there = os.path.normpath(os.path.join(here, path))
    else:
        there = str(Path(path).resolve())
    is_beside = os.path.dirname(here) == os.path.dirname(there)
    root = _workspace(here)
    is_near = is_beside or (root is not None and root == _workspace(there))
    return f"{FAMILY}:{os.path.relpath(there, here)}" if is_near else base


def _from_relative(base: str, folder: Path) -> str:
    if not base.startswith(RELATIVE):
        return base
    return f"{FAMILY}:{(folder / base.removeprefix(f'{FAMILY}:')).resolve()}"


def _workspace(folder: str) -> str | None:
    """The root of the workspace that an encoder's folder lies in; None where it lies in none."""
    place = PLACE.fullmatch(folder)
    return place["root"] if place else None


def _remedy(folder: Path) -> str:
    """How to make an encoder again: in which way it was made its folder tells."""
    of_run = (folder.parent / "config.toml").is_file()
    return "train that run again" if of_run else "tune it again with --overwrite"

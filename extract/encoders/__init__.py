"""The table of encoders, by family; a family's libraries are imported when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass

from extract.encoders.base import Encoder
from extract.errors import UserError, unknown_name


@dataclass(frozen=True)
class Family:
    """One line of the table of encoders.

    Attributes:
        form: How a spec of the family is written.
        meaning: What it stands for.
        create: From what follows the colon of a spec, possibly nothing, to the encoder.
    """

    form: str
    meaning: str
    create: Callable[[str], Encoder]


def _clip(name: str) -> Encoder:
    from extract.encoders.clip import create_clip

    return create_clip(name)


def _clip_paper(name: str) -> Encoder:
    from extract.encoders.clip_paper import create_clip_paper

    return create_clip_paper(name)


def _hf(name: str) -> Encoder:
    from extract.encoders.hf import create_hf

    return create_hf(name)


def _pair(name: str) -> Encoder:
    from extract.encoders.single import create_pair

    return create_pair(name)


def _offline(name: str) -> Encoder:
    from extract.encoders.single import create_offline

    return create_offline(name)


def _vlmo(name: str) -> Encoder:
    from extract.encoders.vlmo.encoder import create_vlmo

    return create_vlmo(name)


def _tuned(name: str) -> Encoder:
    from extract.encoders.tuned import create_tuned

    return create_tuned(name)


def _random(name: str) -> Encoder:
    from extract.encoders.random import create_random

    return create_random(name)


ENCODERS = {
    "clip": Family(
        "clip[:MODEL/TAG_OR_FILE | :FOLDER]",
        "any open_clip model; alone: ViT-B-16/openai",
        _clip,
    ),
    "clip-paper": Family(
        "clip-paper[:MODEL/TAG_OR_FILE | :FOLDER]",
        "the same as the published work fed it, by mistake; to compare",
        _clip_paper,
    ),
    "hf": Family("hf:ID_OR_FOLDER", "a transformers dual encoder, such as CLIP or SigLIP", _hf),
    "pair": Family(
        "pair:timm/NAME_OR_FOLDER+st/NAME_OR_FOLDER",
        "any timm picture model beside any sentence-transformers text model",
        _pair,
    ),
    "offline": Family("offline", "EfficientNet-Lite0 and MiniLM, without a download", _offline),
    "vlmo": Family(
        "vlmo:FILE[@PIXELS]",
        "VLMo from a checkpoint as published; pictures of another side where told",
        _vlmo,
    ),
    "tuned": Family(
        "tuned:FOLDER",
        "an encoder that mmrec-finetune made; of the same data set its name alone will do",
        _tuned,
    ),
    "random": Family("random:DIM", "a control: vectors seeded by content", _random),
}


def family_of(spec: str) -> str:
    """The family of a spec: what stands before its first colon.

    Raises:
        UserError: There is no such family.
    """
    name = spec.partition(":")[0]
    if name not in ENCODERS:
        forms = ", ".join(family.form for family in ENCODERS.values())
        raise unknown_name("encoder", name, ENCODERS, f"Specs are written {forms}")
    return name


def create_encoder(spec: str) -> Encoder:
    """The encoder of a spec, on the CPU, in evaluation mode.

    Args:
        spec: As the forms of `ENCODERS` show.

    Raises:
        UserError: The spec is wrong, or what it names is not installed or cannot be had.
    """
    _, colon, rest = spec.partition(":")
    family = ENCODERS[family_of(spec)]
    if colon and not rest:
        raise UserError(f"nothing follows the colon of {spec!r}; it is written {family.form}")
    return family.create(rest).eval()

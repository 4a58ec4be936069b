"""What is known of the features that were compared: which encoder made them, and of which kind."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from extract.errors import UserError
from extract.manifest import Manifest
from pipelines.workspace import ENCODER_JSON, Dataset, read_json

Kind = Literal["modality-specific", "large multimodal", "random", "unknown"]
# By the family of an encoder's spec. Matrices that were given say nothing of their encoder.
KINDS: dict[str, Kind] = {
    "clip": "large multimodal",
    "clip-paper": "large multimodal",
    "hf": "large multimodal",
    "vlmo": "large multimodal",
    "pair": "modality-specific",
    "offline": "modality-specific",
    "random": "random",
}
TUNED = "tuned"


@dataclass(frozen=True)
class FeatureSet:
    """One feature set of a data set.

    Attributes:
        name: Of its folder.
        spec: The encoder that made it, as the user asked for it.
        fingerprint: Of all but the contents that decides the vectors.
        precision: The arithmetic; empty where nothing is said of it.
        encoder: The encoder's own part of the fingerprint.
        kind: Of the encoder; of a tuned one that of what it was tuned from.
        tuned: Whether the encoder was tuned.
        base: What `encoder` is of the encoder that it was tuned from; None if it was not tuned, or
            nothing says from what.
        one_space: Whether pictures and texts lie in one space.
        digest: Of the content.
    """

    name: str
    spec: str
    fingerprint: str
    precision: str
    encoder: str
    kind: Kind
    tuned: bool
    base: str | None
    one_space: bool
    digest: str


def feature_sets(dataset: Dataset, names: Iterable[str]) -> dict[str, FeatureSet]:
    """Those of some names that are finished feature sets, by name."""
    found = {name: feature_set(dataset, name) for name in sorted(set(names))}
    return {name: own for name, own in found.items() if own is not None}


def feature_set(dataset: Dataset, name: str) -> FeatureSet | None:
    """One feature set; None where it is gone or unfinished."""
    try:
        manifest = Manifest.read(dataset.features(name))
    except UserError:
        return None
    encoder = manifest.encoder
    family, adapted, base = _lineage(encoder["spec"], dataset)
    kind = KINDS.get(family, "unknown")
    dims = manifest.dims
    return FeatureSet(
        name=name,
        spec=encoder["spec"],
        fingerprint=encoder["fingerprint"],
        precision=encoder.get("precision", ""),
        encoder=encoder.get("model", encoder["fingerprint"]),
        kind=kind,
        tuned=encoder["spec"].partition(":")[0] == TUNED,
        base=base,
        one_space=dims.get("image", 0) == dims.get("text", -1)
        and (kind == "large multimodal" or adapted),
        digest=manifest.digest(),
    )


def bases(tuned: FeatureSet, sets: Iterable[FeatureSet]) -> list[FeatureSet]:
    """The feature sets of the encoder that a tuned one was made from."""
    return [own for own in sets if tuned.base is not None and own.encoder == tuned.base]


def _lineage(spec: str, dataset: Dataset) -> tuple[str, bool, str | None]:
    """The family that an encoder goes back to, whether it has projections, and its direct base."""
    direct, projected, asked = None, False, set()
    family, _, folder = spec.partition(":")
    place = dataset.folder
    while family == TUNED and spec not in asked:
        asked.add(spec)
        found = _description(folder, place, dataset)
        if found is None:
            return "unknown", projected, direct
        told, place = found
        direct = direct or told.get("base_model")
        projected = projected or bool(told.get("adaptation", {}).get("projection"))
        spec = str(told.get("base", "unknown"))
        family, _, folder = spec.partition(":")
    return family, projected, direct


def _description(folder: str, place: Path, dataset: Dataset) -> tuple[dict[str, Any], Path] | None:
    """What a tuned encoder says of itself, and where it lies; None where it is gone.

    A workspace may have been moved since the features were made: then the encoder is looked for
    in the data set itself, or in the run, under its own name.
    """
    path = Path(folder)
    run = dataset.runs / path.parent.name / path.name
    for candidate in (place / path, dataset.folder / "encoders" / path.name, run):
        file = candidate / ENCODER_JSON
        if file.is_file():
            told = read_json(file)
            return (told, candidate) if isinstance(told, dict) else None
    return None

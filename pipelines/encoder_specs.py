"""What a user calls an encoder: a spec, or the name of one that was tuned on the data set."""

from pathlib import Path
from tempfile import mkdtemp

from extract.encoders import ENCODERS, family_of
from extract.encoders.tuned import DESCRIPTION, FAMILY, WEIGHTS
from extract.errors import UserError, unknown_name
from extract.files import is_remote, local_copy
from pipelines.workspace import Dataset

ENCODER_FORMS = "\n".join(f"  {each.form}\n      {each.meaning}" for each in ENCODERS.values())


def encoder_spec(name: str, dataset: Dataset) -> str:
    """The spec of an encoder.

    Args:
        name: A spec, or the name of an encoder of the data set.
        dataset: Whose.

    Raises:
        UserError: It is neither.
    """
    if name.partition(":")[0] in ENCODERS:
        return name
    known = dataset.encoder_names()
    if name not in known:
        forms = ", ".join(family.form for family in ENCODERS.values())
        raise unknown_name(
            f"encoder of data set {dataset.name!r}",
            name,
            [*ENCODERS, *known],
            f"Specs are written {forms}; mmrec-finetune makes others",
        )
    return f"{FAMILY}:{_on_disk(dataset.encoder(name))}"


def default_features(name: str) -> str:
    """How the features of an encoder are called: by its family, or by its own name if it has one.

    Args:
        name: As in `encoder_spec`.
    """
    family, _, rest = name.partition(":")
    if family == FAMILY:
        return Path(rest).name
    return family_of(name) if family in ENCODERS else name


def check_new_name(name: str) -> None:
    """Refuse a name for an encoder that means another one already.

    Raises:
        UserError: It is that of a family of encoders.
    """
    if name.partition(":")[0] in ENCODERS:
        raise UserError(
            f"{name!r} is how an encoder is written that is there already; give the tuned one "
            "another name with --out, such as "
            f"{name.partition(':')[0]}_ft"
        )


def _on_disk(folder: Path) -> Path:
    """A folder itself, or of one in an object store a copy, since libraries read files by name."""
    if not is_remote(folder):
        return folder
    copy = Path(mkdtemp(prefix="mmrec-")) / folder.name
    copy.mkdir()
    for file in (DESCRIPTION, WEIGHTS):
        try:
            with local_copy(folder / file) as source:
                (copy / file).write_bytes(source.read_bytes())
        except FileNotFoundError:
            break  # loading tells what is missing
    return copy

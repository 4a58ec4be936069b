"""What a user calls an encoder: a spec, or the name of one that was tuned on the data set."""

import atexit
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from extract.encoders import ENCODERS, family_of
from extract.encoders.tuned import DESCRIPTION, FAMILY, SIBLING, WEIGHTS, read_recipe
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
            "encoder",
            name,
            [*ENCODERS, *known],
            f"Specs are written {forms}; mmrec-finetune makes others",
        )
    return f"{FAMILY}:{_on_disk(dataset.encoder(name))}"


def lasting_spec(name: str, spec: str) -> str:
    """The spec by which an encoder of the data set remembers what it was made from.

    Args:
        name: As in `encoder_spec`.
        spec: What that gave, which may name a copy that does not last.
    """
    return _absolute(spec) if name.partition(":")[0] in ENCODERS else f"{SIBLING}{name}"


def _absolute(spec: str) -> str:
    """The same spec with its files and folders named from the root, to be found from anywhere."""
    family, colon, rest = spec.partition(":")
    parts = []
    for part in rest.split("+"):
        # What may stand before a path: timm/ and st/ of a pair, an open_clip model; @PIXELS after.
        before, slash, path = part.partition("/")
        file, at, pixels = part.rpartition("@")
        if Path(part).expanduser().exists():
            part = str(Path(part).expanduser().absolute())
        elif slash and Path(path).expanduser().exists():
            part = f"{before}/{Path(path).expanduser().absolute()}"
        elif at and Path(file).expanduser().exists():
            part = f"{Path(file).expanduser().absolute()}@{pixels}"
        parts.append(part)
    return f"{family}{colon}{'+'.join(parts)}" if rest else spec


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


def check_not_needed(folder: Path, spec: str) -> None:
    """Refuse to put an encoder where one is that it is made from.

    Args:
        folder: Where it is to go.
        spec: What it is made from.

    Raises:
        UserError: That, or what that was made from, and so on, is the encoder of the folder.
    """
    while spec.startswith(f"{FAMILY}:"):
        base = Path(spec.removeprefix(f"{FAMILY}:"))
        beside = is_remote(folder) or base.parent.resolve() == folder.parent.resolve()
        if base.name == folder.name and beside:
            raise UserError(
                f"the encoder {folder} cannot be replaced by one that is made from it; give the "
                "new one another name with --out"
            )
        spec = read_recipe(base)[0].base


def _on_disk(folder: Path) -> Path:
    """A folder itself, or of one in an object store a copy, since libraries read files by name."""
    if not is_remote(folder):
        return folder
    copies = Path(mkdtemp(prefix="mmrec-"))
    atexit.register(rmtree, copies, ignore_errors=True)
    _copy(folder, copies)
    return copies / folder.name


def _copy(folder: Path, copies: Path) -> None:
    """Fetch an encoder, and beside it those of the same data set that it was made from."""
    copy = copies / folder.name
    copy.mkdir()
    for file in (DESCRIPTION, WEIGHTS):
        try:
            with local_copy(folder / file) as source:
                (copy / file).write_bytes(source.read_bytes())
        except FileNotFoundError:
            return  # loading tells what is missing
    base = read_recipe(copy)[0].base.removeprefix(f"{FAMILY}:")
    if Path(base).parent == copies:
        _copy(folder.parent / Path(base).name, copies)

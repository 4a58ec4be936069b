"""What a user calls an encoder: a spec, or the name of one that a data set or its runs have."""

import atexit
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from extract.encoders import ENCODERS, family_of
from extract.encoders.tuned import DESCRIPTION, FAMILY, WEIGHTS, read_recipe
from extract.errors import UserError, unknown_name
from extract.files import is_remote, local_copy, subfolders
from pipelines.roots import open_path
from pipelines.workspace import Dataset, encoder_of, has_encoder

RUN_FORM = ("RUN", "what mmrec-train --end-to-end made, by the run's name or folder")
ENCODER_FORMS = "\n".join(
    f"  {form}\n      {meaning}"
    for form, meaning in [*((each.form, each.meaning) for each in ENCODERS.values()), RUN_FORM]
)
# Every encoder of a workspace lies so far below its root: data/D/encoders/NAME, runs/D/RUN/encoder.
DEPTH = 4
TO_ROOT = "/".join([".."] * DEPTH)
# With what the names of temporary folders begin that hold copies, placed as in their workspace.
COPIES = "mmrec-encoders-"


def encoder_spec(name: str, dataset: Dataset) -> str:
    """The spec of an encoder.

    Args:
        name: A spec; the name of an encoder of the data set; or one of its runs that saved its
            encoder, by name or as ``DATASET/RUN``; or any run's folder.
        dataset: Whose.

    Raises:
        UserError: It is none of these, or two of them; or the run has no encoder.
    """
    if name.partition(":")[0] in ENCODERS:
        return name
    return f"{FAMILY}:{_on_disk(_find(name, dataset))}"


def lasting_spec(name: str, spec: str) -> str:
    """The spec by which an encoder of the workspace remembers what it was made from.

    Args:
        name: As in `encoder_spec`.
        spec: What that gave, which may name a copy that does not last.
    """
    copied = None if name.partition(":")[0] in ENCODERS else _copied(_folder(spec))
    return f"{FAMILY}:{TO_ROOT}/{copied}" if copied else _absolute(spec)


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
    """How the features of an encoder are called: by its family, or by its own or its run's name.

    Args:
        name: As in `encoder_spec`.
    """
    family, _, rest = name.partition(":")
    if family == FAMILY:
        return Path(rest).name
    return family_of(name) if family in ENCODERS else Path(name).name


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
        base = _folder(spec)
        copied = _copied(base) if is_remote(folder) else None
        if str(folder).endswith(f"/{copied}") if copied else base.resolve() == folder.resolve():
            raise UserError(
                f"the encoder {folder} cannot be replaced by one that is made from it; give the "
                "new one another name with --out"
            )
        spec = read_recipe(base)[0].base


def _folder(spec: str) -> Path:
    """The folder of a tuned encoder's spec."""
    return Path(spec.removeprefix(f"{FAMILY}:"))


def _find(name: str, dataset: Dataset) -> Path:
    """The folder of an encoder that is no spec."""
    run = _find_run(name, dataset)
    encoders = dataset.encoder_names()
    if name in encoders:
        if run and has_encoder(run):
            raise UserError(
                f"{name!r} names the encoder {dataset.encoder(name)} and that of the run {run}; "
                "give the run's path, or give one of them another name"
            )
        return dataset.encoder(name)
    if run is None:
        forms = ", ".join(family.form for family in ENCODERS.values())
        raise unknown_name(
            "encoder",
            name,
            [*ENCODERS, *encoders, *dataset.run_encoders()],
            f"Specs are written {forms}; mmrec-finetune makes others, and so does mmrec-train "
            "--end-to-end",
        )
    if not has_encoder(run):
        raise UserError(
            f"the run {run} has no encoder of its own, because it was trained on cached features "
            "or did not finish; mmrec-train --end-to-end saves one"
        )
    return encoder_of(run)


def _find_run(name: str, dataset: Dataset) -> Path | None:
    """The folder of a run of the data set, or of any run by its path; None if there is none."""
    path = open_path(name)
    if not (path / "config.toml").is_file():
        known = subfolders(dataset.runs)
        path = dataset.runs / name.removeprefix(f"{dataset.name}/")
        return path if path.name in known and path.parent == dataset.runs else None
    if is_remote(path) and path.parents[2] != dataset.runs.parents[1]:
        raise UserError(
            f"{path} lies in another workspace of an object store, expected one of "
            f"{dataset.runs.parent}; copy it there, or to a disk"
        )
    return path


def _on_disk(folder: Path) -> Path:
    """A folder itself, or of one in an object store a copy, since libraries read files by name."""
    if not is_remote(folder):
        return folder
    copies = Path(mkdtemp(prefix=COPIES))
    atexit.register(rmtree, copies, ignore_errors=True)
    root = folder.parents[DEPTH - 1]
    place = str(folder.relative_to(root))
    _copy(root, place, copies.resolve())
    return copies.resolve() / place


def _copy(root: Path, place: str, copies: Path) -> None:
    """Fetch an encoder, and those of the same workspace that it was made from.

    Args:
        root: The workspace.
        place: The encoder's folder, from there, and from `copies`.
        copies: A folder on disk.
    """
    copy = copies / place
    copy.mkdir(parents=True)
    for file in (DESCRIPTION, WEIGHTS):
        try:
            with local_copy(root / place / file) as source:
                (copy / file).write_bytes(source.read_bytes())
        except FileNotFoundError:
            return  # loading tells what is missing
    base = read_recipe(copy)[0].base
    of_base = _copied(_folder(base)) if base.startswith(f"{FAMILY}:") else None
    if of_base:
        _copy(root, of_base, copies)


def _copied(folder: Path) -> str | None:
    """Where below the workspace's root the encoder lies of which a folder is a copy.

    None where it is no copy.
    """
    root = folder.parents[DEPTH - 1] if len(folder.parents) >= DEPTH else folder
    return folder.relative_to(root).as_posix() if root.name.startswith(COPIES) else None

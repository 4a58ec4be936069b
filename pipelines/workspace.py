"""Where things lie on disk, and how the tables of a data set are read and written."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from extract.errors import UserError, unknown_name
from extract.files import read_parquet, replacing, subfolders
from extract.manifest import items_digest
from pipelines.roots import open_path
from recommend.interactions import SPLITS as SPLITS  # re-exported: part of the files' format

# Feature names that every training command makes itself; no folder has one of them.
RANDOM = "random"
SHUFFLED = "shuffled:"
# The file that says that there is a tuned encoder.
ENCODER_JSON = "encoder.json"


@dataclass(frozen=True)
class Dataset:
    """The folder of one prepared data set, ``data/<name>/``."""

    name: str
    folder: Path

    @property
    def items(self) -> Path:
        """The catalogue: item_id, text, image, further columns."""
        return self.folder / "items.parquet"

    @property
    def interactions(self) -> Path:
        """The log: user_id, item_id, timestamp?, rating?, split."""
        return self.folder / "interactions.parquet"

    @property
    def description(self) -> Path:
        """Counts, source, settings, digests."""
        return self.folder / "dataset.json"

    @property
    def images(self) -> Path:
        """The folder that the catalogue's picture paths start from."""
        return self.folder / "images"

    @property
    def neighbours(self) -> Path:
        """Nearest neighbours that were found for earlier runs; may be deleted at any time."""
        return self.folder / "neighbours"

    def encoder(self, name: str) -> Path:
        """The folder of an encoder that was tuned on the catalogue, which need not exist yet.

        Raises:
            UserError: The name is not one of a folder.
        """
        _check_name("encoder", name)
        return self.folder / "encoders" / name

    def encoder_names(self) -> list[str]:
        """The tuned encoders that exist, finished or not."""
        return _folders(self.folder / "encoders")

    @property
    def runs(self) -> Path:
        """The folder of the data set's runs, which need not exist yet."""
        return self.folder.parent.parent / "runs" / self.name

    def run_encoders(self) -> list[str]:
        """The runs that have saved their encoder."""
        return [name for name in _folders(self.runs) if has_encoder(self.runs / name)]

    def require_prepared(self) -> None:
        """Refuse a data set whose preparing did not finish.

        Raises:
            UserError: ``dataset.json``, which is written last, is missing.
        """
        if not self.description.is_file():
            raise UserError(
                f"the data set {self.folder} has no {self.description.name}, so preparing did not "
                "finish; run its mmrec-prepare command again"
            )

    def features(self, name: str) -> Path:
        """The folder of one feature set, which need not exist yet.

        Raises:
            UserError: The name is not one of a folder, or is that of a control.
        """
        if name == RANDOM or name.startswith(SHUFFLED):
            raise UserError(
                f"{name!r} is a control of mmrec-train, which needs no files; give the features "
                "another name with --features"
            )
        _check_name("feature set", name)
        return self.folder / "features" / name

    def feature_names(self) -> list[str]:
        """The feature sets that exist, finished or not."""
        return _folders(self.folder / "features")

    def require_features(self, name: str, also: Iterable[str] = ()) -> Path:
        """The folder of a feature set.

        Args:
            name: Which.
            also: Names beside those of folders that would have been right.

        Raises:
            UserError: There is none of that name.
        """
        if not self.features(name).is_dir():
            raise unknown_name(
                f"feature set of data set {self.name!r}",
                name,
                [*self.feature_names(), *also],
                "Make one with mmrec-extract",
            )
        return self.features(name)


class Workspace:
    """The folder under which ``data/`` and ``runs/`` lie."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def new_dataset(self, name: str) -> Dataset:
        """A data set that need not exist yet."""
        _check_name("data set", name)
        return Dataset(name, self.root / "data" / name)

    def dataset(self, name: str | None) -> Dataset:
        """An existing data set; without a name the only one there is.

        Raises:
            UserError: There is none of that name, or no name was given and there is not just one.
        """
        known = _folders(self.root / "data")
        if name is None:
            if len(known) != 1:
                found = f"found {', '.join(known)}" if known else "found none"
                raise UserError(
                    f"--dataset can be left out where just one data set exists; {found} under "
                    f"{self.root / 'data'}"
                )
            name = known[0]
        if name not in known:
            raise unknown_name(
                "data set", name, known, f"Make one under {self.root / 'data'} with mmrec-prepare"
            )
        return self.new_dataset(name)

    def new_run(self, dataset: str, run: str) -> Path:
        """The folder of a run that need not exist yet."""
        _check_name("run", run)
        return self.root / "runs" / dataset / run

    def new_comparison(self, dataset: str, name: str) -> Path:
        """The folder of a comparison of runs, which need not exist yet."""
        _check_name("comparison", name)
        return self.root / "comparisons" / dataset / name

    def runs(self, dataset: str) -> list[Path]:
        """The folders of a data set's runs, by name."""
        folder = self.root / "runs" / dataset
        return [folder / name for name in _folders(folder)]

    def run(self, run: str) -> Path:
        """The folder of a finished run, from its path, ``DATASET/RUN``, or a unique run name.

        Raises:
            UserError: No or more than one run fits, or the run is unfinished.
        """
        found = self.find_run(run)
        if not (found / "metrics.json").is_file():
            raise UserError(
                f"the run {found} has no metrics.json, so it did not finish; go on with it: "
                f"mmrec-train --resume {found}"
            )
        return found

    def find_run(self, run: str) -> Path:
        """The folder of a run, finished or not, given as to `run`."""
        every = {
            f"{dataset}/{path.name}": path
            for dataset in _folders(self.root / "runs")
            for path in self.runs(dataset)
        }
        path = open_path(run)
        if (path / "config.toml").is_file():
            return path
        found = [every[name] for name in every if run in (name, name.split("/", 1)[1])]
        if not found:
            raise unknown_name("run", run, every, "Make one with mmrec-train")
        if len(found) > 1:
            raise UserError(
                f"{run!r} names {len(found)} runs: {', '.join(map(str, found))}; give the path"
            )
        return found[0]


def encoder_of(run: Path) -> Path:
    """The folder in which a run saves its encoder."""
    return run / "encoder"


def has_encoder(run: Path) -> bool:
    """Whether a run has saved its encoder."""
    # The file that says so, as `extract.encoders.tuned` names it, which takes long to import.
    return (encoder_of(run) / ENCODER_JSON).is_file()


def _folders(parent: Path) -> list[str]:
    return [name for name in subfolders(parent) if not name.startswith(".")]


def _check_name(kind: str, name: str) -> None:
    if not name or name.startswith(".") or os.sep in name or "/" in name:
        raise UserError(
            f"a {kind} is named like a folder, without slashes or a leading dot; found {name!r}"
        )


def catalogue_digest(items: pa.Table) -> str:
    """The `items_digest` of a catalogue's ids, texts and pictures' paths.

    Args:
        items: The content of items.parquet.
    """
    nothing = pa.chunked_array([pa.nulls(items.num_rows, pa.string())])
    ids, texts, images = (
        items[name].cast(pa.string()) if name in items.column_names else nothing
        for name in ("item_id", "text", "image")
    )
    return items_digest(ids, texts, images)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of the workspace.

    Raises:
        UserError: It is missing, torn, or lacks one of `columns`.
    """
    try:
        table = read_parquet(path)
        table.validate(full=True)  # Parquet itself does not refuse strings that are not UTF-8
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; make it with mmrec-prepare") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet, it may be torn ({error}); make it again"
        ) from error
    missing = [name for name in columns or [] if name not in table.column_names]
    if missing:
        raise UserError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"found {', '.join(table.column_names)}"
        )
    return table


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file whole or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_json(path: Path) -> Any:
    """A JSON file of the workspace.

    Raises:
        UserError: It is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; make it again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}); make it again") from error

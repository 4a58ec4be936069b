"""``mmrec-prepare``: a catalogue and a log become a data set; matrices become features."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.table import Table

from extract.errors import unknown_name
from extract.shards import Manifest
from pipelines.cli import common_options
from pipelines.config import Config, options_of, resolve
from pipelines.progress import Reporter, print_table
from pipelines.sources import inter, table, toy
from pipelines.sources.features import FeaturesConfig, write_features
from pipelines.sources.writing import Prepared, write_dataset
from pipelines.workspace import Dataset, Workspace, read_table


class Source(NamedTuple):
    """A kind of source: its settings, what reads it, and the line that ``--help`` shows."""

    config: type[Config]
    prepare: Callable[[Any, Reporter], Prepared]
    meaning: str


SOURCES = {
    "toy": Source(toy.ToyConfig, toy.prepare, "A generated shop: pictures, texts, users."),
    "table": Source(table.TableConfig, table.prepare, "A log and items in TSV, CSV or Parquet."),
    "inter": Source(inter.InterConfig, inter.prepare, "MMRec's .inter form with its own split."),
}


def run(kind: str, config: Any, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Make a data set and return its description, the content of ``dataset.json``.

    Args:
        kind: A key of `SOURCES`.
        config: That source's settings.
        workspace: Where the data set goes.
        reporter: Where to tell progress.

    Raises:
        UserError: The source's files and the settings do not fit together.
    """
    dataset = workspace.new_dataset(config.dataset)
    prepared = SOURCES[kind].prepare(config, reporter)
    described = write_dataset(dataset, prepared, reporter)
    reporter.say(f"the data set {dataset.name!r} lies in {dataset.folder}")
    return described


def run_features(config: FeaturesConfig, dataset: Dataset, reporter: Reporter) -> Manifest:
    """Make a feature set of a data set from matrices.

    Raises:
        UserError: The matrices do not fit the data set.
    """
    item_ids = read_table(dataset.items, ["item_id"])["item_id"].to_pylist()
    folder = dataset.features(config.features)
    manifest = write_features(folder, item_ids, config.files, reporter)
    reporter.say(f"the features {config.features!r} lie in {folder}")
    return manifest


class SourceGroup(click.Group):
    """A group that tells the nearest source where an unknown one is asked for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command and its arguments."""
        if args[0] not in self.commands:
            raise click.UsageError(str(unknown_name("source", args[0], self.commands)))
        return super().resolve_command(ctx, args)


@click.group(cls=SourceGroup, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """A catalogue and a log become a data set, data/NAME/."""


def _add(kind: str, source: Source) -> None:
    @command.command(kind, help=source.meaning)
    @options_of(source.config)
    @common_options
    def prepare_source(
        root: Path, quiet: bool, config_file: Path | None, sets: Iterable[str], **given: Any
    ) -> None:
        config = resolve(source.config, given, config_file, sets)
        described = run(kind, config, Workspace(root), Reporter(quiet))
        _print_counts(described["counts"])


for _kind, _source in SOURCES.items():
    _add(_kind, _source)


@command.command("features", help="Existing .npy matrices become features.")
@options_of(FeaturesConfig)
@common_options
def features_command(
    root: Path, quiet: bool, config_file: Path | None, sets: Iterable[str], **given: Any
) -> None:
    """Existing .npy matrices become features."""
    config = resolve(FeaturesConfig, given, config_file, sets)
    dataset = Workspace(root).dataset(config.dataset)
    manifest = run_features(config, dataset, Reporter(quiet))
    present = {f"with {modality}": count for modality, count in manifest.present.items()}
    _print_counts({"items": manifest.rows} | present)


def _print_counts(counts: Mapping[str, int]) -> None:
    shown = Table(box=None, pad_edge=False)
    shown.add_column("what")
    shown.add_column("count", justify="right")
    for name, count in counts.items():
        shown.add_row(name, f"{count:,}")
    print_table(shown)

"""``mmrec-prepare``: a catalogue and a log become a data set; matrices become features."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from extract.locking import locked
from extract.manifest import Manifest
from pipelines.cli import NearestGroup, common_options
from pipelines.config import options_of, resolve
from pipelines.overwriting import Overwriting, check_same_source
from pipelines.progress import Reporter, counts_table, print_table
from pipelines.sources import amazon, amazon_2018, amazon_2023, inter, movielens, table, toy
from pipelines.sources.features import FeaturesConfig, write_features
from pipelines.sources.writing import Prepared, write_dataset
from pipelines.workspace import Dataset, Workspace, read_table


class Source(NamedTuple):
    """A kind of source: its settings, what reads it, and what ``--help`` says."""

    config: type[Overwriting]
    prepare: Callable[[Any, Reporter], Prepared]
    help: str


SOURCES = {
    "toy": Source(
        toy.ToyConfig,
        toy.prepare,
        """A generated shop: pictures, texts, users with tastes.

        Its items have a shape, colours and a pattern, which a picture shows, and a style, which the
        text tells; what users take depends on both. A few items lack something, as in real data.

        \b
        mmrec-prepare toy
        mmrec-prepare toy --dataset small --items 200 --users 300
        """,
    ),
    "table": Source(
        table.TableConfig,
        table.prepare,
        """A log and items in TSV, CSV or Parquet.

        \b
        mmrec-prepare table --dataset shop --interactions log.csv
        mmrec-prepare table --dataset films --interactions ratings.tsv --items films.tsv \\
            --images posters --text '{title} ({year}). {overview}' --min-rating 4 --k-core 5

        Columns are found by their usual names (userID, user_id, asin, title ...), or named by
        option. Ids are text and stay as they are written.

        An item's text is a template with columns in curly brackets; what is empty for an item is
        left out together with the words before it. Without a template it is the column text, or
        title and description. An item's picture is looked for in the folders of --images: first
        the path in the column of pictures, then a file named ITEM_ID.jpg, .png and so on.

        The split is random among each user's interactions; or temporal, by one clock for all
        users; or item-cold, which withholds items from training altogether.
        """,
    ),
    "inter": Source(
        inter.InterConfig,
        inter.prepare,
        """MMRec's .inter form, which brings its own split.

        \b
        mmrec-prepare inter --dataset baby --interactions baby.inter
        mmrec-prepare inter --dataset baby --interactions baby.inter --items items.tsv

        The file has the columns userID, itemID and x_label, which is 0 for training, 1 for
        validation and 2 for test. Texts and pictures are found as in mmrec-prepare table.
        """,
    ),
    "amazon": Source(
        amazon.Amazon2014Config,
        amazon.prepare,
        """Amazon reviews of 2014, fetched with the items' metadata and pictures.

        \b
        mmrec-prepare amazon --dataset sports
        mmrec-prepare amazon --dataset small --category baby --images none
        mmrec-prepare amazon --dataset clothing --need image,text --text description

        Categories: sports, clothing, baby, electronics, beauty, toys, office, music, or a full name
        such as Video_Games. The split is that of the MMRec toolbox, with a seed: of each user's
        interactions some 8:1:1 at random.

        What was fetched is kept in the folder of --downloads: the command, run again, fetches only
        what is missing. ledger.parquet in the data set tells of each picture that was not to be had
        why.
        """,
    ),
    "amazon-2018": Source(
        amazon_2018.Amazon2018Config,
        amazon_2018.prepare,
        """Amazon reviews of 2018, likewise.

        \b
        mmrec-prepare amazon-2018 --dataset office-2018 --category Office_Products

        See mmrec-prepare amazon --help. Categories have other names here: All_Beauty, Video_Games.
        """,
    ),
    "amazon-2023": Source(
        amazon_2023.Amazon2023Config,
        amazon_2023.prepare,
        """Amazon reviews of 2023, likewise.

        \b
        mmrec-prepare amazon-2023 --dataset baby-2023 --category Baby_Products

        See mmrec-prepare amazon --help. An item's brand is its store. Categories have other names
        here: Baby_Products, Beauty_and_Personal_Care.
        """,
    ),
    "movielens": Source(
        movielens.MovielensConfig,
        movielens.prepare,
        """MovieLens, fetched from GroupLens unless it is there.

        \b
        mmrec-prepare movielens --dataset ml-1m
        mmrec-prepare movielens --dataset ml-100k --images posters \\
            --details overviews.tsv --text '{title}. {overview}'
        mmrec-prepare movielens --dataset films --release ml-32m --posters urls.csv

        The releases are ml-100k, ml-1m, ml-25m and ml-32m. They tell of a film its title, year and
        genres (the larger two its numbers at IMDb and TMDB, too); more comes from --details, and
        pictures from a folder of files named after the films' ids, or by URL from a table.

        By default every rating is an interaction, and users and items with fewer than five are left
        out; --k-core 1 keeps the published counts. The split is 8:1:1 of each user's, as published
        work on multimodal recommendation has it.
        """,
    ),
}
FEATURES_HELP = """Existing .npy matrices become features.

Row n of a matrix belongs to the item with the id n, as in MMRec's data sets. Rows that are zero or
not finite are recorded as absent.

\b
mmrec-prepare features --dataset baby --features given \\
    --image image_feat.npy --text text_feat.npy
"""


def run(kind: str, config: Any, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Make a data set and return its description, the content of ``dataset.json``.

    Args:
        kind: A key of `SOURCES`.
        config: That source's settings.
        workspace: Where the data set goes.
        reporter: Where to tell progress.

    Raises:
        UserError: The source's files and the settings do not fit together, or the name is taken by
            a data set that was made otherwise; or another process is making it.
    """
    dataset = workspace.new_dataset(config.dataset)
    check_same_source(dataset, kind, config)
    prepared = SOURCES[kind].prepare(config, reporter)
    with locked(dataset.folder, "preparing"):
        check_same_source(dataset, kind, config)  # another process may have made it meanwhile
        described = write_dataset(dataset, prepared, reporter)
    reporter.say(f"the data set {dataset.name!r} lies in {dataset.folder}")
    return described


def run_features(config: FeaturesConfig, dataset: Dataset, reporter: Reporter) -> Manifest:
    """Make a feature set of a data set from matrices.

    Raises:
        UserError: The matrices do not fit the data set, the name is taken by other features, or
            another process is writing them.
    """
    item_ids = read_table(dataset.items, ["item_id"])["item_id"].to_pylist()
    folder = dataset.features(config.features)
    manifest = write_features(folder, item_ids, config.files, reporter, config.overwrite)
    reporter.say(f"the features {config.features!r} lie in {folder}")
    return manifest


class SourceGroup(NearestGroup):
    """The group of sources."""

    kind = "source"


@click.group(cls=SourceGroup)
def command() -> None:
    """A catalogue and a log become a data set, data/NAME/.

    \b
    mmrec-prepare toy
    mmrec-prepare table --dataset shop --interactions log.csv --items items.csv --images pictures

    Making a data set again with the same settings replaces it; with other ones it is refused
    unless --overwrite is given.
    """


def _add(kind: str, source: Source) -> None:
    @command.command(kind, help=source.help)
    @options_of(source.config)
    @common_options
    def prepare_source(
        root: Path, quiet: bool, config_file: Path | None, sets: Iterable[str], **given: Any
    ) -> None:
        config = resolve(source.config, given, config_file, sets)
        described = run(kind, config, Workspace(root), Reporter(quiet))
        print_table(counts_table(described["counts"]))


for _kind, _source in SOURCES.items():
    _add(_kind, _source)


@command.command("features", help=FEATURES_HELP)
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
    print_table(counts_table({"items": manifest.rows} | present))

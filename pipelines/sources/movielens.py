"""MovieLens: who rated which film when, in four releases by GroupLens.

F. Maxwell Harper and Joseph A. Konstan: The MovieLens Datasets: History and Context. ACM TiiS 5(4),
2015. The releases tell of a film its title and genres only, so an overview or a poster comes from
tables and folders of the user's own.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from extract.errors import UserError, unknown_name
from pipelines.progress import Reporter
from pipelines.sources.catalogue import ItemRows, read_items
from pipelines.sources.fetching import fetch_files, places
from pipelines.sources.movielens_files import RELEASES, opened
from pipelines.sources.published import (
    Origin,
    Published,
    PublishedConfig,
    check_settings,
    mirror,
    prepare_published,
)
from pipelines.sources.writing import Prepared

BASE = "https://files.grouplens.org/datasets/movielens"
URL = "MMREC_MOVIELENS_URL"
ORIGIN = Origin(
    "MovieLens",
    "https://grouplens.org/datasets/movielens",
    "for research; no commercial use, and no redistribution, without permission by GroupLens; the "
    "archive's README tells the terms",
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems (TiiS) 5, 4, Article 19. "
    "https://doi.org/10.1145/2827872",
)
# What the column of URLs may be called, without case and underscores.
URL_COLUMNS = ("url", "posterurl", "imageurl", "poster", "image")
# Columns that a data set makes itself.
MADE = ("item_id", "text", "image", "image_url")


class MovielensConfig(PublishedConfig):
    """Settings of ``mmrec-prepare movielens``."""

    release: Literal["ml-100k", "ml-1m", "ml-25m", "ml-32m"] | None = Field(
        None, description="Which release.  [default: what the data set is called]"
    )
    details: Path | None = Field(
        None, description="More of the films: TSV, CSV or Parquet with their ids; for --text."
    )
    posters: Path | None = Field(
        None, description="URLs of posters: TSV, CSV or Parquet with the films' ids and a URL."
    )
    images: str = Field(
        "",
        description="Posters: fetch (those of --posters), none, or a folder of files named after "
        "the films' ids.  [default: fetch with --posters, else none]",
    )
    text: str = Field(
        "{title}. {genres}",
        description="A film's text: columns such as '{title}. {overview}', or one's name.",
    )
    min_rating: float | None = Field(
        None,
        description="Leave out ratings below; there is no agreement in the field, some keep 4 and "
        "5.  [default: all are kept]",
    )
    url: str | None = mirror(URL)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Say what follows from the rest, so that it is written down with the data set."""
        if not isinstance(given, dict):
            return given
        release, images = given.get("release"), given.get("images")
        if release is None and given.get("dataset") in RELEASES:
            release = given["dataset"]
        return given | {
            "release": release,
            "images": images or ("fetch" if given.get("posters") else "none"),
        }


def prepare(config: MovielensConfig, reporter: Reporter) -> Prepared:
    """Fetch the archive unless it is there; filter and split its ratings; describe its films.

    Raises:
        UserError: The archive cannot be had or is not as it is published, or the settings do not
            fit together or to the data.
    """
    if config.release is None:
        raise unknown_name(
            "release of MovieLens", config.dataset, RELEASES, "Or name one with --release"
        )
    release = RELEASES[config.release]
    details, posters = _rows(config.details), _rows(config.posters)
    if (config.images == "fetch") != (posters is not None):
        raise UserError(
            "--images fetch and --posters go together: posters are fetched from a table of URLs"
        )
    further = _further_columns(details, release.columns, reporter)
    check_settings(config, [*release.columns, *further])
    archive = f"{config.release}.zip"
    (path,) = fetch_files(
        config.downloads / "movielens" / config.release,
        {archive: places(archive, [BASE], config.url)},
        ORIGIN,
        config,
        reporter,
        b"PK",
    )
    reporter.say(f"reading {path.name}")
    with opened(path, config.release) as files:
        log, films = release.ratings(files), release.films(files)
    films = _with_urls(_joined(films, details, further), posters)
    own = {"details": config.details, "posters": config.posters}
    made_from = {"archive": path} | {role: file for role, file in own.items() if file}
    published = Published("movielens", ORIGIN, path.parent, made_from, log, lambda _: films)
    return prepare_published(published, config, reporter)


def _rows(path: Path | None) -> ItemRows | None:
    """A table of the user's with a row for each film."""
    nothing = pa.table({"item_id": pa.array([], pa.string())})
    return read_items(path, None, nothing) if path else None


def _further_columns(
    details: ItemRows | None, known: Collection[str], reporter: Reporter
) -> list[str]:
    """The columns that details bring; those that a film has anyway stay as they are published."""
    if details is None or details.source is None:
        return []
    names = [name for name in details.source.table.column_names if name != details.id_column]
    left_out = [name for name in names if name in (*known, *MADE)]
    if left_out:
        reporter.say(f"left out of {details.source.path}: {', '.join(left_out)}")
    return [name for name in names if name not in left_out]


def _joined(films: pa.Table, rows: ItemRows | None, names: Sequence[str]) -> pa.Table:
    """The films with further columns, null where a film has no row.

    Raises:
        UserError: No film has one.
    """
    if rows is None or rows.source is None:
        return films
    found = pc.index_in(films["item_id"], value_set=rows.ids)
    if found.null_count == len(found):
        raise UserError(
            f"no id of {rows.source.path} is that of a film, such as {films['item_id'][0]}; found "
            f"{rows.ids[0]} in the column {rows.id_column!r}"
        )
    for name in names:
        films = films.append_column(name, rows.source.table[name].take(found))
    return films


def _with_urls(films: pa.Table, posters: ItemRows | None) -> pa.Table:
    """The films with their ``image_url``.

    Raises:
        UserError: The table of posters has no column of URLs.
    """
    if posters is None or posters.source is None:
        return films.append_column("image_url", pa.nulls(films.num_rows, pa.string()))
    names = posters.source.table.column_names
    plain = {name.lower().replace("_", ""): name for name in reversed(names)}
    name = next((plain[each] for each in URL_COLUMNS if each in plain), None)
    if name is None:
        raise UserError(
            f"{posters.source.path} has no column of URLs; found {', '.join(names)}; call it url"
        )
    films = _joined(films, posters, [name])
    return films.rename_columns([*films.column_names[:-1], "image_url"])

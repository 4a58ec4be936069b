"""What the releases of the Amazon data have in common: categories, a log, and metadata of items.

Each release publishes by category the reviews that its 5-core keeps, and the metadata of all items,
one record a line, in a form of its own.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from pydantic import Field, model_validator

from extract.errors import UserError, unknown_name
from pipelines.progress import Reporter
from pipelines.sources.cleaning import clean_text, path_of, price_of
from pipelines.sources.fetching import fetch_files, places
from pipelines.sources.lines import MB, megabytes, read_lines
from pipelines.sources.loose import leading_id, parse_record
from pipelines.sources.published import (
    Published,
    PublishedConfig,
    check_settings,
    prepare_published,
)
from pipelines.sources.reviews import ReviewFields, Reviews, read_reviews
from pipelines.sources.writing import Origin, Prepared

GZIP = b"\x1f\x8b"
LICENCE = (
    "none is stated: for research; the rights in reviews, texts and pictures stay with their owners"
)
# As of 2014 and of 2018.
REVIEW_FIELDS = ReviewFields("reviewerID", "asin", "overall", "unixReviewTime")
SCHEMA = pa.schema(
    {
        "item_id": pa.string(),
        "title": pa.string(),
        "brand": pa.string(),
        "categories": pa.list_(pa.string()),
        "description": pa.string(),
        "price": pa.float64(),
        "image_url": pa.string(),
    }
)
# The picture that says that there is none, and what was scraped in place of a title.
NO_PICTURE = re.compile(r"/no-?(?:img|image)[^/]*$", re.IGNORECASE)
SCRIPT = "var aPageStart"
FULL_NAME = re.compile(r"[A-Z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")


class AmazonConfig(PublishedConfig):
    """Settings of all releases.

    Attributes:
        short_names: What some categories are called in papers.
        full_names: All categories that are known to us.
    """

    short_names: ClassVar[Mapping[str, str]] = {}
    full_names: ClassVar[Sequence[str]] = ()

    category: str | None = Field(
        None,
        description="Category, by its short or full name.  [default: the data set's name]",
    )
    text: str = Field(
        "{title} {brand} {categories} {description}",
        description="An item's text: columns such as '{title} {brand}', or the name of one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _full_name(cls, given: Any) -> Any:
        """Write the category down by its full name."""
        if not isinstance(given, dict):
            return given
        category, dataset = given.get("category"), given.get("dataset")
        if category is None and isinstance(dataset, str):
            return given | {"category": cls._named(dataset)}
        if isinstance(category, str):
            return given | {"category": cls._named(category, FULL_NAME)}
        return given

    @classmethod
    def _named(cls, name: str, else_like: re.Pattern[str] | None = None) -> str:
        known = {full.lower(): full for full in cls.full_names} | dict(cls.short_names)
        full = known.get(name.lower().replace("-", "_"))
        if full is None and else_like and else_like.fullmatch(name):
            return name
        if full is None:
            raise unknown_name(
                "category", name, [*cls.short_names, *cls.full_names], "Name one with --category"
            )
        return full


class RawItem(NamedTuple):
    """What the metadata say of an item, not yet cleaned."""

    title: Any
    brand: Any
    categories: Any
    description: Any
    price: Any
    image_url: str | None


@dataclass(frozen=True)
class Release:
    """One release of the Amazon data.

    Attributes:
        kind: The source's name.
        folder: Of its downloads.
        bases: URLs that the files lie below.
        reviews: Where below them, with the name of a category to fill in.
        metadata: The same for the metadata.
        read_log: Reads the file of reviews.
        id_field: What an item's id is called in the metadata.
        item_of: Finds what is known of an item in its record.
        origin: Who published it.
    """

    kind: str
    folder: str
    bases: Sequence[str]
    reviews: str
    metadata: str
    read_log: Callable[[Path, Reporter], Reviews]
    id_field: str
    item_of: Callable[[Mapping[str, Any]], RawItem]
    origin: Origin


def prepare_release(release: Release, config: AmazonConfig, reporter: Reporter) -> Prepared:
    """Fetch what is missing, read, filter, split.

    Raises:
        UserError: The files cannot be had or read, or the settings do not fit together.
    """
    check_settings(config, [name for name in SCHEMA.names if name != "item_id"])
    folder = config.downloads / release.folder / str(config.category)
    reviews, metadata = _fetch(release, config, folder, reporter)
    log, unreadable = release.read_log(reviews, reporter)
    published = Published(
        release.kind,
        release.origin,
        folder,
        {"reviews": reviews, "metadata": metadata},
        log,
        partial(_read_items, metadata, release, reporter),
        unreadable,
    )
    return prepare_published(published, config, reporter)


def read_log(path: Path, reporter: Reporter) -> Reviews:
    """The log in the reviews of 2014 and of 2018."""
    return read_reviews(path, REVIEW_FIELDS, reporter)


def _fetch(
    release: Release, config: AmazonConfig, folder: Path, reporter: Reporter
) -> Sequence[Path]:
    paths = [path.format(config.category) for path in (release.reviews, release.metadata)]
    urls = {Path(path).name: places(path, release.bases, config.url) for path in paths}
    try:
        return fetch_files(folder, urls, release.origin, config, reporter, GZIP)
    except UserError as error:
        if config.category in config.full_names:
            raise
        hint = unknown_name("category", str(config.category), config.full_names)
        raise UserError(f"{error}; {hint}") from error


def _read_items(
    path: Path, release: Release, reporter: Reporter, wanted: Collection[str]
) -> pa.Table:
    """The wanted items; of several lines about one the first that can be read counts."""
    rows: dict[str, dict[str, Any]] = {}
    lines = unreadable = repeated = 0
    with reporter.bar(f"reading {path.name}", path.stat().st_size // MB, "MB") as advance:
        for line in read_lines(path, tell=megabytes(advance)):
            if line is not None and not line.strip():
                continue
            lines += 1
            leading = leading_id(line, release.id_field) if line else None
            if leading is not None and leading not in wanted:
                continue
            record = parse_record(line) if line else None
            item_id = record.get(release.id_field) if record else None
            if record is None or not isinstance(item_id, str):
                unreadable += 1
            elif item_id in rows:
                repeated += 1
            elif item_id in wanted:
                rows[item_id] = {"item_id": item_id, **_row(release.item_of(record))}
    if 2 * unreadable > lines or not lines:
        raise UserError(
            f"{path} is no file of metadata: {unreadable:,} of {lines:,} lines are no record with "
            f"a text in {release.id_field!r}; remove it and fetch it again"
        )
    lacking = len(wanted) - len(rows)
    for what, count in {
        "unreadable lines": unreadable,
        "lines about an item that was told": repeated,
        "items that are lacking": lacking,
    }.items():
        if count:
            reporter.say(f"{what}, {path.name}: {count:,}")
    return pa.Table.from_pylist(list(rows.values()), SCHEMA)


def _row(raw: RawItem) -> dict[str, Any]:
    title, url = clean_text(raw.title), raw.image_url
    return {
        "title": None if title and title.startswith(SCRIPT) else title,
        "brand": clean_text(raw.brand),
        "categories": path_of(raw.categories),
        "description": clean_text(raw.description),
        "price": price_of(raw.price),
        "image_url": None if url and NO_PICTURE.search(url) else url,
    }

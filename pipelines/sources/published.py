"""From a published log to a data set: what every source has in common whose files are fetched.

The order is: least rating, repeated pairs, k-core, the items and their pictures, what of these is
needed, split. All that is fetched is kept, so that making a data set again asks for nothing that
is there.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from extract.errors import UserError, unknown_name
from pipelines.downloads.addresses import check_base
from pipelines.downloads.manners import FetchConfig
from pipelines.file_names import file_name
from pipelines.overwriting import Overwriting
from pipelines.progress import Reporter
from pipelines.sources.fetching import Found, fetched_pictures, pictures_in
from pipelines.sources.log import (
    SplitConfig,
    Steps,
    core,
    first_of_each_pair,
    in_order,
    of_known_items,
    rated_at_least,
    split_log,
)
from pipelines.sources.pictures import Draw, PictureFolders, place
from pipelines.sources.templates import TextTemplate
from pipelines.sources.writing import Origin as Origin  # re-exported: half of what a source gives
from pipelines.sources.writing import Prepared
from recommend.splits import check_ratios

# In this order repeated pairs are told apart.
LOG_COLUMNS = ("user_id", "item_id", "timestamp", "rating")


class PublishedConfig(SplitConfig, FetchConfig, Overwriting):
    """Settings of a source whose files are fetched."""

    dataset: str = Field(description="Name of the data set to make.")
    url: str | None = Field(None, exclude=True, description="Base URL of a mirror.")
    text: str = Field(
        "{title}", description="An item's text: columns such as '{title} {brand}', or one's name."
    )
    images: str = Field(
        "fetch", description="Pictures: fetch, none, or a folder of files named after the items."
    )
    need: tuple[Literal["image", "text"], ...] = Field(
        (), description="Leave out items without image, text or image,text."
    )
    min_rating: float | None = Field(None, description="Leave out interactions rated below.")
    k_core: int = Field(
        5, ge=0, description="Keep users and items with at least so many interactions."
    )
    split: Literal["random", "temporal", "item-cold", "mmrec"] = Field(
        "mmrec", description="How held-out interactions are chosen."
    )


@dataclass(frozen=True)
class Published:
    """A log that was fetched, and how to get at its items.

    Attributes:
        kind: The source's name.
        origin: Who published it.
        folder: Where its files lie; pictures go to ``pictures/`` in it.
        files: What it was read from, by role.
        log: user_id, item_id, and where known rating and timestamp, as they were read.
        read_items: Gives of the wanted ids a table of item_id, image_url (null where there is none)
            and further columns, each item once, in any order; it may lack some and hold others.
        unreadable: How many lines of the log were no interactions.
    """

    kind: str
    origin: Origin
    folder: Path
    files: Mapping[str, Path]
    log: pa.Table
    read_items: Callable[[Collection[str]], pa.Table]
    unreadable: int = field(default=0)


def mirror(variable: str) -> Any:
    """The field ``url`` of a source whose mirror an environment variable may name."""
    return Field(
        default_factory=lambda: os.environ.get(variable) or None,
        exclude=True,
        description=f"Base URL of a mirror; or {variable}.",
    )


def check_settings(config: PublishedConfig, columns: Collection[str]) -> None:
    """Find out before anything is fetched what cannot come out well.

    Args:
        config: The settings.
        columns: Names that a text may be made of.

    Raises:
        UserError: There is such a thing.
    """
    check_ratios(config.ratios)
    if config.url is not None:
        check_base(config.url)
    _template(config.text, columns)
    if config.images == "none" and "image" in config.need:
        raise UserError(
            "--need image leaves no item where --images is none; leave one of the two out"
        )
    if config.images not in ("fetch", "none"):
        PictureFolders([Path(config.images)])


def prepare_published(
    published: Published, config: PublishedConfig, reporter: Reporter
) -> Prepared:
    """Filter, bring the items and their pictures, leave out what lacks something needed, split.

    Raises:
        UserError: The settings do not fit together or to the data, nothing is left, or another
            process fetches into the folder.
    """
    read = published.log
    steps = Steps(read.select([n for n in LOG_COLUMNS if n in read.column_names]), reporter)
    notes = {"unreadable lines": published.unreadable} if published.unreadable else {}
    _leave_out(steps, config)
    items = _with_texts(_items(published, steps.log), config.text)
    found = _find_pictures(items, published.folder, config, reporter)
    lost = Counter(problem.problem for problem in found.problems)
    notes |= {f"pictures {problem}": count for problem, count in sorted(lost.items())}
    for what, count in notes.items():
        reporter.say(f"{what}: {count:,}")
    items, pictures = _with_pictures(items, found)
    for modality in config.need:
        items = items.filter(pc.is_valid(items[modality]))
        left = of_known_items(steps.log, items["item_id"], "drop")
        steps.leave_out(f"with items without {modality}", left)
    kept = set(items["image"].to_pylist())
    return Prepared(
        published.kind,
        items,
        split_log(steps.log, config),
        {name: draw for name, draw in pictures.items() if name in kept},
        config,
        steps.counts | notes,
        published.files,
        published.origin,
        found.problems,
    )


def _leave_out(steps: Steps, config: PublishedConfig) -> None:
    if config.min_rating is not None:
        rated = rated_at_least(steps.log, config.min_rating)
        steps.leave_out(f"rated below {config.min_rating:g}", rated)
    steps.leave_out("that repeat a pair", first_of_each_pair(in_order(steps.log)))
    steps.leave_out(f"outside the {config.k_core}-core", core(steps.log, config.k_core))


def _items(published: Published, log: pa.Table) -> pa.Table:
    """The rows of the log's items, sorted by id; of unknown ones with nothing but the id."""
    ids = pa.array(sorted(pc.unique(log["item_id"]).to_pylist()), pa.string())
    known = published.read_items(set(ids.to_pylist())).combine_chunks()
    rows = pc.index_in(ids, value_set=known["item_id"].combine_chunks())
    others = known.drop_columns("item_id").take(rows)
    return others.add_column(0, "item_id", ids)


def _with_texts(items: pa.Table, text: str) -> pa.Table:
    template = _template(text, [name for name in items.column_names if name != "item_id"])
    rows = items.select(list(dict.fromkeys(template.columns))).to_pylist()
    filled = (template.fill(row) for row in rows)
    in_one_line = [" ".join(each.split()) if each else None for each in filled]
    return items.add_column(1, "text", pa.array(in_one_line, pa.string()))


def _template(text: str, columns: Collection[str]) -> TextTemplate:
    def column(name: str) -> str:
        if name not in columns:
            raise unknown_name("column of the items", name, columns)
        return name

    return TextTemplate(text if "{" in text else f"{{{text}}}", column)


def _find_pictures(
    items: pa.Table, folder: Path, config: PublishedConfig, reporter: Reporter
) -> Found:
    ids = items["item_id"].to_pylist()
    if config.images == "none":
        return Found({}, [])
    if config.images != "fetch":
        return pictures_in(Path(config.images), ids)
    urls = dict(zip(ids, items["image_url"].to_pylist(), strict=True))
    return fetched_pictures(urls, folder, config, reporter, [config.url] if config.url else [])


def _with_pictures(items: pa.Table, found: Found) -> tuple[pa.Table, dict[str, Draw]]:
    """The items with their column of pictures, and what places these."""
    names = {item: file_name(item, path.suffix) for item, path in found.files.items()}
    images = pa.array([names.get(item) for item in items["item_id"].to_pylist()], pa.string())
    draws: dict[str, Draw] = {
        name: partial(place, found.files[item]) for item, name in names.items()
    }
    return items.add_column(2, "image", images), draws

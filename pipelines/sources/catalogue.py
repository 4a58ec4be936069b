"""The catalogue on its way into a data set: ids, texts, pictures, in its one order.

Items are sorted by id as text, so that the order of the rows in the source leaves no trace.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from extract.errors import UserError
from pipelines.config import Config
from pipelines.file_names import file_name
from pipelines.sources.pictures import Draw, PictureFolders, place
from pipelines.sources.reading import Columns, read_columns
from pipelines.sources.templates import TextTemplate


class CatalogueConfig(Config):
    """Where items, their texts and their pictures come from."""

    items: Path | None = Field(
        None, description="The items: TSV, CSV or Parquet.  [default: the items of the log]"
    )
    images: tuple[Path, ...] = Field(
        (), description="Folder of pictures; may be repeated, the preferred one first."
    )
    text: str | None = Field(
        None,
        description="An item's text from columns, such as '{title}. {year}'.  [default: guessed]",
    )
    image_column: str | None = Field(
        None, description="Column of picture paths under the folders.  [default: guessed]"
    )
    keep_all_items: bool = Field(
        False, description="Keep items of which no interaction is left, as cold items."
    )
    unknown_items: Literal["error", "drop"] = Field(
        "error", description="What to do with interactions whose item the items file lacks."
    )


@dataclass(frozen=True)
class ItemRows:
    """The items of a file, in its order, or of a log.

    Attributes:
        ids: Item ids, (n,).
        source: The file's columns; None where there is only the log.
        id_column: Which of them holds the ids.
    """

    ids: pa.Array
    source: Columns | None = None
    id_column: str = ""


def read_items(path: Path | None, item_column: str | None, log: pa.Table) -> ItemRows:
    """The items of a file, or where there is none those of the log.

    Raises:
        UserError: An id stands twice.
    """
    if path is None:
        return ItemRows(pc.unique(log["item_id"]))
    source = read_columns(path)
    name = source.need("item", item_column)
    counts = pc.value_counts(source.ids(name))
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise UserError(
            f"{len(repeated)} item ids of {path} stand in more than one row, such as "
            f"{repeated[0]['values'].as_py()!r}; an item has one row"
        )
    return ItemRows(source.ids(name), source, name)


def catalogue_of(
    rows: ItemRows, log: pa.Table, config: CatalogueConfig
) -> tuple[pa.Table, dict[str, Draw]]:
    """The catalogue's table, and how to place each picture.

    Args:
        rows: All items.
        log: The interactions that are left; items without any go, unless all are to be kept.
        config: What to make of the columns.

    Returns:
        A table of item_id, text, image and the file's other columns; a mapping from path under
        ``images/`` to what writes it.

    Raises:
        UserError: A column or a folder is missing, or the template names no column.
    """
    columns = {
        "item_id": rows.ids,
        "text": _texts(rows.source, len(rows.ids), config),
        "image": _picture_names(rows.source, len(rows.ids), config),
    }
    if rows.source:
        table = rows.source.table
        others = [name for name in table.column_names if name not in (*columns, rows.id_column)]
        columns |= {name: table[name] for name in others}
    items = pa.table(columns)
    if not config.keep_all_items:
        items = items.filter(pc.is_in(items["item_id"], value_set=pc.unique(log["item_id"])))
    items = items.sort_by("item_id")
    images, pictures = _pictures(items, config)
    return items.set_column(items.column_names.index("image"), "image", images), pictures


def _texts(source: Columns | None, n: int, config: CatalogueConfig) -> pa.Array:
    template = config.text or (_likely_template(source) if source else None)
    if template is None:
        return pa.nulls(n, pa.string())
    if source is None:
        raise UserError("--text names columns of the items file; give one with --items")
    filler = TextTemplate(template, source.named)
    rows = source.table.select(list(dict.fromkeys(filler.columns))).to_pylist()
    return pa.array([filler.fill(row) for row in rows], pa.string())


def _likely_template(source: Columns) -> str | None:
    text = source.find("text")
    if text:
        return f"{{{text}}}"
    found = filter(None, (source.find("title"), source.find("description")))
    return ". ".join(f"{{{name}}}" for name in found) or None


def _picture_names(source: Columns | None, n: int, config: CatalogueConfig) -> pa.Array:
    if config.image_column and not (source and config.images):
        raise UserError("--image-column is a column of --items and starts from --images; give both")
    name = source.find("image", config.image_column) if source else None
    if source is None or name is None:
        return pa.nulls(n, pa.string())
    return source.words(name)


def _pictures(items: pa.Table, config: CatalogueConfig) -> tuple[pa.Array, dict[str, Draw]]:
    folders = PictureFolders(config.images)
    images: list[str | None] = []
    pictures: dict[str, Draw] = {}
    for item_id, named in zip(
        items["item_id"].to_pylist(), items["image"].to_pylist(), strict=True
    ):
        found = folders.find(item_id, named)
        images.append(file_name(item_id, found.suffix) if found else None)
        if found and images[-1]:
            pictures[images[-1]] = partial(place, found)
    return pa.array(images, pa.string()), pictures


def source_files(config: CatalogueConfig, interactions: Path) -> Mapping[str, Path]:
    """The files that a data set was made from."""
    return {"interactions": interactions} | ({"items": config.items} if config.items else {})

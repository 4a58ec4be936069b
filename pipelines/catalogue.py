"""A data set's catalogue as the encoders take it."""

from extract.catalog import Catalog
from pipelines.workspace import Dataset, catalogue_digest, read_table


def read_catalogue(dataset: Dataset) -> tuple[Catalog, str]:
    """The items, without the columns that encoders have no use for, and their digest."""
    items = read_table(dataset.items, ["item_id"])
    return Catalog.from_table(items, dataset.images), catalogue_digest(items)

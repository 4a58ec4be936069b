"""The Amazon data of 2018: strict JSON, in which pages were scraped with their markup."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipelines.progress import Reporter
from pipelines.sources.amazon_items import (
    LICENCE,
    AmazonConfig,
    RawItem,
    Release,
    prepare_release,
    read_log,
)
from pipelines.sources.cleaning import first_url
from pipelines.sources.published import mirror
from pipelines.sources.writing import Origin, Prepared


class Amazon2018Config(AmazonConfig):
    """Settings of ``mmrec-prepare amazon-2018``."""

    short_names: ClassVar[Mapping[str, str]] = {
        "sports": "Sports_and_Outdoors",
        "clothing": "Clothing_Shoes_and_Jewelry",
        "electronics": "Electronics",
        "toys": "Toys_and_Games",
        "office": "Office_Products",
        "music": "Digital_Music",
    }
    full_names: ClassVar[Sequence[str]] = (
        "AMAZON_FASHION",
        "All_Beauty",
        "Appliances",
        "Arts_Crafts_and_Sewing",
        "Automotive",
        "Books",
        "CDs_and_Vinyl",
        "Cell_Phones_and_Accessories",
        "Clothing_Shoes_and_Jewelry",
        "Digital_Music",
        "Electronics",
        "Gift_Cards",
        "Grocery_and_Gourmet_Food",
        "Home_and_Kitchen",
        "Industrial_and_Scientific",
        "Kindle_Store",
        "Luxury_Beauty",
        "Magazine_Subscriptions",
        "Movies_and_TV",
        "Musical_Instruments",
        "Office_Products",
        "Patio_Lawn_and_Garden",
        "Pet_Supplies",
        "Prime_Pantry",
        "Software",
        "Sports_and_Outdoors",
        "Tools_and_Home_Improvement",
        "Toys_and_Games",
        "Video_Games",
    )

    url: str | None = mirror("MMREC_AMAZON_2018_URL")


def prepare(config: Amazon2018Config, reporter: Reporter) -> Prepared:
    """Fetch what is missing, read, filter, split."""
    return prepare_release(RELEASE, config, reporter)


def _item_of(record: Mapping[str, Any]) -> RawItem:
    # Older files call the list of pictures so.
    pictures = ("imageURLHighRes", "imageURL", "image")
    return RawItem(
        title=record.get("title"),
        brand=record.get("brand"),
        categories=record.get("category"),
        description=record.get("description"),
        price=record.get("price"),
        image_url=first_url(*map(record.get, pictures)),
    )


RELEASE = Release(
    kind="amazon-2018",
    folder="amazon-2018",
    bases=(
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2",
        "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon_v2",
    ),
    reviews="categoryFilesSmall/{}_5.json.gz",
    metadata="metaFiles2/meta_{}.json.gz",
    read_log=read_log,
    id_field="asin",
    item_of=_item_of,
    origin=Origin(
        title="Amazon review data (2018)",
        home="https://nijianmo.github.io/amazon/",
        licence=LICENCE,
        citation=(
            'J. Ni, J. Li, J. McAuley, "Justifying recommendations using distantly-labeled reviews '
            'and fine-grained aspects", EMNLP 2019'
        ),
    ),
)

"""The Amazon data of 2014, which most papers use: its metadata are Python's words, not JSON."""

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


class Amazon2014Config(AmazonConfig):
    """Settings of ``mmrec-prepare amazon``."""

    short_names: ClassVar[Mapping[str, str]] = {
        "sports": "Sports_and_Outdoors",
        "clothing": "Clothing_Shoes_and_Jewelry",
        "baby": "Baby",
        "electronics": "Electronics",
        "beauty": "Beauty",
        "toys": "Toys_and_Games",
        "office": "Office_Products",
        "music": "Digital_Music",
    }
    full_names: ClassVar[Sequence[str]] = (
        "Amazon_Instant_Video",
        "Apps_for_Android",
        "Automotive",
        "Baby",
        "Beauty",
        "Books",
        "CDs_and_Vinyl",
        "Cell_Phones_and_Accessories",
        "Clothing_Shoes_and_Jewelry",
        "Digital_Music",
        "Electronics",
        "Grocery_and_Gourmet_Food",
        "Health_and_Personal_Care",
        "Home_and_Kitchen",
        "Kindle_Store",
        "Movies_and_TV",
        "Musical_Instruments",
        "Office_Products",
        "Patio_Lawn_and_Garden",
        "Pet_Supplies",
        "Sports_and_Outdoors",
        "Tools_and_Home_Improvement",
        "Toys_and_Games",
        "Video_Games",
    )

    url: str | None = mirror("MMREC_AMAZON_URL")


def prepare(config: Amazon2014Config, reporter: Reporter) -> Prepared:
    """Fetch what is missing, read, filter, split."""
    return prepare_release(RELEASE, config, reporter)


def _item_of(record: Mapping[str, Any]) -> RawItem:
    return RawItem(
        title=record.get("title"),
        brand=record.get("brand"),
        categories=record.get("categories"),
        description=record.get("description"),
        price=record.get("price"),
        image_url=first_url(record.get("imUrl")),
    )


RELEASE = Release(
    kind="amazon",
    folder="amazon-2014",
    bases=(
        "https://snap.stanford.edu/data/amazon/productGraph",
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon",
    ),
    reviews="categoryFiles/reviews_{}_5.json.gz",
    metadata="categoryFiles/meta_{}.json.gz",
    read_log=read_log,
    id_field="asin",
    item_of=_item_of,
    origin=Origin(
        title="Amazon product data (2014)",
        home="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        licence=LICENCE,
        citation=(
            'R. He, J. McAuley, "Ups and downs: Modeling the visual evolution of fashion trends '
            'with one-class collaborative filtering", WWW 2016; J. McAuley, C. Targett, J. Shi, '
            'A. van den Hengel, "Image-based recommendations on styles and substitutes", SIGIR 2015'
        ),
    ),
)

"""The Amazon data of 2023: ratings in CSV, metadata in strict JSON, times in milliseconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from extract.errors import UserError
from pipelines.progress import Reporter
from pipelines.sources.amazon_items import LICENCE, AmazonConfig, RawItem, Release, prepare_release
from pipelines.sources.cleaning import first_url
from pipelines.sources.published import mirror
from pipelines.sources.reviews import Reviews
from pipelines.sources.writing import Origin, Prepared

COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")
NUMBER, WHOLE = r"^[0-9]{1,9}(\.[0-9]{1,9})?$", "^[0-9]{1,15}$"


class Amazon2023Config(AmazonConfig):
    """Settings of ``mmrec-prepare amazon-2023``."""

    short_names: ClassVar[Mapping[str, str]] = {
        "sports": "Sports_and_Outdoors",
        "clothing": "Clothing_Shoes_and_Jewelry",
        "baby": "Baby_Products",
        "electronics": "Electronics",
        "toys": "Toys_and_Games",
        "office": "Office_Products",
        "music": "Digital_Music",
    }
    full_names: ClassVar[Sequence[str]] = (
        "All_Beauty",
        "Amazon_Fashion",
        "Appliances",
        "Arts_Crafts_and_Sewing",
        "Automotive",
        "Baby_Products",
        "Beauty_and_Personal_Care",
        "Books",
        "CDs_and_Vinyl",
        "Cell_Phones_and_Accessories",
        "Clothing_Shoes_and_Jewelry",
        "Digital_Music",
        "Electronics",
        "Gift_Cards",
        "Grocery_and_Gourmet_Food",
        "Handmade_Products",
        "Health_and_Household",
        "Health_and_Personal_Care",
        "Home_and_Kitchen",
        "Industrial_and_Scientific",
        "Kindle_Store",
        "Magazine_Subscriptions",
        "Movies_and_TV",
        "Musical_Instruments",
        "Office_Products",
        "Patio_Lawn_and_Garden",
        "Pet_Supplies",
        "Software",
        "Sports_and_Outdoors",
        "Subscription_Boxes",
        "Tools_and_Home_Improvement",
        "Toys_and_Games",
        "Video_Games",
    )

    url: str | None = mirror("MMREC_AMAZON_2023_URL")


def prepare(config: Amazon2023Config, reporter: Reporter) -> Prepared:
    """Fetch what is missing, read, filter, split."""
    return prepare_release(RELEASE, config, reporter)


def _read_ratings(path: Path, reporter: Reporter) -> Reviews:
    """The log in a file of ratings.

    Raises:
        UserError: The file is torn, or most of its lines are no ratings.
    """
    skipped: list[str] = []

    def skip(row: pacsv.InvalidRow) -> str:
        skipped.append(row.text)
        return "skip"

    reporter.say(f"reading {path.name}")
    try:
        rows = pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(invalid_row_handler=skip),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(COLUMNS, pa.string()), include_columns=COLUMNS
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} should be a whole gzip file of {','.join(COLUMNS)}, found: {error}; remove it "
            "and fetch it again"
        ) from error
    users, items, ratings, times = rows.columns
    readable = pc.and_(
        pc.and_(pc.not_equal(users, ""), pc.not_equal(items, "")),
        pc.and_(pc.match_substring_regex(ratings, NUMBER), pc.match_substring_regex(times, WHOLE)),
    )
    kept = rows.filter(readable)
    unreadable = len(skipped) + rows.num_rows - kept.num_rows
    if unreadable > kept.num_rows or not kept.num_rows:
        raise UserError(
            f"{path} is no file of ratings: {unreadable:,} lines are not {','.join(COLUMNS)} and "
            f"{kept.num_rows:,} are; remove it and fetch it again"
        )
    users, items, ratings, times = kept.columns
    log = {
        "user_id": users,
        "item_id": items,
        "rating": ratings.cast(pa.float64()),
        "timestamp": pc.divide(times.cast(pa.int64()), 1000),
    }
    return Reviews(pa.table(log), unreadable)


def _item_of(record: Mapping[str, Any]) -> RawItem:
    return RawItem(
        title=record.get("title"),
        brand=record.get("store"),
        categories=record.get("categories"),
        description=record.get("description"),
        price=record.get("price"),
        image_url=_main_picture(record.get("images")),
    )


def _main_picture(images: Any) -> str | None:
    listed = images if isinstance(images, list) else []
    known = [image for image in listed if isinstance(image, dict)]
    main_first = sorted(known, key=lambda image: image.get("variant") != "MAIN")
    return first_url(*(image.get(size) for image in main_first for size in ("large", "hi_res")))


RELEASE = Release(
    kind="amazon-2023",
    folder="amazon-2023",
    bases=(
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023",
        "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon_2023",
    ),
    reviews="benchmark/5core/rating_only/{}.csv.gz",
    metadata="raw/meta_categories/meta_{}.jsonl.gz",
    read_log=_read_ratings,
    id_field="parent_asin",
    item_of=_item_of,
    origin=Origin(
        title="Amazon Reviews 2023",
        home="https://amazon-reviews-2023.github.io/",
        licence=LICENCE,
        citation=(
            'Y. Hou, J. Li, Z. He, A. Yan, X. Chen, J. McAuley, "Bridging Language and Items for '
            'Retrieval and Recommendation", arXiv 2403.03952, 2024'
        ),
    ),
)

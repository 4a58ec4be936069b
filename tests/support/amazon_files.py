"""Files in the forms in which the Amazon data are published, small, for a server of the tests."""

import gzip
import json

from support.web import picture

DAY = 1_400_630_400
# Why an item without a URL has no picture.
MISSING = ("missing", "the metadata has no URL")


def packed(*lines):
    """A gzip file of lines, each text or a record that becomes JSON."""
    told = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return gzip.compress("".join(f"{line}\n" for line in told).encode(), mtime=0)


def review(user, item, rating, time):
    """A review as of 2014."""
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": 'J. "Joe" O\'Neill',
        "helpful": [1, 2],
        "reviewText": "Bought {two},\nlike 'em: [5/5] \u2605",
        "overall": float(rating),
        "summary": "Good",
        "unixReviewTime": time,
        "reviewTime": "05 21, 2014",
    }


def review_2018(user, item, rating, time):
    """A review as of 2018."""
    return {
        "overall": float(rating),
        "verified": True,
        "reviewTime": "05 21, 2014",
        "reviewerID": user,
        "asin": item,
        "style": {"Size:": " Large", "Color:": " Blue"},
        "reviewerName": "Joe",
        "reviewText": "Fine",
        "summary": "Five Stars",
        "unixReviewTime": time,
        "vote": "2",
        "image": ["https://images-na.ssl-images-amazon.com/images/I/71aG+xDKSYL._SY88.jpg"],
    }


def loose(record):
    """A line of the metadata of 2014, as Python writes a dictionary; 'NAN' becomes ``nan``."""
    return repr(record).replace("'NAN'", "nan")


def put_2014(site, category, reviews, metadata, folder="/categoryFiles"):
    """Publish a category as of 2014."""
    kind = "application/x-gzip"
    site.put(f"{folder}/reviews_{category}_5.json.gz", packed(*reviews), kind)
    site.put(f"{folder}/meta_{category}.json.gz", packed(*metadata), kind)


def small_shop(site):
    """A category without dirt, Baby: three users took each of four items, the last has no picture.

    Gives the pictures by item.
    """
    pictures = {f"B00{n}": picture(n) for n in range(3)}
    reviews = [
        review(f"U{user}", f"B00{item}", 3 + user % 3, 1_400_000_000 + 10 * item + user)
        for user in range(3)
        for item in range(4)
    ]
    metadata = [
        {
            "asin": f"B00{n}",
            "title": f"Item {n}",
            "description": f"Described {n}.",
            "categories": [["Baby", "Toys"]],
        }
        | ({"imUrl": site.put(f"/images/I/{n}%2B.jpg", pictures[f"B00{n}"])} if n < 3 else {})
        for n in range(4)
    ]
    put_2014(site, "Baby", reviews, map(loose, metadata))
    return pictures


def taken(*items):
    """User, item, rating and time of each review: of the n-th item n seconds after `DAY`.

    U1 and U2 took all items, and liked each less than the one before. U3 took one of them and one
    that nobody else took, so that neither is in the 2-core. U1 rated the first item anew later, and
    worse, which does not count.
    """
    rows = [
        (user, item, max(1, 6 - n), DAY + n)
        for n, item in enumerate(items, 1)
        for user in ("U1", "U2")
    ]
    return [*rows, ("U3", items[0], 5, DAY), ("U3", "alone", 5, DAY), ("U1", items[0], 1, DAY + 99)]


def check_log(log, *items):
    """What is left of `taken`; of each user's, one is for validation and one for test."""
    numbers = {item: n for n, item in enumerate(items, 1)}
    assert [(row["user_id"], row["item_id"], row["timestamp"], row["rating"]) for row in log] == [
        (user, item, DAY + numbers[item], max(1.0, 6.0 - numbers[item]))
        for user in ("U1", "U2")
        for item in sorted(items)
    ]
    for user in ("U1", "U2"):
        splits = sorted(row["split"] for row in log if row["user_id"] == user)
        assert splits == ["test", *["train"] * (len(items) - 2), "validation"]


def check_ledger(ledger, expected):
    """The rows are those of the items, with these problems and details."""
    assert [row["item_id"] for row in ledger] == list(expected)
    assert {row["modality"] for row in ledger} == {"image"}
    for row in ledger:
        problem, detail = expected[row["item_id"]]
        assert row["problem"] == problem
        assert detail in row["detail"]

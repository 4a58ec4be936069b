"""Files in the form of 2014, with the dirt of real ones, become what was worked out by hand.

What the users took: see `taken`.
"""

from support.amazon_files import MISSING, check_ledger, check_log, loose, put_2014, review, taken
from support.web import picture

JPEG = picture(1)


def test_2014(made, site, tmp_path):
    url = site.put("/I/a%2Bb._SX300_.jpg", JPEG)
    icons = "http://g-ecx.images-amazon.com/images/G/01/x-site/icons"
    ball = {
        "asin": "B1",
        "title": "Ball &amp; &quot;Bat&quot;",
        "description": "Round.<br />\n<b>Bouncy</b>: 3 < 5 and 6 > 2",
        "price": 9.99,
        "imUrl": url,
        "related": {"also_bought": ["B2", "nobody's"]},
        "salesRank": {"Sports": 5},
        "brand": "Acme",
        "categories": [["Sports & Outdoors", "Balls"], ["Toys"]],
    }
    metadata = [
        {"asin": "nobody's", "title": "Not reviewed", "imUrl": f"{site.url}/I/nobody.jpg"},
        ball,
        {"asin": "B2", "description": "NAN", "categories": [["Sports & Outdoors"]]},
        {
            "asin": "B3",
            "title": "Schläger für “Kinder”",
            "imUrl": f"{icons}/no-img-sm._CB192198896_.gif",
        },
        {"asin": "B5", "title": "5", "brand": " ", "imUrl": f"{site.url}/I/5.jpg"},
        ball | {"title": "The same again"},
        {
            "asin": "B6",
            "title": "It's 6",
            "price": "NAN",
            "imUrl": site.put("/I/6.jpg", b"<html>Gone</html>", "text/html"),
        },
        {"asin": "alone", "title": "Outside of the core", "imUrl": f"{site.url}/I/alone.jpg"},
    ]
    reviews = [review(*row) for row in taken("B1", "B2", "B3", "0unknown", "B5", "B6")]
    put_2014(
        site,
        "Baby",
        [*reviews, "", '{"reviewerID": "U1", "asin": "B'],
        [*map(loose, metadata), "", "{'asin': 'B2', 'title': 'To"],
    )

    items, log, ledger, described = made("amazon", "baby")
    balls = ["Sports & Outdoors", "Balls"]
    assert items == [
        {"item_id": "0unknown"},
        {
            "item_id": "B1",
            "text": 'Ball & "Bat" Acme Sports & Outdoors Balls Round. Bouncy : 3 < 5 and 6 > 2',
            "image": "B1.jpg",
            "title": 'Ball & "Bat"',
            "brand": "Acme",
            "categories": balls,
            "description": "Round. Bouncy : 3 < 5 and 6 > 2",
            "price": 9.99,
            "image_url": url,
        },
        {"item_id": "B2", "text": balls[0], "categories": balls[:1]},
        {"item_id": "B3", "text": "Schläger für “Kinder”", "title": "Schläger für “Kinder”"},
        {"item_id": "B5", "text": "5", "title": "5", "image_url": f"{site.url}/I/5.jpg"},
        {
            "item_id": "B6",
            "text": "It's 6",
            "title": "It's 6",
            "image_url": f"{site.url}/I/6.jpg",
        },
    ]
    check_log(log, "B1", "B2", "B3", "0unknown", "B5", "B6")
    check_ledger(
        ledger,
        {"0unknown": MISSING, "B2": MISSING, "B3": MISSING}
        | {"B5": ("missing", "HTTP 404"), "B6": ("unreadable", "text/html")},
    )
    assert described["steps"] == {
        "interactions read": 15,
        "that repeat a pair": 1,
        "outside the 2-core": 2,
        "unreadable lines": 1,
        "pictures missing": 4,
        "pictures unreadable": 1,
    }
    assert described["counts"] == {
        "users": 2,
        "items": 6,
        "interactions": 12,
        "train": 8,
        "validation": 2,
        "test": 2,
        "texts": 5,
        "pictures": 1,
        "pictures missing": 4,
        "pictures unreadable": 1,
    }
    images = tmp_path / "data" / "made" / "images"
    assert {path.name: path.read_bytes() for path in images.iterdir()} == {"B1.jpg": JPEG}
    assert not site.asked("/I/nobody.jpg")
    assert not site.asked("/I/alone.jpg")

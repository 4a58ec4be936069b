"""Files in the forms of 2018 and 2023, with their dirt, become what was worked out by hand.

What the users took: see `taken`.
"""

import pytest
from support.amazon_files import MISSING, check_ledger, check_log, packed, review_2018, taken
from support.web import picture

JPEG, PNG = picture(1), picture(2, kind="PNG")


def test_2018(made, site, tmp_path):
    url = site.put("/I/large.jpg", PNG)  # a PNG, whatever it is called
    thumb = site.put("/I/thumb._US40_.jpg", JPEG)
    ball = {
        "category": ["Sports &amp;amp; Outdoors", "Balls"],
        "tech1": "",
        "description": ["Round.<br>", "", "<p class='a-b'>Bouncy</p>"],
        "title": "Ball &amp; Bat",
        "also_buy": ["B2"],
        "brand": "Acme",
        "feature": ["Red"],
        "rank": "5 in Sports (",
        "main_cat": "Sports",
        "price": "$1,085.50",
        "asin": "B1",
        "imageURL": [f"{site.url}/I/thumb-of-1.jpg"],
        "imageURLHighRes": [url, f"{site.url}/I/second.jpg"],
    }
    nothing = {"category": [], "description": [], "brand": "", "price": "", "imageURL": []}
    metadata = [
        nothing | {"title": "var aPageStart = (new Date()).getTime();", "asin": "B2"},
        nothing | {"title": "Not reviewed", "asin": "nobody's"},
        ball,
        ball | {"title": "The same again", "price": "$1.00"},
        nothing | {"title": "Mütze", "price": ".a-box-inner{}", "image": [thumb], "asin": "B3"},
        '{"category": [], "asin": "B',
    ]
    reviews = [review_2018(*row) for row in taken("B1", "B2", "B3")]
    folder, kind = "/categoryFilesSmall", "application/gzip"
    site.put(f"{folder}/Digital_Music_5.json.gz", packed(*reviews, *reviews[:4]), kind)
    site.put("/metaFiles2/meta_Digital_Music.json.gz", packed(*metadata), kind)

    items, log, ledger, described = made("amazon-2018", "music")
    assert items == [
        {
            "item_id": "B1",
            "text": "Ball & Bat Acme Sports & Outdoors Balls Round. Bouncy",
            "image": "B1.png",
            "title": "Ball & Bat",
            "brand": "Acme",
            "categories": ["Sports & Outdoors", "Balls"],
            "description": "Round. Bouncy",
            "price": 1085.5,
            "image_url": url,
        },
        {"item_id": "B2"},
        {
            "item_id": "B3",
            "text": "Mütze",
            "image": "B3.jpg",
            "title": "Mütze",
            "image_url": thumb,
        },
    ]
    check_log(log, "B1", "B2", "B3")
    check_ledger(ledger, {"B2": MISSING})
    assert described["steps"]["that repeat a pair"] == 5
    assert described["counts"]["texts"] == described["counts"]["pictures"] == 2
    images = tmp_path / "data" / "made" / "images"
    assert (images / "B1.png").read_bytes() == PNG
    assert (images / "B3.jpg").read_bytes() == JPEG


def test_2023(made, site, tmp_path):
    side, main = (site.put(f"/I/{name}.jpg", JPEG) for name in ("side", "main"))
    best = site.put("/I/best.jpg", PNG)
    views = [
        {"thumb": f"{side}?t", "large": side, "variant": "PT01", "hi_res": None},
        {"thumb": f"{main}?t", "large": main, "variant": "MAIN", "hi_res": f"{main}?h"},
    ]
    doll = {
        "main_category": "Toys & Games",
        "title": "Doll &#34;Anna&#34;",
        "average_rating": 4.5,
        "rating_number": 7,
        "features": ["Sings"],
        "description": ["One &amp; two.", "Three."],
        "price": 12.5,
        "images": views,
        "videos": [],
        "store": "Acme",
        "categories": ["Toys & Games", "Dolls"],
        "details": {"Material": "Wool"},
        "parent_asin": "B1",
        "bought_together": None,
    }
    nothing = doll | {"title": "", "description": [], "store": None, "categories": []}
    only = {"thumb": f"{best}?t", "large": None, "variant": "PT02", "hi_res": best}
    metadata = [
        nothing | {"parent_asin": "B2", "price": "from 1.99", "images": [only]},
        doll,
        nothing | {"parent_asin": "B3", "price": "None", "images": []},
        nothing | {"parent_asin": "nobody's"},
    ]
    rows = [
        f"{user},{item},{rating}.0,{1000 * time + 123}"
        for user, item, rating, time in taken("B1", "B2", "B3")
    ]
    rows = ["user_id,parent_asin,rating,timestamp", *rows, "", "U1,B1", "U1,B1,five,1400630400000"]
    base = "/benchmark/5core/rating_only"
    site.put(f"{base}/Baby_Products.csv.gz", packed(*rows), "application/gzip")
    path = "/raw/meta_categories/meta_Baby_Products.jsonl.gz"
    site.put(path, packed(*metadata), "application/gzip")

    items, log, ledger, described = made("amazon-2023", "baby")
    assert items == [
        {
            "item_id": "B1",
            "text": 'Doll "Anna" Acme Toys & Games Dolls One & two. Three.',
            "image": "B1.jpg",
            "title": 'Doll "Anna"',
            "brand": "Acme",
            "categories": ["Toys & Games", "Dolls"],
            "description": "One & two. Three.",
            "price": 12.5,
            "image_url": main,
        },
        {"item_id": "B2", "image": "B2.png", "image_url": best},
        {"item_id": "B3"},
    ]
    check_log(log, "B1", "B2", "B3")
    check_ledger(ledger, {"B3": MISSING})
    assert described["steps"]["interactions read"] == 9
    assert described["steps"]["unreadable lines"] == 2
    assert (tmp_path / "data" / "made" / "images" / "B2.png").read_bytes() == PNG


HEADER = "user_id,parent_asin,rating,timestamp"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (packed(HEADER, "U1,B1,5.0,1400630400000")[:-12], "whole gzip file"),
        (packed("user,item", "U1,B1"), "whole gzip file of user_id,parent_asin,rating,timestamp"),
        (packed(HEADER), "0 lines are not"),
        (packed(HEADER, "U1,B1,5.0,1400630400000", "U1,B1", ",,,"), "2 lines are not"),
    ],
)
def test_ratings_of_2023_that_are_none_are_refused(refused, site, tmp_path, content, found):
    site.put("/Baby_Products.csv.gz", content, "application/gzip")
    site.put("/meta_Baby_Products.jsonl.gz", packed({}), "application/gzip")
    command = "prepare amazon-2023 --dataset baby --wait 0 --url"
    error = refused(command, site.url, "--downloads", tmp_path)
    assert found in error
    assert str(tmp_path / "amazon-2023" / "Baby_Products" / "Baby_Products.csv.gz") in error
    assert "remove it" in error

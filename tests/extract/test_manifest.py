"""The digest by which features name the catalogue that they were made from."""

from extract.manifest import items_digest

IDS, TEXTS, IMAGES = ["a", "b"], ["one", None], ["a.jpg", "b.jpg"]


def test_the_order_of_the_items_plays_no_part():
    assert items_digest(IDS[::-1], TEXTS[::-1], IMAGES[::-1]) == items_digest(IDS, TEXTS, IMAGES)


def test_whatever_is_encoded_counts():
    digests = [
        items_digest(IDS),
        items_digest(IDS, TEXTS, IMAGES),
        items_digest(["a", "c"], TEXTS, IMAGES),
        items_digest(IDS, ["two", None], IMAGES),
        items_digest(IDS, ["one", ""], IMAGES),
        items_digest(IDS, TEXTS, ["a.jpg", "a.jpg"]),
    ]
    assert len(set(digests)) == len(digests)

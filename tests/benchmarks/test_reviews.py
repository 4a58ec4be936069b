"""The tables of the benchmark of reading, on few lines."""

import json

from benchmarks import reviews
from benchmarks.reviews import product_rows, review_rows


def test_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(reviews, "ROUNDS", 1)
    rows = [*review_rows(tmp_path, 300), *product_rows(tmp_path, 60)]
    assert [row.name for row in rows] == [
        "reviews/read",
        "reviews/odd",
        "reviews/peak",
        "metadata/parse",
        "metadata/wanted",
    ]
    assert all(row.value > 0 for row in rows)


def test_the_lines_are_the_same_in_every_run_and_as_long_as_real_ones():
    written = [json.dumps(review) for review in reviews.reviews(2000)]
    assert written == [json.dumps(review) for review in reviews.reviews(2000)]
    assert 650 < sum(map(len, written)) / len(written) < 850

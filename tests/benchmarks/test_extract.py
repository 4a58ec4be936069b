"""The benchmark of extraction, on a handful of pictures: that it measures what it says."""

import numpy as np
import pytest
import torch

from benchmarks import extract
from benchmarks.extract import ROUNDS, Machine, picture_rows, precision_rows, text_rows
from benchmarks.growth import growth
from benchmarks.material import ENCODERS, pictures, texts
from extract.embed import embed


@pytest.fixture
def machine(monkeypatch):
    """Fast batches are of no concern here, and large ones take their time."""
    monkeypatch.setattr(extract, "BATCHES", {"cpu": (2, 4)})
    return Machine(torch.device("cpu"), 0.01)


def test_the_floor_is_the_sum_of_both_times(machine, tmp_path):
    catalog, told = pictures(tmp_path / "nothing", tmp_path, 10)
    assert told == "10 generated pictures of 168 x 251"
    encoder = ENCODERS["offline"]()
    rows, vectors = picture_rows(machine, "offline", encoder, catalog)
    forward, decode, reached = rows
    assert [row.name for row in rows] == [
        "offline/forward",
        "offline/decode",
        "offline/end_to_end",
    ]
    assert reached.floor == pytest.approx(
        forward.value * decode.value / (forward.value + decode.value)
    )
    assert reached.of_floor == pytest.approx(reached.value / reached.floor)
    chunks = np.array_split(np.arange(10), ROUNDS)
    expected = np.concatenate([b.vectors["image"] for b in embed(encoder, catalog, chunks=chunks)])
    np.testing.assert_array_equal(vectors, expected)


def test_texts_by_length_are_compared_with_the_files_order(machine, tmp_path):
    catalog, told = texts(tmp_path / "nothing", 40)
    assert told == "40 generated texts"
    rows = {row.name: row for row in text_rows(machine, ENCODERS["offline"](), catalog)}
    plain, sorted_ = rows["minilm/file_order"], rows["minilm/end_to_end"]
    assert sorted_.reference == plain.value
    assert sorted_.speedup == pytest.approx(sorted_.value / plain.value)
    assert 0.99 < rows["minilm/bf16/cosine_min"].value < 1


def test_cosines_and_neighbours_by_hand():
    exact = np.eye(12) + 1e-3 * np.arange(12)  # all neighbours of a row are equally far, nearly
    same = {row.name: row.value for row in precision_rows("same", exact, 2 * exact)}
    assert same["same/bf16/cosine_min"] == pytest.approx(1)
    assert same["same/bf16/top10_agreement"] == 1
    turned = exact.copy()
    turned[0] = exact[1]
    moved = {row.name: row.value for row in precision_rows("moved", exact, turned)}
    between = exact[0] @ exact[1] / np.linalg.norm(exact[0]) / np.linalg.norm(exact[1])
    assert moved["moved/bf16/cosine_min"] == pytest.approx(between)
    assert moved["moved/bf16/cosine_median"] == pytest.approx(1)


def test_growth_tells_both_runs_and_the_memory_of_further_items():
    rows = {row.name: row for row in growth((300, 600))}
    again = rows["random-64/600/again"]
    assert again.reference == rows["random-64/600/first"].value
    assert rows["random-64/300/peak"].value > 10
    assert "random-64/600/peak_per_item" in rows
    assert "random-64/300/peak_per_item" not in rows

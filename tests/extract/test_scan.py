import numpy as np
import pyarrow as pa
import pytest

from extract.catalog import Catalog
from extract.ledger import Problem
from extract.scan import absences, pack_digests, scan
from extract.sources import Part, Sources


def test_contents_are_those_of_the_rows_one_by_one(catalog, monkeypatch):
    monkeypatch.setattr("extract.scan.BLOCK", 3)
    images = catalog.images.to_pylist()
    images[2], images[5] = None, "gone.png"
    texts = [None, *catalog.texts.to_pylist()[1:]]
    mixed = Catalog.from_columns(catalog.item_ids, texts, images, catalog.folder)
    counted = []
    found = scan(mixed, counted.append)
    one_by_one = [mixed.content(row) for row in range(len(mixed))]
    assert [bytes(digest).ljust(16, b"\0").hex() for digest in found.contents] == one_by_one
    assert np.flatnonzero(found.pictureless).tolist() == [2, 5]
    assert counted == [3, 3, 2]
    assert absences(mixed, [1, 2, 5]) == [
        Problem("c", "image", "missing", "the catalogue names none"),
        Problem("f", "image", "missing", "there is no file gone.png"),
    ]


def test_digests_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="expected 2 digests of 32 letters, found 2 letters"):
        pack_digests(pa.chunked_array([["c", "c"]]))
    with pytest.raises(ValueError, match="hexadecimal"):
        pack_digests(pa.chunked_array([["x" * 32]]))


def test_sources_find_what_a_dictionary_finds(tmp_path):
    generator = np.random.default_rng(0)
    # Few different digests, many of which agree in a half, and some end in zeros.
    contents = generator.integers(0, 6, (40, 2)).astype(">u8").view("S16").ravel()
    parts = [
        Part(
            tmp_path,
            pa.chunked_array([[f"{n}" for n in range(start, stop)]]),
            contents[start:stop],
        )
        for start, stop in ((0, 17), (17, 40))
    ]
    first = {}
    for row, content in enumerate(contents.tolist()):
        first.setdefault(content, row)
    asked = np.stack(np.meshgrid(np.arange(7), np.arange(7)), -1).astype(">u8").view("S16").ravel()
    found = Sources(parts).find(asked)
    for content, place in zip(asked.tolist(), found.tolist(), strict=True):
        assert place == first.get(content, -1)
    assert Sources([]).find(asked).tolist() == [-1] * 49

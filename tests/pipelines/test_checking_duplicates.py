"""Near-duplicates: against naive loops, copies made here, and the known dirt of real posters."""

import io
import itertools
import json
import os
import random

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance

from extract.pictures import open_picture
from pipelines.duplicates import (
    BITS,
    HASH_SIDE,
    HASHED_SIDE,
    MAX_BITS,
    PictureHashes,
    file_digest,
    near_hashes,
    near_texts,
    perceptual_hash,
)


def photo(seed, size=(300, 200)):
    """Blobs of all sizes and colours, as different from another as two photos."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((*size[::-1], 3))
    for cells in (3, 6, 12, 24):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) / 4
    return Image.fromarray(picture.astype(np.uint8))


def encoded(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def grouped(files):
    hashes = PictureHashes(len(files))
    for row, data in enumerate(files):
        if data is not None:
            found = perceptual_hash(open_picture(data, HASHED_SIDE))
            hashes.add(row, file_digest(data), found)
    return hashes.groups()


def joined(n, pairs):
    """Groups by a naive union."""
    group = {row: {row} for row in range(n)}
    for a, b in pairs:
        if group[a] is not group[b]:
            group[a] |= group[b]
            for row in group[b]:
                group[row] = group[a]
    return sorted({tuple(sorted(each)) for each in group.values() if len(each) > 1})


COPIES = {
    "the same": lambda picture: encoded(picture),
    "half as large": lambda picture: encoded(picture.resize((150, 100))),
    "twice as large": lambda picture: encoded(picture.resize((600, 400))),
    "quality 75": lambda picture: encoded(picture, "JPEG", quality=75),
    "quality 50": lambda picture: encoded(picture, "JPEG", quality=50),
    "six times as large, in part decoded": lambda p: encoded(p.resize((1800, 1200)), "JPEG"),
    "brighter": lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(1.1)),
    "darker": lambda picture: encoded(ImageEnhance.Brightness(picture).enhance(0.8)),
    "more contrast": lambda picture: encoded(ImageEnhance.Contrast(picture).enhance(1.1)),
    "another format": lambda picture: encoded(picture, "WEBP", quality=80),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies_are_found_and_other_pictures_are_not(copy):
    pictures = [photo(seed) for seed in range(12)]
    files = [encoded(picture) for picture in pictures] + [copy(picture) for picture in pictures]
    assert grouped(files) == [[row, row + 12] for row in range(12)]


def test_mirrored_and_turned_pictures_are_others():
    picture = photo(0)
    turned = [picture.transpose(how) for how in Image.Transpose]
    assert grouped([encoded(each) for each in (picture, *turned)]) == []


def test_the_hash_is_that_of_the_library():
    picture = photo(3)
    bits = np.unpackbits(np.frombuffer(perceptual_hash(picture), np.uint8))
    assert (bits == imagehash.phash(picture, HASH_SIDE).hash.ravel()).all()
    assert len(bits) == BITS


def test_blank_pictures_are_the_same_only_when_their_files_are():
    noise = np.random.default_rng(0).integers(-1, 2, (90, 90, 3))
    blank = [encoded(Image.new("RGB", (90, 90), colour)) for colour in ("white", "black", "red")]
    nearly = [encoded(Image.fromarray((level + noise).astype(np.uint8))) for level in (200, 210)]
    assert grouped([*blank, *nearly]) == []
    assert grouped([*blank, *nearly, None, blank[0], nearly[1], None]) == [[0, 6], [4, 7]]


def test_copies_of_copies_are_one_group():
    picture = photo(1)
    files = [encoded(photo(2)), encoded(picture), encoded(picture, "JPEG"), encoded(picture, "BMP")]
    assert grouped([*files, files[0]]) == [[0, 4], [1, 2, 3]]


@pytest.mark.parametrize("most", [0, 3, MAX_BITS, 15])
def test_hashes_against_a_naive_loop(most):
    rng = np.random.default_rng(most)
    bits = rng.integers(0, 2, (120, BITS), dtype=np.uint8)
    for _ in range(150):
        near = bits[rng.integers(len(bits))].copy()
        near[rng.choice(BITS, rng.integers(0, most + 6), replace=False)] ^= 1
        bits = np.vstack([bits, near])
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(bits)), 2)
        if (bits[a] != bits[b]).sum() <= most
    ]
    assert len(pairs) > 20
    found = np.array(near_hashes(np.packbits(bits, axis=1), most)).T.tolist()
    assert {tuple(sorted(pair)) for pair in found} <= set(pairs)
    assert joined(len(bits), found) == joined(len(bits), pairs)


def test_nothing_at_all():
    assert PictureHashes(0).groups() == PictureHashes(3).groups() == []
    assert near_texts([]) == near_texts([None, "", " "]) == []


def mutated_texts(chance):
    """Texts of two vocabularies and many lengths, and copies with some words changed."""
    for _ in range(120):
        words = [f"w{chance.randrange(chance.choice((60, 3000)))}" for _ in range(200)]
        words = words[: chance.choice((1, 2, 9, 10, 11, 12, 20, 60, 200))]
        for _ in range(chance.randint(1, 4)):
            copy = list(words)
            for _ in range(chance.randint(0, 1 + len(copy) // 12)):
                copy[chance.randrange(len(copy))] = f"w{chance.randrange(5000)}"
            chance.shuffle(copy)
            yield " ".join(copy)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 1.0])
def test_texts_against_a_naive_loop(share):
    texts = list(mutated_texts(random.Random(share)))
    sets = [set(text.split()) for text in texts]
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(texts)), 2)
        if len(sets[a] & sets[b]) >= share * len(sets[a] | sets[b]) - 1e-9
    ]
    assert len(pairs) > 20
    assert [tuple(group) for group in near_texts(texts, share)] == joined(len(texts), pairs)


NINE = "one two three four five six seven eight nine"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("A red shoe", "a RED shoe!", True),
        ("A red shoe", "shoe, red a", True),
        ("red shoe", "red red shoe", True),
        ("ﬁne caf\u00e9", "FINE cafe\u0301", True),  # a ligature, an accent of its own
        ("a red shoe", "a red hat", False),
        (f"{NINE} ten", NINE, True),  # nine of ten
        (f"{NINE} ten", f"{NINE} eleven", False),  # nine of eleven
        ("\u8d64\u3044\u9774", "\u8d64\u3044 \u9774\u3002", True),  # a script without spaces
        ("\u8d64\u3044\u9774", "\u8d64\u3044\u5e3d\u5b50", False),
        ("\U0001f600\U0001f601", "\U0001f600\U0001f601", True),
        ("\U0001f600\U0001f601", "\U0001f602", False),
        ("", "", False),
        (" \u3000", "\t", False),
        ("...", "...", True),
    ],
)
def test_what_nearly_the_same_text_means(a, b, same):
    assert near_texts(["something else", a, None, b]) == ([[1, 3]] if same else [])


def test_a_catalogue_of_one_pattern_takes_no_quadratic_time():
    """Twelve words of which eleven stand everywhere: every pair agrees on half of its words."""
    common = " ".join(f"c{number}" for number in range(11))
    texts = [f"{common} x{row}" for row in range(5_000)]
    assert near_texts(texts, 0.9) == []
    groups = near_texts(texts, 0.8)  # eleven of thirteen
    assert groups == [list(range(5_000))]


@pytest.fixture
def shop(tmp_path):
    """A data set from (id, text, picture file's bytes)."""

    def make(items):
        folder = tmp_path / "data" / "shop"
        (folder / "images").mkdir(parents=True)
        for item, _, data in items:
            (folder / "images" / item).write_bytes(data)
        ids, texts, _ = zip(*items, strict=True)
        table = {"item_id": pa.array(ids), "text": pa.array(texts, pa.string()), "image": ids}
        pq.write_table(pa.table(table), folder / "items.parquet")
        log = {"user_id": ["u"] * len(ids), "item_id": ids, "split": ["train"] * len(ids)}
        pq.write_table(pa.table(log), folder / "interactions.parquet")
        (folder / "dataset.json").write_text(json.dumps({}))

    return make


def line_of(outcome, offence):
    line = next(line for line in outcome.out.splitlines() if line.startswith(offence))
    return line[len(offence) :].split(maxsplit=2)


def test_the_report_lists_groups(mmrec, shop):
    a, b = photo(0), photo(1)
    shop(
        [
            ("i1", "a red shoe", encoded(a)),
            ("i2", "a blue hat", encoded(a, "JPEG")),
            ("i3", "Blue: a hat", encoded(b)),
            ("i4", None, encoded(a.resize((150, 100)))),
            ("i5", "x", b"torn"),
            ("i6", "y", b"torn"),
        ]
    )
    outcome = mmrec("check --dataset shop --quiet")
    assert outcome.code == 0
    assert line_of(outcome, "near-duplicate pictures") == ["warn", "1", "i1 = i2 = i4"]
    assert line_of(outcome, "near-duplicate texts") == ["warn", "1", "i2 = i3"]
    assert line_of(outcome, "unusable pictures")[:2] == ["warn", "2"]


def test_of_a_large_group_five_are_named(mmrec, shop):
    shop([(f"i{row}", "the same", encoded(photo(row))) for row in range(8)])
    outcome = mmrec("check --dataset shop --quiet")
    told = ["warn", "1", "i0 = i1 = i2 = i3 = i4 = 3 more"]
    assert line_of(outcome, "near-duplicate texts") == told
    assert line_of(outcome, "near-duplicate pictures")[:2] == ["ok", "0"]


@pytest.mark.realdata
def test_the_known_dirt_of_real_posters_is_all_that_is_found(real_data):
    """Different posters are never alike; those that are, are equal to the byte."""
    paths = sorted((real_data / "ml100k" / "posters_tmdb").glob("*.jpg"))
    files = [path.read_bytes() for path in paths]
    by_bytes = {}
    for row, data in enumerate(files):
        by_bytes.setdefault(data, []).append(row)
    equal = [rows for rows in by_bytes.values() if len(rows) > 1]
    found = grouped(files)
    assert len(files) == 1663
    assert [rows for rows in equal if not any(set(rows) <= set(group) for group in found)] == []
    assert found == sorted(equal), os.linesep.join(str(paths[row]) for row in found[0])

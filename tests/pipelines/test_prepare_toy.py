import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.progress import Reporter
from pipelines.sources.toy import ToyConfig, prepare
from pipelines.sources.toy_pictures import COLOURS, PATTERNS, SHAPES, SIZE, Look, draw_picture
from pipelines.sources.toy_words import STYLES, WORDS

TOY = "prepare toy --dataset toy --items 100 --users 60"


@pytest.fixture
def toy(mmrec, tmp_path):
    assert mmrec(TOY).code == 0
    return tmp_path / "data" / "toy"


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(toy, mmrec):
    before = content(toy)
    assert len(before) == 3 + 100 - 2
    assert mmrec(TOY).code == 0
    assert content(toy) == before


def test_another_seed_gives_another_shop(toy, mmrec):
    before = content(toy)
    assert mmrec(TOY, "--overwrite", "--seed", 1).code == 0
    after = content(toy)
    shared = before.keys() & after.keys()
    assert not [path for path in shared if before[path] == after[path]]


def test_more_users_leave_the_catalogue_alone(toy, mmrec):
    before = content(toy)
    assert mmrec(TOY.replace("--users 60", "--users 80"), "--overwrite").code == 0
    after = content(toy)
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed == {"interactions.parquet", "dataset.json"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--seed 1", "was made with seed 0, not 1;"),
        ("--items 99 --users 61", "was made with items 100, not 99; users 60, not 61;"),
    ],
)
def test_another_shop_of_that_name_is_refused(toy, refused, mmrec, words, told):
    before = content(toy)
    error = refused(f"{TOY} {words}")
    assert told in error
    assert "--dataset" in error
    assert "--overwrite" in error
    assert content(toy) == before
    assert mmrec(f"{TOY} {words} --overwrite").code == 0
    # It is now the one that was asked for, and whether it replaced one is no part of it.
    after = content(toy)
    assert after != before
    assert mmrec(f"{TOY} {words}").code == 0
    assert content(toy) == after


def test_an_unfinished_data_set_is_replaced(toy, mmrec):
    (toy / "dataset.json").unlink()
    assert mmrec(f"{TOY} --seed 1").code == 0


def test_a_description_from_before_a_setting_is_compared_by_its_default(toy, mmrec, refused):
    described = json.loads((toy / "dataset.json").read_text())
    del described["settings"]["per_user"]
    (toy / "dataset.json").write_text(json.dumps(described))
    assert "per_user 10.0, not 11.0" in refused(f"{TOY} --per-user 11")
    assert mmrec(TOY).code == 0


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"source": {"kind": "toy"}, "settings": 1}'])
def test_a_description_that_tells_nothing_is_not_lost_in_silence(toy, mmrec, refused, text):
    (toy / "dataset.json").write_text(text)
    assert "in a way that its dataset.json does not tell" in refused(TOY)
    assert mmrec(TOY, "--overwrite").code == 0


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_generator_takes(refused, seed):
    assert "seed: input should be" in refused(TOY, "--seed", seed)


def test_the_largest_seed(mmrec):
    assert mmrec(TOY, "--seed", 2**63 - 1).code == 0


def test_some_items_lack_something(toy):
    rows = pq.read_table(toy / "items.parquet").to_pylist()
    faults = Counter()
    for row in rows:
        path = toy / "images" / (row["image"] or "none")
        faults["unnamed"] += row["image"] is None
        faults["lost"] += row["image"] is not None and not path.exists()
        faults["empty"] += row["text"] is None
        if path.exists():
            try:
                Image.open(path).load()
            except OSError:
                faults["torn"] += 1
    assert faults == {"unnamed": 1, "lost": 1, "torn": 1, "empty": 2}
    assert json.loads((toy / "dataset.json").read_text())["counts"]["pictures"] == 98


def test_users_take_a_few_different_items(toy):
    log = pq.read_table(toy / "interactions.parquet").to_pylist()
    pairs = {(row["user_id"], row["item_id"]) for row in log}
    assert len(pairs) == len(log)
    taken = Counter(user for user, _ in pairs)
    assert len(taken) == 60
    assert min(taken.values()) >= 5
    assert 8 < np.mean(list(taken.values())) < 12
    per_split = Counter((row["user_id"], row["split"]) for row in log)
    assert all(per_split[user, "test"] >= 1 <= per_split[user, "validation"] for user in taken)


@pytest.mark.parametrize("category", SHAPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_look_can_be_drawn(tmp_path, category, pattern):
    draw_picture(Look(category, "red", "blue", pattern, seed=1), tmp_path / "x.jpg")
    assert Image.open(tmp_path / "x.jpg").size == (SIZE, SIZE)


def test_a_picture_shows_its_colour(tmp_path):
    for name, colour in COLOURS.items():
        draw_picture(Look("shirt", name, "blue", "plain", seed=2), tmp_path / "x.jpg")
        shown = np.asarray(Image.open(tmp_path / "x.jpg"), float)[90:140, 90:134].mean((0, 1))
        nearest = min(COLOURS, key=lambda other: np.abs(shown - COLOURS[other]).sum())
        assert nearest == name, (shown, colour)


def test_every_attribute_has_words():
    assert {*SHAPES, *COLOURS, *PATTERNS, *STYLES} == set(WORDS)


def recall(scores, seen, held_out, k=20):
    ranked = np.argsort(-np.where(seen, -np.inf, scores), axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(held_out, ranked, axis=1).sum(1)
    return float(np.mean(hits / held_out.sum(1)))


def test_texts_tell_more_of_a_taste_than_popularity():
    shop = prepare(ToyConfig(), Reporter(quiet=True))
    items, log = shop.items.to_pylist(), shop.interactions.to_pylist()
    row_of_item = {item["item_id"]: row for row, item in enumerate(items)}
    row_of_user = {user: row for row, user in enumerate(sorted({r["user_id"] for r in log}))}
    matrices = {split: np.zeros((len(row_of_user), len(items))) for split in ("train", "test")}
    for row in log:
        if row["split"] in matrices:
            place = row_of_user[row["user_id"]], row_of_item[row["item_id"]]
            matrices[row["split"]][place] = 1
    train, test = matrices["train"], matrices["test"]
    # What a reader who knows the synonyms takes from each text.
    texts = [(item["text"] or "").lower() for item in items]
    phrases = [
        (*map(str.lower, words), *map(str.lower, STYLES.get(name, ())))
        for name, words in WORDS.items()
    ]
    told = np.array(
        [[any(p in text for p in phrase) for phrase in phrases] for text in texts], float
    )
    told /= np.maximum(np.linalg.norm(told, axis=1, keepdims=True), 1e-9)
    by_texts = recall(train @ told @ told.T, train, test)
    by_popularity = recall(np.tile(train.sum(0), (len(train), 1)), train, test)
    assert by_texts > 1.3 * by_popularity, (by_texts, by_popularity)

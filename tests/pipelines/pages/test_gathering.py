"""What a page is handed, held against a naive reading of the workspace's files."""

import json
import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.report_shop import RUNS, TEXTS, category_of, comparison_of
from support.shop import N_ITEMS, N_USERS

from pipelines.pages.contents import Page
from pipelines.pages.gathering import PageOptions, gather
from pipelines.workspace import Workspace

TRAINED = [(model, features, seed) for model, features, seeds in RUNS[:3] for seed in seeds]


@pytest.fixture(scope="module")
def made(compared):
    """The workspace, the comparison and its page; nobody writes into it."""
    root, comparison = compared
    return root, comparison, gather(Workspace(root), comparison)


@pytest.fixture
def root(made, tmp_path):
    """A copy of the workspace, to write into."""
    return shutil.copytree(made[0], tmp_path / "copy")


def log_of(root):
    return pq.read_table(root / "data/shop/interactions.parquet").to_pylist()


def ids(page, rows):
    return [page.items[row].id for row in rows]


def test_the_whole_catalogue_with_the_most_taken_first(made):
    root, comparison, page = made
    taken = Counter(row["item_id"] for row in log_of(root) if row["split"] == "train")
    assert page.catalogue == len(page.items) == N_ITEMS
    assert {item.id: item.taken for item in page.items} == {
        f"i{item}": taken[f"i{item}"] for item in range(N_ITEMS)
    }
    counts = [item.taken for item in page.items]
    assert counts == sorted(counts, reverse=True)
    assert page.comparison == comparison
    assert page.licence == "Shop, https://shop.example: for looking only"


def test_texts_are_data(made):
    texts = {item.id: item.text for item in made[2].items}
    assert texts["i0"] == TEXTS["i0"]
    assert texts["i1"] == TEXTS["i1"]
    assert texts["i2"] == "x" * 299 + "…"
    assert texts["i3"] is texts["i4"] is None
    assert texts["i11"] == "thing i11"
    assert Page.model_validate_json(made[2].model_dump_json()) == made[2]


def test_a_category_is_one_that_tells_items_apart(made):
    found = {item.id: item.category for item in made[2].items}
    wanted = {item: category_of(item) for item in found}
    # "thing" is said of all that have any, so it says nothing.
    assert found == {item: name and name.split("| ")[1] for item, name in wanted.items()}
    assert Counter(found.values()).keys() == {None, "red", "green", "blue"}


def test_curves_are_those_of_the_histories(made):
    root, _, page = made
    assert [(c.system, c.seed) for c in page.curves] == [
        (f"{model} · {features}", seed) for model, features, seed in TRAINED
    ]
    curve = page.curves[1]
    lines = (root / "runs/shop/vbpr-good-1/history.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    assert curve.epochs == (1, 2, 3)
    assert curve.metric == "recall@20"
    assert curve.loss == pytest.approx([sum(e["loss"].values()) for e in epochs], rel=1e-5)
    told = [e["validation"]["recall@20"] if "validation" in e else None for e in epochs]
    assert told[0] is curve.validation[0] is None  # only every other epoch is validated
    assert curve.validation[1:] == pytest.approx(told[1:], rel=1e-5)
    metrics = json.loads((root / "runs/shop/vbpr-good-1/metrics.json").read_text())
    assert curve.best_epoch == metrics["selection"]["epoch"]


@pytest.mark.parametrize("protocol", ["strict", "mmrec"])
def test_users_history_held_out_and_lists(made, protocol):
    root, comparison, _ = made
    asked = comparison_of(comparison.systems, protocol=protocol)
    page = gather(Workspace(root), asked, PageOptions(thumbnails=False))
    known = {"strict": ("train", "validation"), "mmrec": ("train",)}[protocol]
    log = log_of(root)
    assert [user.id for user in page.users] == sorted(f"u{user}" for user in range(N_USERS))
    for user in page.users:
        own = [row for row in log if row["user_id"] == user.id]
        history = {row["item_id"]: row["timestamp"] for row in own if row["split"] in known}
        times = [history[item] for item in ids(page, user.history)]
        assert set(ids(page, user.history)) == set(history)
        assert len(user.history) == len(history)
        without = times.count(None)
        assert times == sorted(times[: len(times) - without], reverse=True) + [None] * without
        held_out = [row["item_id"] for row in own if row["split"] == "test"]
        assert ids(page, user.held_out) == held_out
    check_lists(root, page)


def check_lists(root, page, runs=RUNS):
    """The first ten of the first seed's lists, of all systems."""
    for model, features, seeds in runs:
        folder = root / f"runs/shop/{model}-{features[:4]}-{seeds[0]}"
        rows = pq.read_table(folder / "recommendations.parquet").to_pylist()
        for user in page.users:
            own = [r for r in rows if r["user_id"] == user.id and r["rank"] <= 10]
            wanted = [r["item_id"] for r in sorted(own, key=lambda r: r["rank"])]
            assert ids(page, user.lists[f"{model} · {features}"]) == wanted
            assert len(wanted) == 10


def test_spaces_of_features_of_a_model_and_of_the_log(made):
    page = made[2]
    names = ["good · image", "good · text", "good · fused"]
    assert [space.name for space in page.spaces] == [
        *names, "item graph · lightgcn · none", "taken together",
    ]  # fmt: skip
    assert [space.modality for space in page.spaces] == ["image", "text", "fused", "graph", "graph"]
    assert [space.features for space in page.spaces[:3]] == ["good"] * 3
    assert [len(space.xy) for space in page.spaces] == [N_ITEMS] * 3 + [0, 0]
    row = [item.id for item in page.items].index("i3")  # without a vector of its picture
    assert page.spaces[0].neighbours[row] == ()
    assert page.spaces[0].xy[row] is None
    assert page.spaces[1].xy[row] is not None
    assert [(pair.one, pair.other) for pair in page.disagreements] == [
        ("good · image", "good · text"),
        *((name, "taken together") for name in names),
    ]
    assert page.disagreements[0].overlap[row] is None


def test_two_gathers_are_equal(made):
    root, comparison, page = made
    assert gather(Workspace(root), comparison) == page


def test_less_than_the_catalogue(made, saying):
    root, comparison, _ = made
    # One user has taken ten items and is given ten others.
    asked = comparison_of(comparison.systems[:1])
    page = gather(Workspace(root), asked, PageOptions(items=24, users=1))
    assert (len(page.items), page.catalogue, len(page.users)) == (24, N_ITEMS, 1)
    assert "24 of 40 items are shown" in saying
    check_lists(root, page, RUNS[:1])  # so all that is listed is shown
    for space in page.spaces:
        assert len(space.neighbours) == len(space.similarities) == 24
        assert {row for near in space.neighbours for row in near} <= set(range(24))
    needed = {
        page.items[row].id
        for user in page.users
        for row in (*user.history, *user.held_out, *sum(user.lists.values(), ()))
    }
    taken = Counter(row["item_id"] for row in log_of(root) if row["split"] == "train")
    left_out = {f"i{n}" for n in range(N_ITEMS)} - {item.id for item in page.items}
    others = [item.taken for item in page.items if item.id not in needed]
    assert others
    assert max(taken[item] for item in left_out) <= min(others)


def test_users_for_whom_there_is_no_room(made, saying):
    root, comparison, _ = made
    page = gather(Workspace(root), comparison, PageOptions(items=9))
    assert (len(page.items), page.users) == (9, ())
    assert any("30 of 30 users are left out" in line for line in saying)


def test_numbers_instead_of_ids(made):
    root, comparison, page = made
    numbered = gather(Workspace(root), comparison, PageOptions(anonymous=True, thumbnails=False))
    assert [user.id for user in numbered.users] == [str(n + 1) for n in range(N_USERS)]
    by_content = [
        Counter((user.history, user.held_out, tuple(user.lists.values())) for user in of.users)
        for of in (page, numbered)
    ]
    assert by_content[0] == by_content[1]


def test_without_pictures(made):
    root, comparison, page = made
    plain = gather(Workspace(root), comparison, PageOptions(thumbnails=False))
    assert {item.thumbnail for item in plain.items} == {None}
    assert {item.why for item in plain.items} == {"pictures were left out of this page"}
    assert sum(item.thumbnail is not None for item in page.items) == 2


def test_a_log_without_times_and_a_catalogue_without_categories(root, made):
    for name, left in (("interactions", ["timestamp"]), ("items", ["genres", "image"])):
        path = root / f"data/shop/{name}.parquet"
        pq.write_table(pq.read_table(path).drop_columns(left), path)
    page = gather(Workspace(root), made[1])
    assert {item.category for item in page.items} == {None}
    assert {item.why for item in page.items} == {"missing: the catalogue names none"}
    order = [int(page.items[row].id[1:]) for row in page.users[0].history]
    assert order == sorted(order, key=str)  # as ids sort


def test_lists_of_categories(root, made):
    path = root / "data/shop/items.parquet"
    items = pq.read_table(path)
    lists = [[] if n == 0 else ["all", f"of {n % 2}"] for n in range(N_ITEMS)]
    place = items.column_names.index("genres")
    pq.write_table(items.set_column(place, "categories", pa.array(lists)), path)
    page = gather(Workspace(root), made[1], PageOptions(thumbnails=False))
    found = {item.id: item.category for item in page.items}
    assert found == {f"i{n}": f"of {n % 2}" if n else None for n in range(N_ITEMS)}


def test_the_draw_takes_from_quiet_and_busy_users_alike():
    from pipelines.pages.users import choose_users
    from recommend.interactions import InteractionLog

    generator = np.random.default_rng(0)
    activity = {f"u{n:03}": 1 + n // 10 for n in range(80)}
    rows = [(user, f"i{k}", "train") for user, n in activity.items() for k in range(n)]
    rows += [(user, "i9", "test") for user in activity if user != "u000"]
    rows = [rows[place] for place in generator.permutation(len(rows))]
    columns = map(list, zip(*rows, strict=True))
    log = InteractionLog.from_columns(*columns, [f"i{k}" for k in range(10)])
    drawn = choose_users(log, 12, seed=0)
    assert len(set(drawn.tolist())) == 12
    assert Counter(((drawn - 1) // 20).tolist()) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert choose_users(log, 12, seed=0).tolist() == drawn.tolist()
    assert choose_users(log, 12, seed=1).tolist() != drawn.tolist()
    assert sorted(choose_users(log, 200, seed=0).tolist()) == list(range(1, 80))

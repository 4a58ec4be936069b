"""Slices: which there are, and recall of each against loops over users and pairs."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.compared import N_ITEMS, knowing, log_rows, market, noise, put_run

from pipelines.comparisons.judging import JudgeOptions, judge
from pipelines.comparisons.measuring.slice_kinds import (
    activity_slices,
    agreement_slices,
    item_slices,
)
from pipelines.loading import load_log, load_store
from recommend.features import FeatureStore


def set_column(workspace, name, values):
    path = workspace.dataset(None).items
    table = pq.read_table(path)
    if name in table.column_names:
        table = table.drop_columns([name])
    pq.write_table(table.append_column(name, pa.array(values)), path)


def by_kind(workspace, store=None):
    dataset = workspace.dataset(None)
    return {own.kind: own for own in item_slices(dataset, load_log(dataset), store)}


def members(slices, log):
    """Slice to the ids of its items."""
    return {
        name: set(log.items.ids[column].tolist())
        for name, column in zip(slices.names, slices.members.T, strict=True)
    }


@pytest.fixture
def shop(tmp_path):
    return market(tmp_path)


def test_categories_are_the_largest_eight_and_others_and_items_may_be_in_several(shop):
    labels = [f"c{item % 10}|even" if item % 2 == 0 else f"c{item % 10}" for item in range(N_ITEMS)]
    labels[1] = None
    set_column(shop, "genres", labels)
    own = by_kind(shop)["category"]
    # even has 20 items; c1 has lost one of its four, so the ties go by name
    assert own.names == ("even", "c0", "c2", "c3", "c4", "c5", "c6", "c7", "other")
    told = members(own, load_log(shop.dataset(None)))
    assert told["even"] == {f"i{item}" for item in range(0, N_ITEMS, 2)}
    assert told["c3"] == {"i3", "i13", "i23", "i33"}
    assert told["other"] == {f"i{item}" for item in range(N_ITEMS) if item % 10 in (1, 9)} - {"i1"}


def test_categories_may_be_lists_and_one_that_all_have_tells_nothing(shop):
    set_column(shop, "categories", [["All", "a" if item < 9 else "b"] for item in range(N_ITEMS)])
    own = by_kind(shop)["category"]
    assert own.names == ("b", "a")
    assert own.members.sum(axis=0).tolist() == [N_ITEMS - 9, 9]
    set_column(shop, "categories", [["All"]] * N_ITEMS)
    assert "category" not in by_kind(shop)


def test_items_without_picture_or_text(shop):
    set_column(shop, "image", ["a.jpg"] * 38 + [None, None])
    set_column(shop, "text", ["thing"] * 37 + [" ", "thing", None])
    own = by_kind(shop)["modalities"]
    assert dict(zip(own.names, own.members.sum(axis=0).tolist(), strict=True)) == {
        "picture and text": 37,
        "text only": 1,
        "picture only": 1,
        "neither": 1,
    }
    # a picture that gave no vector is none
    log = load_log(shop.dataset(None))
    vectors = {name: np.ones((N_ITEMS, 2)) for name in ("image", "text")}
    vectors["image"][log.items.find(["i0"])] = 0
    told = members(by_kind(shop, FeatureStore.from_arrays(vectors))["modalities"], log)
    assert told["text only"] == {"i0", "i38"}


def test_where_nothing_is_lacking_modalities_are_no_slices(shop):
    set_column(shop, "image", ["a.jpg"] * N_ITEMS)
    assert "modalities" not in by_kind(shop)


def test_activity_parts_test_users_where_their_counts_differ(shop):
    log = load_log(shop.dataset(None))
    own = activity_slices(log, np.arange(len(log.users)))
    assert own.names == ("9 items taken",)  # of everyone
    rows = [row for row in log_rows() if row[2] != "train"]
    rows += [(f"u{u}", f"i{i}", "train") for u in range(60) for i in range(1 + u // 15)]
    rows = list({row[:2]: row for row in rows}.values())
    log = load_log(market(shop.root / "b", rows).dataset(None))
    taken = log.split.train.user_degrees
    own = activity_slices(log, np.arange(len(log.users)))
    assert own.members.sum(axis=1).tolist() == [1] * 60
    for name, column in zip(own.names, own.members.T, strict=True):
        low, high = taken[column].min(), taken[column].max()
        assert name.split()[0] == str(low)
        assert ((taken >= low) & (taken <= high)).tolist() == column.tolist()


def test_agreement_is_by_the_cosine_of_picture_and_text():
    angles = np.linspace(0, np.pi / 2, 11)[::-1]
    image = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3
    text = np.tile([2.0, 0.0], (11, 1))
    image[4] = 0  # without a vector
    own = agreement_slices(FeatureStore.from_arrays({"image": image, "text": text}), "clip")
    assert own.kind == "image-text agreement (clip)"
    slice_of = [int(row.argmax()) if row.any() else -1 for row in own.members]
    assert slice_of == [0, 0, 1, 1, -1, 2, 2, 3, 3, 4, 4]


def judged(workspace, folders, **options):
    return judge(workspace, "shop", folders, (), JudgeOptions(**options))


@pytest.mark.parametrize("primary", ["recall@10", "ndcg@20"])
def test_recalls_of_slices_are_what_loops_count(shop, primary):
    set_column(shop, "genres", [f"3:{item % 3}|2:{item % 2}" for item in range(N_ITEMS)])
    folders = [put_run(shop, knowing(shop, 0.3, seed), seed=seed) for seed in (0, 1)]
    (system,) = judged(shop, folders, primary=primary).systems
    k, log = int(primary.split("@")[1]), load_log(shop.dataset(None))
    lists = []
    for folder in folders:
        table = pq.read_table(folder / "recommendations.parquet").to_pylist()
        lists.append({(r["user_id"], r["item_id"]) for r in table if r["rank"] <= k})
    test = log.split.test
    pairs = [
        (str(log.users.ids[u]), str(log.items.ids[i]))
        for u, i in zip(test.users, test.items, strict=True)
    ]
    checked = 0
    for own in system.slices:
        if own.kind == "category":
            modulus, rest = map(int, own.name.split(":"))
            wanted = [pair for pair in pairs if int(pair[1][1:]) % modulus == rest]
        elif own.kind == "item popularity" and own.name == "rarest fifth":
            wanted = popular(log, pairs)
        else:
            continue
        checked += 1
        seeds = [sum(pair in found for pair in wanted) / len(wanted) for found in lists]
        assert own.pairs == len(wanted)
        assert own.recall.seeds == pytest.approx(seeds)
        assert own.recall.mean == pytest.approx(np.mean(seeds))
        assert own.recall.low <= own.recall.mean <= own.recall.high
    assert checked == 6


def popular(log, pairs):
    """The pairs whose item lies in the first fifth of the interactions, rarest items first."""
    taken = log.split.train.item_degrees
    first, before = set(), 0
    for degree in sorted(set(taken.tolist())):
        if before * 5 // taken.sum() == 0:
            first |= set(log.items.ids[taken == degree].tolist())
        before += degree * int((taken == degree).sum())
    return [pair for pair in pairs if pair[1] in first]


def test_recall_of_users_is_the_mean_of_their_own(tmp_path):
    rows = log_rows()
    rows = [row for row in rows if row[2] != "train" or int(row[0][1:]) >= 30 or row[1] < "i3"]
    shop = market(tmp_path, rows)
    folder = put_run(shop, knowing(shop, 0.5))
    (system,) = judged(shop, [folder]).systems
    log = load_log(shop.dataset(None))
    taken = dict(zip(log.users.ids.tolist(), log.split.train.user_degrees.tolist(), strict=True))
    table = pq.read_table(folder / "per_user.parquet").to_pylist()
    table = [row for row in table if row["split"] == "test"]
    found = [own for own in system.slices if own.kind == "user activity"]
    assert len(found) > 1
    for own in found:
        words = own.name.replace(" to ", " ").split()
        low, high = int(words[0]), int(words[1] if words[1].isdecimal() else words[0])
        values = [r["recall@20"] for r in table if low <= taken[r["user_id"]] <= high]
        assert own.members == len(values)
        assert own.recall.mean == pytest.approx(np.mean(values))


def test_cold_items_are_ranked_among_themselves_too(tmp_path):
    shop = market(tmp_path, log_rows(cold=12))
    log = load_log(shop.dataset(None))
    cold = np.flatnonzero(log.split.train.item_degrees == 0)
    scores = noise(3)
    folders = [put_run(shop, scores), put_run(shop, scores, "vbpr")]
    constant = scores.copy()
    constant[:, cold] = 1.0
    folders.append(put_run(shop, constant, "vbpr", "random"))
    comparison = judged(shop, folders, primary="recall@10")
    told = {own.name: own for own in comparison.systems}
    # Without features what differs between unseen items is chance; equal scores tell none apart.
    assert [told[n].scores_unseen for n in ("bpr · none", "vbpr · good", "vbpr · random")] == [
        False,
        True,
        False,
    ]
    hits, chance = {}, {}
    masked = {(int(u), int(i)) for u, i in zip(*log.split.validation.matrix.nonzero(), strict=True)}
    for user, item in zip(log.split.test.users, log.split.test.items, strict=True):
        if item in cold:
            candidates = [i for i in cold if (user, i) not in masked]
            best = sorted(candidates, key=lambda i: -np.float32(scores[user, i]))[:10]
            hits.setdefault(item, []).append(item in best)
            chance.setdefault(item, []).append(min(1, 10 / len(candidates)))
    own = [s for s in told["vbpr · good"].slices if s.kind == "cold items among themselves"]
    assert [(s.members, s.pairs) for s in own] == [(len(cold), sum(map(len, hits.values())))]
    by_item = [np.mean(found) for found in hits.values()]
    assert own[0].recall.mean == pytest.approx(np.mean(by_item))
    assert own[0].recall == told["vbpr · good"].test["cold-item recall@10"]
    fact = comparison.facts["recall@10 of lists drawn by chance"]
    by_chance = np.mean([np.mean(found) for found in chance.values()])
    assert fact.endswith(f"themselves {by_chance:.4f}".replace(" 0.", " ."))


def test_without_cold_items_nothing_is_said_of_them(tmp_path):
    parts = ["train"] * 6 + ["validation", "test"]
    rows = [(f"u{u}", f"i{(u + n) % 40}", part) for u in range(60) for n, part in enumerate(parts)]
    shop = market(tmp_path, rows)
    comparison = judged(shop, [put_run(shop, noise())])
    (system,) = comparison.systems
    assert system.scores_unseen is None
    assert not {"cold items", "cold items among themselves"} & {own.kind for own in system.slices}
    # each user leaves 33 items: seven were taken before
    assert comparison.facts["recall@20 of lists drawn by chance"] == f"{20 / 33:.4f}"[1:]


def test_lists_beyond_their_hits_are_those_of_a_loop(shop):
    folder = put_run(shop, noise(), "vbpr")
    (system,) = judged(shop, [folder]).systems
    table = pq.read_table(folder / "recommendations.parquet").to_pylist()
    log = load_log(shop.dataset(None))
    store = load_store(shop.dataset(None), "good", log, seed=0)
    taken = dict(zip(log.items.ids.tolist(), log.split.train.item_degrees.tolist(), strict=True))
    by_user = {}
    for row in table:
        if row["rank"] <= 20:
            by_user.setdefault(row["user_id"], []).append(row["item_id"])
    listed = {item for items in by_user.values() for item in items}
    assert system.beyond["coverage@20"] == pytest.approx(len(listed) / N_ITEMS)
    means = [np.mean([taken[item] for item in items]) for items in by_user.values()]
    assert system.beyond["popularity@20"] == pytest.approx(np.mean(means))
    unlike = []
    for items in by_user.values():
        parts = []
        for vectors in store.tables.values():
            own = vectors[log.items.find(items)].astype(float)
            norms = np.linalg.norm(own, axis=1, keepdims=True)
            parts.append(np.divide(own, norms, out=np.zeros_like(own), where=norms > 0))
        joined = np.concatenate(parts, axis=1)
        joined /= np.linalg.norm(joined, axis=1, keepdims=True)
        cosines = joined @ joined.T
        n = len(items)
        unlike.append(1 - (cosines.sum() - n) / (n * (n - 1)))
    assert system.beyond["diversity@20"] == pytest.approx(np.mean(unlike), abs=1e-6)

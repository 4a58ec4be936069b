"""Metrics against fractions computed by hand and against ir-measures."""

from math import log2

import ir_measures
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recommend.evaluate import evaluate
from recommend.interactions import Interactions
from recommend.metrics import CUTOFFS, METRICS, measure
from recommend.models import Embeddings


def one_user(hits, relevant, cutoffs=(3,)):
    metrics = measure(np.array([0]), np.array([hits], bool), np.array([relevant]), cutoffs)
    return {name: values[0] for name, values in metrics.values.items()}


def test_values_by_hand():
    got = one_user([1, 0, 1, 0, 0], relevant=4)
    assert len(METRICS) == 6
    assert got["recall@3"] == 2 / 4
    assert got["precision@3"] == 2 / 3
    assert got["hit@3"] == 1
    assert got["mrr@3"] == 1
    assert got["map@3"] == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert got["ndcg@3"] == pytest.approx((1 + 1 / log2(4)) / (1 + 1 / log2(3) + 1 / log2(4)))


def test_fewer_relevant_items_than_places():
    got = one_user([0, 1, 0], relevant=1)
    assert got["recall@3"] == 1
    assert got["precision@3"] == pytest.approx(1 / 3)
    assert got["map@3"] == got["mrr@3"] == 1 / 2
    assert got["ndcg@3"] == pytest.approx(1 / log2(3))


def test_no_hit_is_zero_everywhere():
    assert set(one_user([0, 0, 0], relevant=2).values()) == {0.0}


def test_a_perfect_ranking_is_one_where_one_is_possible():
    got = one_user([1, 1, 1, 0], relevant=3)
    assert set(got.values()) == {1.0}


def test_a_catalogue_smaller_than_the_cutoff():
    got = one_user([0, 1], relevant=1, cutoffs=(50,))
    assert got["recall@50"] == 1
    assert got["precision@50"] == 1 / 50
    assert got["ndcg@50"] == pytest.approx(1 / log2(3))


def oracle_input(scores, users, items, names):
    """The same scores and held-out pairs as ir-measures takes them."""
    relevance = [ir_measures.Qrel(str(u), names[i], 1) for u, i in zip(users, items, strict=True)]
    run = [
        ir_measures.ScoredDoc(str(user), names[item], float(scores[user, item]))
        for user, item in np.ndindex(scores.shape)
    ]
    return relevance, run


def test_agreement_with_ir_measures_on_random_scores_with_ties():
    """Both are given the same scores, of few distinct values, so that most places are tied."""
    n_users, n_items = 40, 120
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 12, (n_users, n_items)).astype(np.float32)
    held_out = np.zeros((n_users, n_items), bool)
    for user in range(n_users):
        held_out[user, generator.choice(n_items, generator.integers(1, 70), replace=False)] = True
    held_out[7] = False
    users, items = np.nonzero(held_out)
    interactions = Interactions(users, items, n_users, n_items)
    identity = Embeddings(torch.from_numpy(scores), torch.eye(n_items))
    metrics, _ = evaluate(identity, interactions, csr_array((n_users, n_items)))
    # Among equal scores ours puts the smaller row first, trec_eval the larger name, and the
    # MS MARCO script, which ir-measures uses for RR, the smaller name.
    falling = oracle_input(scores, users, items, [f"d{n_items - i:04d}" for i in range(n_items)])
    rising = oracle_input(scores, users, items, [f"d{i:04d}" for i in range(n_items)])
    for k in CUTOFFS:
        oracle = {
            "recall": ir_measures.R @ k,
            "precision": ir_measures.P @ k,
            "ndcg": ir_measures.nDCG @ k,
            "map": ir_measures.AP @ k,
            "mrr": ir_measures.RR @ k,
            "hit": ir_measures.Success @ k,
        }
        assert oracle.keys() == METRICS.keys()
        for name, ir_measure in oracle.items():
            wanted = np.zeros(n_users)
            relevance, run = rising if name == "mrr" else falling
            for value in ir_measures.iter_calc([ir_measure], relevance, run):
                wanted[int(value.query_id)] = value.value
            wanted = wanted[metrics.users]
            if name == "map":  # trec_eval divides by n_u, we by min(n_u, k)
                relevant = interactions.user_degrees[metrics.users]
                wanted = wanted * relevant / np.minimum(relevant, k)
            np.testing.assert_allclose(
                metrics.values[f"{name}@{k}"], wanted, atol=1e-9, err_msg=f"{name}@{k}"
            )
    assert 7 not in metrics.users

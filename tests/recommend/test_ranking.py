"""Ranking against a full stable sort, whatever the ties, blocks and masks."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from extract.errors import UserError
from recommend import native, ranking
from recommend.evaluate import evaluate, seen_items
from recommend.interactions import Interactions, Split
from recommend.models import Embeddings
from recommend.ranking import rank, top_k


@pytest.fixture(params=["native", "torch"], autouse=True)
def way(request, monkeypatch):
    """Everything here holds with the compiled loop and without it."""
    if request.param == "torch":
        monkeypatch.setattr(native, "kernels", lambda: None)
    elif native.kernels() is None:
        pytest.skip("there is no C compiler with OpenMP here")


def naive_top_k(scores, k):
    """Sort every row whole: score falling, column rising."""
    return np.array([sorted(range(len(row)), key=lambda i: (-row[i], i))[:k] for row in scores])


@pytest.mark.parametrize("distinct", [1, 2, 5, 10**6])
def test_top_k_equals_a_full_stable_sort(distinct, device):
    generator = np.random.default_rng(distinct)
    scores = generator.integers(0, distinct, (200, 60)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.3] = -np.inf
    columns, values = top_k(torch.from_numpy(scores).to(device), 20)
    wanted = naive_top_k(scores, 20)
    np.testing.assert_array_equal(columns.cpu().numpy(), wanted)
    np.testing.assert_array_equal(values.cpu().numpy(), np.take_along_axis(scores, wanted, axis=1))


def random_case(seed=0, n_users=57, n_items=90):
    generator = np.random.default_rng(seed)
    users = torch.from_numpy(generator.integers(-2, 3, (n_users, 3)).astype(np.float32))
    items = torch.from_numpy(generator.integers(-2, 3, (n_items, 3)).astype(np.float32))
    taken = generator.random((n_users, n_items)) < 0.2
    held_out = (generator.random((n_users, n_items)) < 0.05) & ~taken
    rows = np.nonzero(held_out)
    return Embeddings(users, items), csr_array(taken), Interactions(*rows, n_users, n_items)


@pytest.mark.parametrize("width", [7, 30, 49, 90])
@pytest.mark.parametrize("k", [1, 20, 90])
def test_tiles_of_items_give_the_lists_of_the_whole_catalogue(monkeypatch, width, k):
    """Few distinct scores, so that ties cross the tiles' edges; some users have seen nearly all."""
    embeddings, seen, _ = random_case(6)
    seen = seen.toarray()
    seen[:5, :88] = True
    monkeypatch.setattr(ranking, "TILE_ITEMS", width)
    users = np.random.default_rng(0).permutation(57)[:40]
    got = rank(embeddings, users, csr_array(seen), k, block=9)
    scores = (embeddings.users @ embeddings.items.T).numpy()
    scores = np.where(seen, -np.inf, scores)[users]
    wanted = naive_top_k(scores, k)
    np.testing.assert_array_equal(got.items, wanted)
    np.testing.assert_array_equal(got.scores, np.take_along_axis(scores, wanted, axis=1))


def check_blocks(embeddings, seen, held_out, rtol, atol):
    """Lists and metrics of blocks of 1 and of 7 users are those of a block of all."""
    together, ranking = evaluate(embeddings, held_out, seen)
    for block in (1, 7):
        apart, same = evaluate(embeddings, held_out, seen, block=block)
        np.testing.assert_array_equal(same.items, ranking.items)
        np.testing.assert_allclose(same.scores, ranking.scores, rtol=rtol, atol=atol)
        for name in together.values:
            np.testing.assert_array_equal(apart.values[name], together.values[name])


def real_valued_case():
    """64-d normal vectors: sums whose last bits depend on how they are blocked."""
    _, seen, held_out = random_case(4)
    vectors = torch.randn(57 + 90, 64, generator=torch.Generator().manual_seed(0))
    return Embeddings(vectors[:57], vectors[57:]), seen, held_out


def test_a_block_of_one_user_gives_the_lists_and_metrics_of_a_block_of_all():
    check_blocks(*real_valued_case(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    embeddings, seen, held_out = random_case(5)
    embeddings.users[3, 0] = bad
    with pytest.raises(UserError, match="scores are not finite"):
        evaluate(embeddings, held_out, seen)


def test_tied_scores_do_not_depend_on_the_block():
    check_blocks(*random_case(), rtol=0, atol=0)


def test_masked_items_come_last_and_everything_else_in_order():
    embeddings, seen, _ = random_case(1)
    users = np.arange(len(embeddings.users))
    ranking = rank(embeddings, users, seen, 90)
    scores = np.where(seen.toarray(), -np.inf, (embeddings.users @ embeddings.items.T).numpy())
    np.testing.assert_array_equal(ranking.items, naive_top_k(scores, 90))


def test_sparse_embeddings_rank_as_dense_ones():
    embeddings, seen, _ = random_case(2)
    users = np.arange(len(embeddings.users))
    sparse = Embeddings(csr_array(embeddings.users.numpy()), csr_array(embeddings.items.numpy()))
    dense_ranking = rank(embeddings, users, seen, 50)
    sparse_ranking = rank(sparse, users, seen, 50, block=10)
    np.testing.assert_array_equal(sparse_ranking.items, dense_ranking.items)


def test_no_user_to_rank_for():
    embeddings, seen, _ = random_case(3)
    nobody = Interactions(np.empty(0, int), np.empty(0, int), *seen.shape)
    metrics, ranking = evaluate(embeddings, nobody, seen)
    assert ranking.items.shape == (0, 50)
    assert metrics.means()["recall@20"] == 0


def test_the_protocols_differ_in_validation_items_at_test_only():
    def part(*rows):
        users, items = np.array(rows).T
        return Interactions(users, items, 2, 4)

    split = Split(part((0, 0), (1, 1)), part((0, 1)), part((0, 2), (1, 3)))
    train = split.train.matrix.toarray()
    both = train + split.validation.matrix.toarray()
    assert (seen_items(split, "test", "strict").toarray() == both).all()
    assert (seen_items(split, "test", "mmrec").toarray() == train).all()
    for protocol in ("strict", "mmrec"):
        assert (seen_items(split, "validation", protocol).toarray() == train).all()

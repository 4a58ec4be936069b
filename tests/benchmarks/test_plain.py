"""What the benchmark of recommenders compares with does the same arithmetic."""

import numpy as np
import pytest
import torch

from benchmarks.epochs import PlainCase, Plan
from benchmarks.plain import PlainFreedom, PlainLightGCN, PlainSampler
from benchmarks.plain_evaluation import plain_evaluation
from benchmarks.simulated import simulated_split
from recommend.evaluate import evaluate
from recommend.graphs import mixed_neighbours
from recommend.models import Embeddings
from recommend.models.freedom import Freedom, FreedomConfig
from recommend.models.lightgcn import LightGCN, LightGCNConfig

CPU = torch.device("cpu")


def same_weights(plain, model):
    with torch.no_grad():
        plain.users.weight.copy_(model.users)
        plain.items.weight.copy_(model.items)
        for modality, project in getattr(model, "project", {}).items():
            plain.project[modality].weight.copy_(project.weight)


def check_same_step(plain, model, batch, tables):
    """Equal losses, and equal gradients of what both have."""
    loss = sum(model.loss(batch, tables).values())
    other = plain.loss(batch.users, batch.positives, batch.negatives)
    torch.testing.assert_close(other, loss, rtol=1e-5, atol=0)
    loss.backward()
    other.backward()
    pairs = [(plain.users.weight, model.users), (plain.items.weight, model.items)]
    for modality, project in getattr(model, "project", {}).items():
        pairs.append((plain.project[modality].weight, project.weight))
    for got, wanted in pairs:
        assert wanted.grad.abs().max() > 0
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-4, atol=1e-7)


def test_plain_lightgcn_does_the_same_arithmetic(data, batch):
    config = LightGCNConfig(embedding_size=8, reg=0.1)
    model, plain = LightGCN(config, data), PlainLightGCN(config, data.train)
    same_weights(plain, model)
    check_same_step(plain, model, batch, {})


@pytest.mark.parametrize("trained", [False, True])
def test_plain_freedom_does_the_same_arithmetic(data, batch, trained):
    config = FreedomConfig(embedding_size=8, neighbours=3, reg=0.1, dropout=0)
    graph = mixed_neighbours(data.features, 3, config.image_weight)
    model = Freedom(config, data)
    plain = PlainFreedom(config, data.train, data.features, graph, trained)
    same_weights(plain, model)
    tables = {name: torch.from_numpy(array) for name, array in data.features.tables.items()}
    check_same_step(plain, model, batch, tables)
    for features in plain.features.values():
        assert (features.weight.grad is not None) == trained


def test_plain_freedom_draws_other_edges_each_epoch_and_leaves_the_features_alone(data):
    graph = mixed_neighbours(data.features, 3, 0.1)
    before = {name: array.copy() for name, array in data.features.tables.items()}
    plain = PlainFreedom(FreedomConfig(dropout=0.8), data.train, data.features, graph)
    case = PlainCase(plain, PlainSampler(data.train, 128), Plan(1, 0, 2, 128), CPU)
    case.turn()
    first = plain.pruned.indices()
    case.turn()
    assert first.shape == (2, 2 * int((1 - 0.8) * len(data.train)))
    assert not torch.equal(first, plain.pruned.indices())
    for name, array in before.items():
        np.testing.assert_array_equal(array, data.features.tables[name])


def test_the_plain_sampler_gives_each_pair_once_with_a_negative_that_is_one(data):
    taken = set(data.train.keys.tolist())
    sampler = PlainSampler(data.train, 128)
    batches = list(sampler.epoch(CPU))
    assert [len(users) for users, _, _ in batches] == [128, 128, 128, 16]
    assert len(sampler) == 4
    users, positives, negatives = (torch.cat(c).numpy() for c in zip(*batches, strict=True))
    assert sorted(users * data.train.n_items + positives) == sorted(taken)
    assert not taken & set((users * data.train.n_items + negatives).tolist())


def test_the_plain_evaluation_finds_the_same_metrics(data, tiny):
    test, generator = simulated_split(tiny).test, np.random.default_rng(1)
    users, items = (generator.standard_normal((n, 8), np.float32) for n in (60, 70))
    embeddings = Embeddings(torch.from_numpy(users), torch.from_numpy(items))
    metrics, _ = evaluate(embeddings, test, data.train.matrix)
    plain = plain_evaluation(users, items, data.train, test, np.arange(60))
    assert plain.keys() == metrics.values.keys()
    assert len(plain) == 24
    for name, values in plain.items():
        np.testing.assert_allclose(values, metrics.values[name], rtol=1e-12, err_msg=name)
    assert 0 < np.mean(plain["hit@50"]) < 1

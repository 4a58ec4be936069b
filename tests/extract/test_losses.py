"""The losses against naive loops in NumPy, fractions by hand, finite differences, and corners."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from extract.losses import (
    bounded,
    contrast,
    cross_modal_label_aware,
    hard_negatives,
    itc,
    itm,
    label_aware,
    mlm,
)

SCALE = torch.tensor(2.0, dtype=torch.float64).log()


def vectors(count, seed, dim=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64).requires_grad_()


def unit(vector):
    return vector / math.sqrt(sum(value * value for value in vector))


def naive_itc(images, texts, scale, groups):
    pictures = [unit(vector) for vector in images.detach().numpy()]
    sentences = [unit(vector) for vector in texts.detach().numpy()]
    total = 0.0
    for ours, theirs in ((pictures, sentences), (sentences, pictures)):
        for row, vector in enumerate(ours):
            below = sum(
                math.exp(scale * vector @ other)
                for column, other in enumerate(theirs)
                if column == row or groups[column] != groups[row]
            )
            total -= math.log(math.exp(scale * vector @ theirs[row]) / below)
    return total / (2 * len(pictures))


def naive_label_aware(features, labels, temperature, weighted, groups):
    rows = [unit(vector) for vector in features.detach().numpy()]
    losses = []
    for i, label in enumerate(labels):
        near = [math.exp(rows[i] @ other / temperature) for other in rows]
        positives = [k for k in range(len(rows)) if k != i and labels[k] == label != -1]
        negatives = [
            k
            for k in range(len(rows))
            if -1 not in (label, labels[k]) and labels[k] != label and groups[k] != groups[i]
        ]
        if not positives:
            continue
        loss = 0.0
        for p in positives:
            if weighted:
                whole = sum(near[k] for k in negatives)
                weights = {k: len(negatives) * near[k] / whole for k in negatives}
                below = near[p] + sum(weights[k] * near[k] for k in negatives)
            else:
                below = sum(near[k] for k in positives + negatives)
            loss -= math.log(near[p] / below)
        losses.append(loss / len(positives))
    return np.mean(losses) if losses else 0.0


def assert_smooth(loss, *arguments):
    assert torch.autograd.gradcheck(loss, arguments, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4, 5], [0, 1, 0, 3, 1, 0], [7] * 6])
def test_itc_is_the_formula(groups):
    images, texts = vectors(6, 1), vectors(6, 2)
    found = itc(images, texts, SCALE, torch.tensor(groups))
    assert found.item() == pytest.approx(naive_itc(images, texts, 2.0, groups), abs=1e-12)
    log_scale = SCALE.clone().requires_grad_()
    assert_smooth(lambda *given: itc(*given, torch.tensor(groups)), images, texts, log_scale)


def test_itc_of_distinct_pairs_is_the_cross_entropy_of_the_diagonal():
    images, texts = vectors(6, 3), vectors(6, 4)
    logits = 2 * normalize(images) @ normalize(texts).T
    own = torch.arange(6)
    expected = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    for groups in (None, own):
        torch.testing.assert_close(itc(images, texts, SCALE, groups), expected)


def test_itc_by_hand():
    # Cosines 1 on the diagonal and 0 beside it: every row is e^s / (e^s + 2) with s = ln 4.
    images, texts = torch.eye(3, dtype=torch.float64) * 5, torch.eye(3, dtype=torch.float64) * 0.1
    log_scale = torch.tensor(math.log(math.log(4)), dtype=torch.float64)
    assert itc(images, texts, log_scale).item() == pytest.approx(math.log(6 / 4))
    # The first and the second are no negatives of each other: 4/5, 4/5, 4/6.
    groups = torch.tensor([1, 1, 2])
    expected = (2 * math.log(5 / 4) + math.log(6 / 4)) / 3
    assert itc(images, texts, log_scale, groups).item() == pytest.approx(expected)


def test_scale_is_bounded_and_finds_back():
    log_scale = torch.tensor([3.0, math.log(100), 6.0], dtype=torch.float64, requires_grad=True)
    values = bounded(log_scale).exp()
    assert values.tolist() == pytest.approx([math.exp(3), 100, 100])
    values.sum().backward()
    assert log_scale.grad.tolist() == pytest.approx([math.exp(3), 100, 100])
    images, texts = vectors(4, 5), vectors(4, 6)
    high, bound = (contrast(images, texts, torch.tensor(value)) for value in (9.0, math.log(100)))
    torch.testing.assert_close(high, bound)


@pytest.mark.parametrize("weighted", [False, True], ids=["lacvit", "clce"])
@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([0, 1, 0, 1, 2, 0, 2], None),
        ([0, 1, 0, -1, -1, 0, 2], None),  # unlabelled ones, and a label that occurs once
        ([0, 1, 0, 1, 2, 0, 2], [0, 0, 2, 3, 3, 5, 5]),
        ([4, 4, 4, 4, 4, 4, 4], None),  # no negatives
    ],
)
def test_label_aware_is_the_formula(labels, groups, weighted):
    features = vectors(7, 8)
    given = torch.tensor(groups) if groups else None

    def loss(features):
        return label_aware(features, torch.tensor(labels), 0.3, weighted, given)

    expected = naive_label_aware(features, labels, 0.3, weighted, groups or list(range(7)))
    nothing_to_tell_apart = weighted and len(set(labels)) == 1
    assert expected == 0 if nothing_to_tell_apart else expected > 0.1
    assert loss(features).item() == pytest.approx(expected, abs=1e-12)
    assert_smooth(loss, features)


def test_label_aware_by_hand():
    # Two alike at angle 0, one other at a right angle: s is 1 for the positive, 0 for the negative.
    features = torch.tensor([[2.0, 0], [3, 0], [0, 1]], dtype=torch.float64)
    labels = torch.tensor([5, 5, 6])
    expected = math.log((math.e + 1) / math.e)
    assert label_aware(features, labels, 1.0).item() == pytest.approx(expected)
    # A single negative has the weight 1, whichever way weights are drawn.
    assert label_aware(features, labels, 1.0, hard_weight=True).item() == pytest.approx(expected)
    # A second negative as near as the positive: weights 2 e/(e + 1) and 2 1/(e + 1).
    features = torch.cat([features, torch.tensor([[1.0, 0]], dtype=torch.float64)])
    labels = torch.tensor([5, 5, 6, 7])
    below = math.e + 2 * (math.e**2 + 1) / (math.e + 1)
    found = label_aware(features, labels, 1.0, hard_weight=True)
    assert found.item() == pytest.approx(math.log(below / math.e))


def test_unlabelled_vectors_change_nothing():
    features, labels = vectors(9, 9), torch.tensor([0, 1, -1, 0, 1, -1, -1, 2, 0])
    kept = labels != -1
    for weighted in (False, True):
        alone = label_aware(features[kept], labels[kept], 0.2, weighted)
        found = label_aware(features, labels, 0.2, weighted)
        torch.testing.assert_close(found, alone)
        (gradient,) = torch.autograd.grad(found, features)
        assert gradient[~kept].abs().max() == 0
        assert gradient[kept].abs().max() > 0


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_modal_takes_both_modalities_of_a_class(weighted):
    images, texts = vectors(4, 10), vectors(4, 11)
    labels, groups = [3, 1, 3, -1], [0, 1, 2, 2]
    stacked = torch.cat([images, texts])
    expected = naive_label_aware(stacked, labels * 2, 0.5, weighted, groups * 2)
    found = cross_modal_label_aware(
        images, texts, torch.tensor(labels), 0.5, weighted, torch.tensor(groups)
    )
    assert found.item() == pytest.approx(expected, abs=1e-12)
    # The item with the label 1 is alone in its class: picture and text are all its positives.
    (gradient,) = torch.autograd.grad(found, images)
    assert gradient[1].abs().max() > 0


CORNERS = {
    "one pair": ([0], [0]),
    "no labels": ([-1, -1, -1], [0, 1, 2]),
    "one of each label": ([0, 1, 2], [0, 1, 2]),
    "all in one group": ([0, 1, 0], [4, 4, 4]),
    "one label": ([2, 2, 2], [0, 1, 2]),
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_corners_have_finite_losses_and_gradients(corner, dtype):
    labels, groups = (torch.tensor(values) for values in CORNERS[corner])
    images = vectors(len(labels), 12).detach().to(dtype).requires_grad_()
    texts = vectors(len(labels), 13).detach().to(dtype).requires_grad_()
    log_scale = torch.tensor(math.log(100), dtype=dtype, requires_grad=True)
    losses = {
        "itc": itc(images, texts, log_scale, groups),
        "lacvit": label_aware(images, labels, 0.01, groups=groups),
        "clce": label_aware(images, labels, 0.01, hard_weight=True, groups=groups),
        "both": cross_modal_label_aware(images, texts, labels, 0.01, True, groups),
    }
    for name, loss in losses.items():
        assert loss.dtype == dtype, name
        assert loss.isfinite(), name
        for gradient in torch.autograd.grad(
            loss, (images, texts, log_scale), allow_unused=True, retain_graph=True
        ):
            assert gradient is None or gradient.isfinite().all(), name
    if corner in ("no labels", "one of each label", "one pair"):
        assert losses["lacvit"] == losses["clce"] == 0
    if corner in ("one pair", "all in one group"):
        assert losses["itc"] == 0


def test_hard_negatives_are_drawn_by_their_softmax():
    similarities = torch.tensor(
        [[9.0, 1.0, 2.0, 8.0], [0.5, 3.0, 1.5, 1.0], [0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 0.0, 1.0]]
    )
    groups = torch.tensor([0, 1, 2, 0])  # the first and the last are one product
    generator = torch.Generator().manual_seed(1)
    draws = [hard_negatives(similarities, groups, generator) for _ in range(4000)]
    for side, matrix in enumerate((similarities, similarities.T)):
        drawn = torch.stack([draw[side] for draw in draws])
        assert drawn.dtype == torch.int64
        for row in range(4):
            chances = np.exp(matrix[row].double().numpy())
            chances[[column for column in range(4) if groups[column] == groups[row]]] = 0
            shares = [(drawn[:, row] == column).double().mean().item() for column in range(4)]
            np.testing.assert_allclose(shares, chances / chances.sum(), atol=0.03)
            assert not any(
                share for share, chance in zip(shares, chances, strict=True) if not chance
            )


def test_hard_negatives_of_a_confident_model_and_of_none():
    certain = 1000 * torch.eye(3)
    texts, images = hard_negatives(certain, torch.arange(3), torch.Generator().manual_seed(2))
    for drawn in (texts, images):
        assert ((drawn != torch.arange(3)) & (drawn >= 0)).all()
    alike = torch.tensor([1, 1, 1])
    texts, images = hard_negatives(certain, alike, torch.Generator())
    assert texts.tolist() == images.tolist() == [-1, -1, -1]


def test_hard_negatives_are_replayed():
    similarities = vectors(30, 14, dim=30)
    first, again, other = (
        hard_negatives(similarities, torch.arange(30), torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_itm_by_hand():
    # The chances of a match are 3/4 and 1/5, and only the first one is a match.
    logits = torch.tensor([[1.0, 3.0], [4.0, 1.0]], dtype=torch.float64).log()
    for matched in (torch.tensor([True, False]), torch.tensor([1, 0])):
        assert itm(logits, matched).item() == pytest.approx(-math.log(3 / 4 * 4 / 5) / 2)


def test_mlm_by_hand():
    logits = torch.tensor([[1.0, 1, 2], [5.0, 3, 2], [7.0, 1, 1]], dtype=torch.float64).log()
    logits.requires_grad_()
    found = mlm(logits[None], torch.tensor([[2, 1, -100]]))
    assert found.item() == pytest.approx(-(math.log(2 / 4) + math.log(3 / 10)) / 2)
    assert mlm(logits, torch.tensor([2, 1, -100])).item() == found.item()
    nothing = mlm(logits, torch.tensor([-100, -100, -100]))
    assert nothing.item() == 0
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert gradient.abs().max() == 0

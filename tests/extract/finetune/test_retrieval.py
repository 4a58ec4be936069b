"""Recall@k of pairs, by hand and by a naive loop."""

import pytest
import torch

from extract.finetune.retrieval import CUTOFFS, mean_recall, retrieval_recalls


def naive(images, texts, groups, k):
    found = 0
    for row, image in enumerate(images):
        cosines = [torch.cosine_similarity(image, text, dim=0).item() for text in texts]
        right = max(c for c, g in zip(cosines, groups, strict=True) if g == groups[row])
        wrong = [c for c, g in zip(cosines, groups, strict=True) if g != groups[row]]
        found += sum(c >= right for c in wrong) < k
    return found / len(images)


def test_by_hand():
    # The second picture is nearest to the first text; the third to its own.
    images = torch.tensor([[1.0, 0, 0], [0.9, 0.4, 0], [0, 0, 3]])
    texts = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.1, 1]])
    recalls = retrieval_recalls(images, texts, torch.arange(3))
    assert recalls["image_to_text@1"] == pytest.approx(2 / 3)
    assert recalls["text_to_image@1"] == 1
    assert recalls["image_to_text@5"] == recalls["text_to_image@10"] == 1
    assert mean_recall(recalls) == pytest.approx((2 / 3 + 5) / 6)


@pytest.mark.parametrize("grouped", [False, True])
def test_equals_a_naive_loop(grouped, monkeypatch):
    monkeypatch.setattr("extract.finetune.retrieval.BLOCK", 7)
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 40, 3, generator=generator)
    groups = torch.randint(0, 25, (40,), generator=generator) if grouped else torch.arange(40)
    recalls = retrieval_recalls(images, texts, groups)
    for k in CUTOFFS:
        assert recalls[f"image_to_text@{k}"] == naive(images, texts, groups.tolist(), k)
        assert recalls[f"text_to_image@{k}"] == naive(texts, images, groups.tolist(), k)


def test_vectors_that_are_all_the_same_find_nothing():
    same = torch.ones(30, 4)
    recalls = retrieval_recalls(same, same, torch.arange(30))
    assert set(recalls.values()) == {0.0}

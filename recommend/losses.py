"""Losses: each states the formula that it computes."""

import torch
from torch import Tensor
from torch.nn import functional as F


def bpr(positive_scores: Tensor, negative_scores: Tensor) -> Tensor:
    """Bayesian personalised ranking: mean of -log σ(s⁺ - s⁻) (Rendle et al. 2009).

    Args:
        positive_scores: (B,) scores of items that the users took.
        negative_scores: (B,) scores of items that they did not take.
    """
    return F.softplus(negative_scores - positive_scores).mean()


def l2(*embeddings: Tensor) -> Tensor:
    """Σ ‖e‖² / (2B): half the squared norms of the batch's embeddings, averaged over the batch.

    Args:
        *embeddings: (B, d) each: the users', positives' and negatives' own parameters.
    """
    squares = [embedding.square().sum() for embedding in embeddings]
    return sum(squares[1:], squares[0]) / (2 * len(embeddings[0]))


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Row-wise inner products, (B, d) and (B, d) -> (B,)."""
    return (left * right).sum(dim=1)


def info_nce(anchors: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Mean over i of -log(exp(cos(aᵢ, bᵢ)/τ) / Σⱼ exp(cos(aᵢ, bⱼ)/τ)) (van den Oord et al. 2018).

    Args:
        anchors: a, (n, d).
        others: b, (n, d): row i belongs to anchor i, all other rows are its negatives.
        temperature: τ.
    """
    # The small factor is divided, not the (n, n) product.
    logits = (F.normalize(anchors, dim=1) / temperature) @ F.normalize(others, dim=1).T
    return F.cross_entropy(logits, torch.arange(len(anchors), device=anchors.device))

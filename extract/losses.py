"""Losses of encoders: pictures against texts, labels against each other, hidden words.

ITC, the symmetric InfoNCE of CLIP (Radford et al. 2021) and of VLMo (Bao et al. 2022), of n pairs
with vectors of length 1 and the scale ``s = exp(log_scale)``::

    -1/2n sum_i [ln e^(s i_i t_i) / sum_j e^(s i_i t_j) + ln e^(s i_i t_i) / sum_j e^(s i_j t_i)]

Two label-aware losses, in which ``P_i`` are the other vectors with the label of vector i, ``N_i``
those with another one, and ``s_ik = z_i z_k / temperature``. LaCViT (Long et al. 2023)::

    L_i = -1/|P_i| sum_p ln e^s_ip / sum_(k in P_i or N_i) e^s_ik

CLCE (Long et al. 2024), whose negatives weigh the more, the nearer they are; no code of it was
found, so this is a reading of the paper::

    L_i = -1/|P_i| sum_p ln e^s_ip / (e^s_ip + sum_(k in N_i) w_ik e^s_ik)
    w_ik = |N_i| e^s_ik / sum_(l in N_i) e^s_il

ITM and MLM are cross-entropies. `extract.masking` hides the words for the latter.

Everything is computed in the type of the arguments.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

MAX_LOG_SCALE = math.log(100)
UNLABELLED = -1  # of an item
UNMASKED = -100  # of a token


def itc(images: Tensor, texts: Tensor, log_scale: Tensor, groups: Tensor | None = None) -> Tensor:
    """Image-text contrast: each picture against all texts, and each text against all pictures.

    Args:
        images: (n, d), n at least 1; they are normalised here.
        texts: (n, d), those of the same items.
        log_scale: The logarithm of what cosines are multiplied by; see `bounded`.
        groups: (n,) whole numbers. Pairs of one group share a text or a picture; they are not each
            other's negatives. By default no pair does.
    """
    logits = contrast(images, texts, log_scale)
    if groups is not None:
        others = ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
        logits = logits.masked_fill(same(groups) & others, -torch.inf)
    own = torch.arange(len(images), device=images.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def contrast(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    """The cosines of n pictures and m texts times the scale, (n, m)."""
    return bounded(log_scale).exp() * (normalize(images, dim=-1) @ normalize(texts, dim=-1).T)


def bounded(log_scale: Tensor) -> Tensor:
    """A logarithmic scale, at most ln 100.

    The gradient passes as if there were no bound: a scale that has got above it can come down
    again. An optimiser may carry it further up meanwhile; whoever steps it should then set the
    parameter itself to the bound.
    """
    return log_scale - (log_scale - MAX_LOG_SCALE).clamp(min=0).detach()


def same(groups: Tensor) -> Tensor:
    """Which of n items are of one group, or label, (n,) to (n, n)."""
    return groups[:, None] == groups


def label_aware(
    features: Tensor,
    labels: Tensor,
    temperature: float,
    hard_weight: bool = False,
    groups: Tensor | None = None,
) -> Tensor:
    """Supervised contrast by labels: LaCViT's loss, or with weighted negatives CLCE's.

    The mean over the vectors that have a positive; where none has, zero. The weights of negatives
    are part of the formula, so gradients pass through them.

    Args:
        features: (n, d); they are normalised here.
        labels: (n,) whole numbers. A vector with -1 takes no part, not even as a negative: it may
            be of any class.
        temperature: By what cosines are divided.
        hard_weight: Whether the negatives are weighted, as in CLCE.
        groups: (n,) whole numbers. Vectors of one group are not each other's negatives, though
            their labels differ. By default only the labels count.
    """
    normalized = normalize(features, dim=-1)
    similarities = normalized @ normalized.T / temperature
    labelled = labels != UNLABELLED
    alike = same(labels)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positives = alike & labelled[:, None] & ~itself
    negatives = ~alike & labelled[:, None] & labelled
    if groups is not None:
        negatives = negatives & ~same(groups)
    if hard_weight:
        denominators = torch.logaddexp(similarities, _weighted(similarities, negatives))
    else:
        denominators = _log_sum(similarities, positives | negatives)
    counts = positives.sum(dim=1)
    losses = (denominators - similarities).masked_fill(~positives, 0).sum(dim=1)
    return (losses / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def cross_modal_label_aware(
    images: Tensor,
    texts: Tensor,
    labels: Tensor,
    temperature: float,
    hard_weight: bool = False,
    groups: Tensor | None = None,
) -> Tensor:
    """`label_aware` of pictures and texts in one space.

    An item's picture and its text are positives of each other and of all others of their class.

    Args:
        images: (n, d).
        texts: (n, d), those of the same items.
        labels: (n,), those of the items; one with -1 takes no part.
        temperature: As in `label_aware`.
        hard_weight: As in `label_aware`.
        groups: As in `label_aware`, of the items.
    """
    return label_aware(
        torch.cat([images, texts]),
        labels.repeat(2),
        temperature,
        hard_weight,
        None if groups is None else groups.repeat(2),
    )


def _weighted(similarities: Tensor, negatives: Tensor) -> Tensor:
    # ln sum_k w_k e^s_k, (n, 1), which with the weights inserted is
    # ln |N| + ln sum_k e^(2 s_k) - ln sum_k e^s_k.
    counts = negatives.sum(dim=1, keepdim=True).to(similarities.dtype)
    return counts.log() + _log_sum(2 * similarities, negatives) - _log_sum(similarities, negatives)


def _log_sum(values: Tensor, kept: Tensor) -> Tensor:
    # Instead of minus infinity a number: of a row with nothing in it that has no gradient.
    lowest = torch.finfo(values.dtype).min
    return values.masked_fill(~kept, lowest).logsumexp(dim=1, keepdim=True)


@torch.no_grad()
def hard_negatives(
    similarities: Tensor, groups: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """For each picture a wrong text and for each text a wrong picture, the nearer the likelier.

    They are drawn from the softmax over what ITC compares, without the pairs of the same group.

    Args:
        similarities: (n, n) of pictures and texts, as `contrast` gives them.
        groups: (n,) whole numbers; pairs of one group share a text or a picture.
        generator: On the device of `similarities`.

    Returns:
        The rows of the texts for the pictures and of the pictures for the texts, (n,) each; -1
        where every pair is of the same group.
    """
    alike = same(groups)
    impossible = alike.all(dim=1)
    lowest = torch.finfo(similarities.dtype).min

    def draw(logits: Tensor) -> Tensor:
        # Before the softmax, because after it a confident model leaves nothing beside the diagonal.
        chances = logits.masked_fill(alike, lowest).softmax(dim=1)
        return chances.multinomial(1, generator=generator)[:, 0].masked_fill(impossible, -1)

    return draw(similarities), draw(similarities.T)


def itm(logits: Tensor, matched: Tensor) -> Tensor:
    """Image-text matching: the cross-entropy of whether a picture and a text belong together.

    Args:
        logits: (n, 2); the second column speaks for a match.
        matched: (n,), true or 1 where they do.
    """
    return cross_entropy(logits, matched.long())


def mlm(logits: Tensor, labels: Tensor) -> Tensor:
    """Masked language modelling: the mean cross-entropy over the hidden words, zero without any.

    Args:
        logits: (..., V).
        labels: (...), the pieces that were there, -100 at places that do not count.
    """
    total = cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=UNMASKED, reduction="sum"
    )
    return total / (labels != UNMASKED).sum().clamp(min=1)

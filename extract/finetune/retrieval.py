"""How well pictures find their texts and texts their pictures: recall@k over held-out pairs."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

CUTOFFS = (1, 5, 10)
Recalls = Mapping[str, float]
BLOCK = 1024


def retrieval_recalls(images: Tensor, texts: Tensor, groups: Tensor) -> dict[str, float]:
    """Both directions' recall@k among n pairs.

    Args:
        images: Picture vectors, (n, d), of any length.
        texts: Text vectors, (n, d).
        groups: (n,); an item of the same group is a right answer, too.

    Returns:
        ``image_to_text@k`` and ``text_to_image@k`` for each of `CUTOFFS`: the share of the n that
        find a right answer among their k nearest by cosine. Of equal cosines the wrong answer
        comes first, so that vectors that are all the same, or no numbers, find nothing.
    """
    images, texts = normalize(images.double(), dim=-1), normalize(texts.double(), dim=-1)
    image_ranks, text_ranks = _ranks(images, texts, groups), _ranks(texts, images, groups)
    recalls: dict[str, float] = {}
    for name, ranks in (("image_to_text", image_ranks), ("text_to_image", text_ranks)):
        recalls |= {f"{name}@{k}": (ranks < k).double().mean().item() for k in CUTOFFS}
    return recalls


def _ranks(queries: Tensor, answers: Tensor, groups: Tensor) -> Tensor:
    """How many wrong answers are ahead of the best right one, for each of n queries."""
    ranks = []
    for rows, own in zip(queries.split(BLOCK), groups.split(BLOCK), strict=True):
        cosines, right = rows @ answers.T, own[:, None] == groups[None, :]
        best = cosines.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append((~(cosines < best) & ~right).sum(dim=1))
    return torch.cat(ranks)


def mean_recall(recalls: Recalls) -> float:
    """The mean over both directions and all cutoffs, by which the best encoder is chosen."""
    return sum(recalls.values()) / len(recalls)

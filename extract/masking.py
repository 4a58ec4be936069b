"""Whole words hidden for masked language modelling, as in BERT and VLMo.

A word is a piece of the vocabulary with the continuing pieces (``##...``) after it. Of a text's
words 15 % are chosen; of their pieces 80 % become the mask, 10 % a random piece, and 10 % stay.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from extract.losses import UNMASKED

MASKED_SHARE = 0.8
REPLACED_SHARE = 0.1


@dataclass(frozen=True)
class WordPieces:
    """What of a vocabulary of V pieces masking has to know.

    Attributes:
        continues: Whether a piece goes on with the word before it, (V,) bool.
        special: Whether it is a mark and no part of a text, (V,) bool.
        mask_id: The mask.
    """

    continues: Tensor
    special: Tensor
    mask_id: int


def word_pieces(vocabulary: Mapping[str, int], special: Collection[str], mask: str) -> WordPieces:
    """What masking has to know of a WordPiece vocabulary.

    Args:
        vocabulary: Pieces to ids, 0 to V - 1; those that continue a word begin with ``##``.
        special: The marks among the pieces, such as ``[CLS]`` and the mask itself.
        mask: The piece that stands for a hidden one.
    """
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    return WordPieces(
        torch.tensor([piece.startswith("##") for piece in pieces]),
        torch.tensor([piece in special for piece in pieces]),
        vocabulary[mask],
    )


def mask_words(
    ids: Tensor,
    attention_mask: Tensor,
    pieces: WordPieces,
    generator: torch.Generator,
    probability: float = 0.15,
) -> tuple[Tensor, Tensor]:
    """Hide words of texts.

    Of each text's words that share is chosen, rounded, but at least one word, as BERT does it:
    most texts of a catalogue are short, and would otherwise teach nothing.

    Args:
        ids: (n, length).
        attention_mask: (n, length), zero at padding.
        pieces: What is known of the vocabulary, on any device.
        generator: On the device of `ids`.
        probability: The share of a text's words that is chosen.

    Returns:
        The ids with hidden pieces, and the labels: what stood at the chosen places, -100 at all
        others; both (n, length).
    """
    continues, special = pieces.continues.to(ids.device), pieces.special.to(ids.device)
    text = (attention_mask != 0) & ~special[ids]
    chosen = text & _chosen(_words(ids, text, continues), probability, generator)
    fate = torch.rand(ids.shape, generator=generator, device=ids.device)
    known = (~special).nonzero()[:, 0]
    draws = torch.randint(len(known), ids.shape, generator=generator, device=ids.device)
    masked = torch.where(chosen & (fate < MASKED_SHARE), pieces.mask_id, ids)
    replaced = chosen & (fate >= MASKED_SHARE) & (fate < MASKED_SHARE + REPLACED_SHARE)
    return torch.where(replaced, known[draws], masked), ids.masked_fill(~chosen, UNMASKED)


def _words(ids: Tensor, text: Tensor, continues: Tensor) -> Tensor:
    # The number of the word in which a place lies, from 0 in each text. Where the beginning of a
    # word was cut off, its rest counts as one.
    after_text = pad(text[:, :-1], (1, 0))
    begins = text & ~(continues[ids] & after_text)
    return (begins.cumsum(dim=1) - 1).clamp(min=0)


def _chosen(words: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    # Every word draws a number; those with the smallest of their text are chosen.
    counts = words.amax(dim=1, keepdim=True) + 1
    draws = torch.rand(words.shape, generator=generator, device=words.device)
    places = torch.arange(words.shape[1], device=words.device)
    ranks = draws.masked_fill(places >= counts, torch.inf).argsort(dim=1).argsort(dim=1)
    wanted = (counts * probability).round().clamp(min=1)
    return (ranks < wanted).gather(1, words)

"""What is minimised: named terms over a batch of pairs, those of the options."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from extract.encoders.base import Encoder, Tokens
from extract.encoders.projected import FIRST_LOG_SCALE
from extract.errors import UserError
from extract.finetune.material import Chunk
from extract.finetune.options import TuneOptions
from extract.finetune.processes import gather, world
from extract.finetune.step import Terms, Views
from extract.losses import (
    UNMASKED,
    contrast,
    cross_modal_label_aware,
    hard_negatives,
    itc,
    itm,
    mlm,
)
from extract.masking import WordPieces, mask_words


@runtime_checkable
class JointEncoder(Protocol):
    """An encoder that sees a picture and a text together, and was trained to judge them."""

    heads: Collection[str]
    pieces: WordPieces

    def match_logits(self, images: Any, tokens: Tokens) -> Tensor:
        """Whether they belong together, (n, 2); column 1 says yes."""

    def word_logits(self, images: Any, tokens: Tokens, places: Tensor) -> Tensor:
        """Which words the m chosen of (n, length) places hold, (m, vocabulary)."""


class Objective:
    """The loss of a batch, term by term.

    Args:
        encoder: What is trained.
        options: Which terms, and their weights.
        groups: Of all pairs, (n,): duplicates have the same number.
        labels: Of all pairs, (n,), -1 for none; or None.
    """

    def __init__(
        self,
        encoder: Encoder,
        options: TuneOptions,
        groups: Tensor,
        labels: Tensor | None = None,
    ) -> None:
        self.encoder, self.options = encoder, options
        self.groups, self.labels = groups, labels
        self.terms = choose_terms(encoder, options, labels is not None)
        device = next(encoder.parameters()).device
        self.log_scales = encoder.log_scales or (
            nn.Parameter(torch.tensor(FIRST_LOG_SCALE, device=device)),
        )

    def contrast(self, places: Tensor) -> Callable[[Views], Terms]:
        """The terms that need no more than vectors, as a function of all processes' views.

        Args:
            places: Of this process's pairs, (n,).
        """
        everywhere = gather(places)
        groups = self.groups[everywhere]

        def terms(views: Views) -> dict[str, Tensor]:
            pairs = list(zip(views["image"], views["text"], strict=True))
            found = {}
            if "itc" in self.terms:
                each = [
                    itc(*pair, scale, groups)
                    for pair, scale in zip(pairs, self.log_scales, strict=True)
                ]
                found["itc"] = torch.stack(each).mean()
            if "label" in self.terms and self.labels is not None:
                found["label"] = self.options.label_weight * cross_modal_label_aware(
                    *pairs[0],
                    self.labels[everywhere],
                    self.options.label_temperature,
                    self.options.label_negatives == "hard",
                    groups,
                )
            return found

        return terms

    def joint_backward(
        self,
        chunks: Sequence[Chunk],
        views: Views,
        scale: Callable[[Tensor], Tensor],
        autocast: Callable[[], Any],
        draws: Sequence[int],
    ) -> dict[str, Tensor]:
        """Add the gradient of the terms that see a picture and a text together, chunk by chunk.

        Args:
            chunks: This process's pairs.
            views: Theirs, by which hard negatives are drawn.
            scale: Applied to the loss before its gradient is taken.
            autocast: The context of the encoder's arithmetic.
            draws: What hard negatives and hidden words are drawn from.

        Returns:
            The terms, without a graph.
        """
        found: dict[str, Tensor] = {}
        seed = np.random.SeedSequence(draws).generate_state(1)[0]
        generator = torch.Generator(self.groups.device).manual_seed(int(seed))
        if "itm" in self.terms:
            found["itm"] = self._matching(chunks, views, scale, autocast, generator)
        if "mlm" in self.terms:
            found["mlm"] = self._words(chunks, scale, autocast, generator)
        return found

    def _matching(
        self,
        chunks: Sequence[Chunk],
        views: Views,
        scale: Callable[[Tensor], Tensor],
        autocast: Callable[[], Any],
        generator: torch.Generator,
    ) -> Tensor:
        encoder: Any = self.encoder
        images, tokens = all_of(chunks, "image"), all_of(chunks, "text")
        places = torch.cat([torch.from_numpy(chunk.places) for chunk in chunks])
        groups = self.groups[places.to(self.groups.device)]
        with torch.no_grad():
            logits = contrast(views["image"][0], views["text"][0], self.log_scales[0])
            text_of, image_of = hard_negatives(logits, groups, generator)
        own = torch.arange(len(groups), device=groups.device)
        # Rows of pictures, rows of texts, whether they match: the pairs, then each picture with
        # the text that is hardest to tell from its own, then each text so.
        with_text, with_image = text_of >= 0, image_of >= 0
        pictures = torch.cat([own, own[with_text], image_of[with_image]])
        texts = torch.cat([own, text_of[with_text], own[with_image]])
        matched = torch.arange(len(pictures), device=own.device) < len(own)
        total = torch.zeros((), device=own.device)
        for rows in torch.arange(len(pictures), device=own.device).split(len(chunks[0])):
            with autocast():
                found = encoder.match_logits(
                    take(images, pictures[rows]), take(tokens, texts[rows])
                )
            share = len(rows) / len(pictures)
            term = itm(found.float(), matched[rows].long()) * share
            scale(term / world()).backward()
            total += term.detach()
        return total

    def _words(
        self,
        chunks: Sequence[Chunk],
        scale: Callable[[Tensor], Tensor],
        autocast: Callable[[], Any],
        generator: torch.Generator,
    ) -> Tensor:
        encoder: Any = self.encoder
        total = torch.zeros((), device=self.groups.device)
        hidden = [
            mask_words(
                chunk.inputs["text"]["input_ids"],
                chunk.inputs["text"]["attention_mask"],
                encoder.pieces,
                generator,
                self.options.mlm_probability,
            )
            for chunk in chunks
        ]
        counts = [int((labels != UNMASKED).sum()) for _, labels in hidden]
        for chunk, (ids, labels), count in zip(chunks, hidden, counts, strict=True):
            tokens, places = {**chunk.inputs["text"], "input_ids": ids}, labels != UNMASKED
            with autocast():
                logits = encoder.word_logits(chunk.inputs["image"], tokens, places)
            share = self.options.mlm_weight * count / max(sum(counts), 1)
            term = share * mlm(logits.float(), labels[places])
            scale(term / world()).backward()
            total += term.detach()
        return total


def all_of(chunks: Sequence[Chunk], modality: str) -> Any:
    """The collated inputs of all chunks as one batch; texts padded to the longest."""
    parts = [chunk.inputs[modality] for chunk in chunks]
    if not isinstance(parts[0], Mapping):
        return torch.cat(parts)
    longest = max(part["input_ids"].shape[1] for part in parts)
    return {name: torch.cat([_padded(part[name], longest) for part in parts]) for name in parts[0]}


def take(inputs: Any, rows: Tensor) -> Any:
    """Rows of collated inputs."""
    if isinstance(inputs, Mapping):
        return {name: value[rows] for name, value in inputs.items()}
    return inputs[rows]


def _padded(tensor: Tensor, longest: int) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, longest - tensor.shape[1]))


def choose_terms(encoder: Encoder, options: TuneOptions, has_labels: bool) -> tuple[str, ...]:
    """Which terms there are.

    Raises:
        UserError: The encoder, or the data, have not what a term needs.
    """
    # A checkpoint that was tuned for retrieval has lost the other heads.
    heads = encoder.heads if isinstance(encoder, JointEncoder) else ()
    usual = ("itc", *(name for name in ("itm", "mlm") if name in heads))
    terms = options.losses or (*usual, *(("label",) if has_labels else ()))
    lacking = {"itm", "mlm"} & set(terms) - set(heads)
    if lacking:
        why = (
            "has lost that head" if heads else "was not made to judge a picture and a text together"
        )
        raise UserError(
            f"the encoder {encoder.spec} {why}, so it cannot have the loss "
            f"{' and '.join(sorted(lacking))}; use --losses {','.join(usual)}"
        )
    if "label" in terms and not has_labels:
        raise UserError("the loss label needs a column of labels; give --label-column")
    return terms

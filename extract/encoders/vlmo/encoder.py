"""VLMo as an encoder: retrieval vectors of pictures and texts, and one of both together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from extract.encoders.base import Collate, Encoder, Stage, Tokens
from extract.encoders.loading import tokenizer_digest
from extract.encoders.vlmo.blocks import parameters_of
from extract.encoders.vlmo.checkpoint import load_checkpoint
from extract.encoders.vlmo.model import OWN_EXPERT, VLMo
from extract.encoders.vlmo.preparation import (
    MEAN,
    STD,
    SquarePixels,
    TokenIds,
    create_tokenizer,
    describe_pieces,
    find_vocabulary,
)
from extract.errors import UserError
from extract.masking import WordPieces

FORM = "vlmo:FILE[@PIXELS]"


class VlmoEncoder(Encoder):
    """A VLMo: ``image`` and ``text`` by its retrieval heads, ``fused`` pooled of both together.

    Args:
        spec: The spec it was made from.
        model: The model, weights loaded.
        tokenizer: BERT's lower-case one, of transformers.

    Attributes:
        model: The model.
    """

    def __init__(self, spec: str, model: VLMo, tokenizer: Any) -> None:
        sizes = model.sizes
        super().__init__(
            spec,
            {"image": True, "text": True, "fused": False},
            SquarePixels(sizes.image_size),
            TokenIds(tokenizer, sizes.max_text_len, sizes.vocab_size),
            Collate(tokenizer.pad_token_id),
            sizes.image_size,
        )
        self.model = model
        self.dims = dict.fromkeys(("image", "text", "fused"), sizes.embed_dim)
        self.token_dims = dict.fromkeys(("image", "text"), sizes.embed_dim)
        self._pieces = describe_pieces(tokenizer, sizes.vocab_size)
        self._tokenizer_digest = tokenizer_digest(tokenizer)

    @property
    def heads(self) -> frozenset[str]:
        """Which of ``itc_vl``, ``itm`` and ``mlm`` the checkpoint has."""
        return self.model.heads

    @property
    def pieces(self) -> WordPieces:
        """What masked language modelling has to know of the word pieces, on the model's device."""
        device = self.model.logit_scale.device
        own = self._pieces
        return WordPieces(own.continues.to(device), own.special.to(device), own.mask_id)

    @property
    def log_scales(self) -> tuple[nn.Parameter, ...]:
        """One for each of `encode_views`."""
        scales = (self.model.logit_scale,)
        return (*scales, self.model.logit_vl_scale) if "itc_vl" in self.heads else scales

    def encode_image(self, images: Tensor) -> Tensor:
        """Pixels, (n, 3, side, side), to retrieval vectors, (n, dim), of length 1."""
        return self._encode("image", images)

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Ids and mask, (n, longest), to retrieval vectors, (n, dim), of length 1."""
        return self._encode("text", tokens)

    def encode_joint(self, images: Tensor, tokens: Tokens) -> Tensor:
        """Pictures and texts of the same n items to the pooled text [CLS], (n, dim)."""
        return self.model.pooler(self._joint(images, tokens))

    def encode_tokens(self, modality: str, batch: Any) -> tuple[Tensor, Tensor]:
        """The last layer's hidden states after the final norm, [CLS] first, and the mask."""
        hidden, mask = self._embed(modality, batch)
        hidden = self.model.transformer.norm(self.model.run(hidden, modality, mask))
        if mask is None:
            mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return hidden, mask

    def encode_views(self, modality: str, batch: Any) -> tuple[Tensor, ...]:
        """The retrieval vectors, and those by the experts for both where there are such heads."""
        return self.model.views(modality, *self._embed(modality, batch))

    def match_logits(self, images: Tensor, tokens: Tokens) -> Tensor:
        """Whether picture and text belong together: (n, 2), the second column says that they do.

        Raises:
            UserError: The checkpoint lacks the head.
        """
        self._require("itm", "matching (ITM)")
        return self.model.itm_score(self.encode_joint(images, tokens))

    def word_logits(self, images: Tensor, tokens: Tokens, places: Tensor | None = None) -> Tensor:
        """Which word each place of a text holds: (n, max_text_len, word pieces).

        Args:
            images: Collated pictures.
            tokens: Collated texts of the same n items.
            places: (n, longest) bool; only of these, m in all, and then (m, word pieces).

        Raises:
            UserError: The checkpoint lacks the head.
        """
        self._require("mlm", "masked language modelling (MLM)")
        words = self._joint(images, tokens)[:, : self.model.sizes.max_text_len]
        if places is not None:
            words = words[:, : places.shape[1]][places]
        return self.model.mlm_score(words)

    def stages(self, modality: str) -> Sequence[Stage]:
        """The embedding, each layer, and the final norm with the head.

        Between them goes ``hidden``, (n, length, dim), and of texts ``mask``, (n, length).
        """
        model, steps = self.model, self._steps(modality)
        table = model.relative_position_bias_table
        shared = () if table is None else (table,)
        layers = [
            (*parameters_of(block, OWN_EXPERT[modality]), *shared)
            for block in model.transformer.blocks
        ]
        head = model.get_submodule(f"itc_{modality}_proj")
        last = (*model.transformer.norm.parameters(), *head.parameters())
        parameters = [self._embedding_parameters(modality), *layers, last]
        return [Stage(run, tuple(own)) for run, own in zip(steps, parameters, strict=True)]

    def identity(self) -> Mapping[str, Any]:
        """Sizes, preprocessing, tokenizer."""
        return {
            "family": "vlmo",
            "architecture": asdict(self.model.sizes),
            "preprocessing": {"resize": "square, Pillow's bicubic", "mean": MEAN, "std": STD},
            "tokenizer": self._tokenizer_digest,
        }

    def _steps(self, modality: str) -> list[Callable[[Any], Any]]:
        layers = range(self.model.sizes.depth)
        return [
            partial(self._first, modality),
            *(partial(self._layer, modality, layer) for layer in layers),
            lambda state: self.model.project(modality, state["hidden"]),
        ]

    def _encode(self, modality: str, batch: Any) -> Tensor:
        for step in self._steps(modality):
            batch = step(batch)
        return batch

    def _first(self, modality: str, batch: Any) -> dict[str, Tensor]:
        hidden, mask = self._embed(modality, batch)
        return {"hidden": hidden} if mask is None else {"hidden": hidden, "mask": mask}

    def _layer(self, modality: str, layer: int, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        hidden = self.model.block(layer, state["hidden"], modality, state.get("mask"))
        return {**state, "hidden": hidden}

    def _embed(self, modality: str, batch: Any) -> tuple[Tensor, Tensor | None]:
        if modality == "image":
            return self.model.embed_image(batch), None
        return self.model.embed_text(batch["input_ids"]), batch["attention_mask"].bool()

    def _embedding_parameters(self, modality: str) -> list[nn.Parameter]:
        model = self.model
        own = {
            "image": ("transformer.cls_token", "transformer.pos_embed", "transformer.patch_embed."),
            "text": ("text_embeddings.",),
        }[modality]
        return [
            parameter
            for name, parameter in model.named_parameters()
            if name.startswith((*own, "token_type_embeddings."))
        ]

    def _joint(self, images: Tensor, tokens: Tokens) -> Tensor:
        ids, mask = tokens["input_ids"], tokens["attention_mask"].bool()
        missing = max(self.model.sizes.max_text_len - ids.shape[1], 0)
        ids = pad(ids, (0, missing), value=self.collate.pad_id)
        return self.model.joint(images, ids, pad(mask, (0, missing)))

    def _require(self, head: str, purpose: str) -> None:
        if head not in self.heads:
            raise UserError(
                f"{self.spec} has no head for {purpose}, as checkpoints tuned for retrieval; leave "
                "that loss out, or start from a pre-trained checkpoint"
            )


def create_vlmo(name: str) -> VlmoEncoder:
    """The encoder of ``vlmo:FILE[@PIXELS]``.

    Raises:
        UserError: There is no such file, it is no VLMo, or pictures cannot have so many pixels.
    """
    if not name:
        raise UserError(f"a VLMo needs a checkpoint: {FORM}")
    file, pixels = _parse(name)
    model = load_checkpoint(file, pixels)
    tokenizer = create_tokenizer(find_vocabulary(file), model.sizes.vocab_size)
    return VlmoEncoder(f"vlmo:{name}", model, tokenizer).eval()


def _parse(name: str) -> tuple[Path, int | None]:
    whole = Path(name).expanduser()
    file, at, pixels = name.rpartition("@")
    if whole.exists() or not (at and file and pixels.isascii() and pixels.isdigit()):
        return whole, None
    return Path(file).expanduser(), int(pixels[:9])

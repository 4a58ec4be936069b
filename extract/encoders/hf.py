"""Dual encoders of transformers: CLIP, SigLIP, ALIGN, AltCLIP and their kin."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from extract.encoders.base import Collate, Encoder, Tokens, measure_dims
from extract.encoders.loading import (
    library,
    loading,
    looks_like_path,
    require_folder,
    spare_retries,
    tokenizer_digest,
    without_volatile,
)
from extract.encoders.token_vectors import TokenVectors, measure_token_dims, transformers_tokens
from extract.errors import UserError

# Models that were trained on texts padded to their full length, without a mask.
FULL_LENGTH = {"siglip", "siglip2"}
# Models whose text tower could take more tokens than they were trained with.
TRAINED_LENGTH = {"align": 64}


class HFEncoder(Encoder):
    """A dual encoder of transformers with the processor and tokenizer of its folder.

    Args:
        spec: The spec it was made from.
        model: A model with ``get_image_features`` and ``get_text_features``.
        processor: Its image processor.
        tokenizer: Its tokenizer.
    """

    image_parts = ("model.vision", "model.visual", "model.image_")

    def __init__(self, spec: str, model: Any, processor: Any, tokenizer: Any) -> None:
        config = model.config
        texts = TokenIds(
            tokenizer,
            max_length=_text_length(tokenizer, model),
            full_length=config.model_type in FULL_LENGTH,
        )
        super().__init__(
            spec,
            {"image": False, "text": False},
            ProcessedImage(processor),
            texts,
            Collate(tokenizer.pad_token_id or 0, tokenizer.padding_side == "left"),
            _picture_side(processor),
        )
        self.model = model
        self._identity = {
            "family": "hf",
            "architecture": without_volatile(config.to_dict()),
            "preprocessing": processor.to_dict(),
            "tokenizer": tokenizer_digest(tokenizer),
            "max_length": texts.max_length,
        }
        self.dims = measure_dims(self)
        self.token_dims = measure_token_dims(self)

    def encode_image(self, images: Mapping[str, Tensor]) -> Tensor:
        """What the image processor made of n pictures, to (n, dim)."""
        return _vectors(self.model.get_image_features(**images))

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Ids and mask, (n, longest), to (n, dim)."""
        return _vectors(self.model.get_text_features(**tokens))

    def encode_tokens(self, modality: str, batch: Mapping[str, Tensor]) -> TokenVectors:
        """The last hidden states of the picture tower or the text tower."""
        if modality == "image":
            output, mask = self.model.get_image_features(**batch), batch.get("pixel_attention_mask")
        else:
            output, mask = self.model.get_text_features(**batch), batch["attention_mask"]
        return transformers_tokens(output, mask)

    @property
    def log_scales(self) -> tuple[torch.nn.Parameter, ...]:
        """The scale that the model was trained with."""
        scale = getattr(self.model, "logit_scale", None)
        return (scale,) if isinstance(scale, torch.nn.Parameter) else ()

    def identity(self) -> Mapping[str, Any]:
        """Architecture, image processor, tokenizer."""
        return self._identity


@dataclass(frozen=True)
class ProcessedImage:
    """An image processor as a function of one picture."""

    processor: Any

    def __call__(self, picture: Image.Image) -> dict[str, Tensor]:
        """The model's image inputs, without the dimension of the batch."""
        inputs = self.processor(images=picture, return_tensors="pt")
        return {name: value[0] for name, value in inputs.items()}


@dataclass(frozen=True)
class TokenIds:
    """A tokenizer as a function of one text.

    Attributes:
        tokenizer: A tokenizer of transformers.
        max_length: How many tokens the model can take.
        full_length: Whether the text is padded to that length here.
    """

    tokenizer: Any
    max_length: int
    full_length: bool = False

    def __call__(self, text: str) -> list[int]:
        """The ids of a text, cut to `max_length`."""
        padding = "max_length" if self.full_length else False
        encoded = self.tokenizer(text, truncation=True, max_length=self.max_length, padding=padding)
        return list(encoded["input_ids"])


def create_hf(name: str) -> HFEncoder:
    """The encoder of ``hf:ID_OR_FOLDER``.

    Raises:
        UserError: The folder is missing, the hub out of reach, or the model no dual encoder.
    """
    spec = f"hf:{name}"
    if not name:
        raise UserError("hf:ID_OR_FOLDER needs a model, such as hf:openai/clip-vit-base-patch16")
    source, remedy = find_source(spec, name)
    transformers = library("transformers")
    with loading(spec, remedy):
        model, told = transformers.AutoModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
        _check_dual(spec, model, sorted(told["missing_keys"]))
        # Resizing by Pillow, because the other backend gives slightly other pixels and is not
        # everywhere: one folder must give the same vectors on every machine.
        processor = transformers.AutoImageProcessor.from_pretrained(source, backend="pil")
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        return HFEncoder(spec, model.eval(), processor, tokenizer)


def find_source(spec: str, name: str) -> tuple[str, str]:
    """What to load, and what to do when that fails."""
    if looks_like_path(name):
        folder = Path(name).expanduser()
        require_folder(spec, folder, "config.json")
        return str(folder), "it must hold a model, an image processor and a tokenizer"
    spare_retries()
    return name, "check the name, or give the folder of a downloaded model: hf:FOLDER"


def _check_dual(spec: str, model: Any, missing: list[str]) -> None:
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise UserError(
            f"{spec} is a {type(model).__name__}, which does not give both image and text "
            "vectors; a dual encoder such as CLIP or SigLIP is needed"
        )
    if missing:
        raise UserError(
            f"the weights of {spec} lack {len(missing)} tensors of a {type(model).__name__}, such "
            f"as {missing[0]}; download the model again"
        )


def _picture_side(processor: Any) -> int | None:
    # A processor that does not scale, or scales by a rule that is not known, gets every pixel.
    size = processor.to_dict().get("size") if getattr(processor, "do_resize", False) else None
    known = {"shortest_edge", "height", "width"}
    return max(size.values()) if size and known.issuperset(size) else None


def _text_length(tokenizer: Any, model: Any) -> int:
    config = model.config
    text = getattr(config, "text_config", config)
    positions = getattr(text, "max_position_embeddings", 512)
    # In the kin of RoBERTa the positions of a text begin after that of the padding.
    usable = [
        module.num_embeddings - module.padding_idx - 1
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    # A tokenizer that was saved without a length says 1e30.
    trained = TRAINED_LENGTH.get(config.model_type, positions)
    return min(tokenizer.model_max_length, positions, trained, *usable)


def _vectors(output: Any) -> Tensor:
    # Up to transformers 4 a tensor, since then often an output object.
    return output if isinstance(output, Tensor) else output.pooler_output

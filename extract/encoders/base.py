"""The contract that every encoder keeps, and what all of them share."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import default_collate

PrepareImage = Callable[[Image.Image], Any]
PrepareText = Callable[[str], list[int]]
Tokens = Mapping[str, Tensor]
Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Collate:
    """Makes a batch of prepared pictures and texts; picklable, so that workers can do it.

    Attributes:
        pad_id: The token that fills texts up to the longest of the batch.
        pad_left: Whether it goes before the text instead of after it.
    """

    pad_id: int = 0
    pad_left: bool = False

    def __call__(self, prepared: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Modality to a batch; pictures are stacked, texts become ids and mask of (n, longest)."""
        inputs: dict[str, Any] = {}
        if prepared.get("image"):
            inputs["image"] = default_collate(list(prepared["image"]))
        if prepared.get("text"):
            inputs["text"] = self._pad(prepared["text"])
        return inputs

    def _pad(self, texts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        longest = max(map(len, texts))
        ids = torch.full((len(texts), longest), self.pad_id)
        mask = torch.zeros((len(texts), longest), dtype=torch.long)
        for row, tokens in enumerate(texts):
            columns = slice(longest - len(tokens), None) if self.pad_left else slice(len(tokens))
            ids[row, columns] = torch.tensor(tokens, dtype=torch.long)
            mask[row, columns] = 1
        return {"input_ids": ids, "attention_mask": mask}


@dataclass(frozen=True)
class Stage:
    """One step of a tower.

    Attributes:
        run: From what the stage before gave, the first one from collated inputs, to what the next
            one takes: a tensor of n rows, or a mapping of such tensors. Of a mapping, ``mask``,
            (n, length), tells which places are filled; the other tensors of (n, length, ...) go
            with it, and any common number of unfilled places at the end may be cut off.
        parameters: The weights by which it does so.
    """

    run: Callable[[Any], Any]
    parameters: tuple[nn.Parameter, ...]


class Encoder(nn.Module, ABC):
    """Pictures and texts to vectors.

    Attributes:
        spec: By what `create_encoder` made it.
        dims: Modality to vector size: ``image``, ``text``, and ``fused`` where the encoder has a
            tower that sees a picture and a text together.
        token_dims: Modality to the size of one patch's or word's vector, of those modalities for
            which `encode_tokens` has some.
        normalized: Modality to whether its vectors have length 1.
        prepare_image: An RGB picture to what `collate` stacks: a tensor, or a mapping of tensors.
        prepare_text: A text to its token ids, cut to what the encoder can take.
        collate: Prepared pictures and texts of a batch to the inputs of `encode`.
        picture_side: To how many pixels the preparation scales a picture's short side, so that a
            larger one need not be decoded in full; None where every pixel counts.
        dtypes: Modality to the type of the weights that see it.
        adapted: What was added to the encoder after it was made, in values that JSON can hold.
        merged_from: The fingerprint that it had before adapters became part of its weights.

    `prepare_image`, `prepare_text` and `collate` are picklable and run in workers. An encoder comes
    in evaluation mode.
    """

    dims: Mapping[str, int] = MappingProxyType({})
    token_dims: Mapping[str, int] = MappingProxyType({})
    # Whether its pictures and texts lie in one space, so that their cosine means something.
    shares_space: bool = True
    # With what the names of weights begin that belong to the picture side; all others are the
    # text's.
    image_parts: tuple[str, ...] = ()

    def __init__(
        self,
        spec: str,
        normalized: Mapping[str, bool],
        prepare_image: PrepareImage,
        prepare_text: PrepareText,
        collate: Collate,
        picture_side: int | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.normalized = dict(normalized)
        self.prepare_image = prepare_image
        self.prepare_text = prepare_text
        self.collate = collate
        self.picture_side = picture_side
        self.dtypes = dict.fromkeys(normalized, torch.float32)
        self.adapted: Mapping[str, Any] = {}
        self.merged_from = ""

    @abstractmethod
    def encode_image(self, images: Any) -> Tensor:
        """Collated pictures to vectors, (n, dims["image"])."""

    @abstractmethod
    def encode_text(self, tokens: Tokens) -> Tensor:
        """Collated texts, ids and mask of (n, longest), to vectors, (n, dims["text"])."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What beside the weights decides the vectors, in values that JSON can hold.

        That is the architecture, the preprocessing, the tokenizer, the pooling.
        """

    def encode_joint(self, images: Any, tokens: Tokens) -> Tensor:
        """Collated pictures and texts of the same n items to vectors, (n, dims["fused"]).

        Only of an encoder whose `dims` tell of ``fused``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tower that sees both modalities")

    def encode_tokens(self, modality: str, batch: Any) -> tuple[Tensor, Tensor]:
        """The vectors of a picture's patches or a text's words, for fusion by cross-attention.

        Only of the modalities that `token_dims` tells of.

        Args:
            modality: ``image`` or ``text``.
            batch: Collated pictures or texts, n of them.

        Returns:
            Vectors, (n, length, token_dims[modality]), of the last layer, and which of them are
            there, (n, length) bool.
        """
        raise NotImplementedError(f"{type(self).__name__} has no token vectors")

    def encode_views(self, modality: str, batch: Any) -> tuple[Tensor, ...]:
        """The vectors by which pictures are contrasted with texts, one for each of `log_scales`.

        They need not have length 1. Of most encoders it is the modality's one vector.
        """
        return (self.encode({modality: batch})[modality],)

    @property
    def log_scales(self) -> tuple[nn.Parameter, ...]:
        """The logarithms of what cosines are multiplied by in contrastive training, one a view.

        Empty where the encoder was never trained so.
        """
        return ()

    def stages(self, modality: str) -> Sequence[Stage]:
        """The tower of a modality in steps; done one after the other they are its ``encode_...``.

        What leading steps give can be kept where their weights are not trained. A tower that does
        not tell its steps is a single one.
        """
        towers = {"image": self.encode_image, "text": self.encode_text}
        sides: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.named_parameters():
            sides[name.startswith(self.image_parts)].append(parameter)
        # Where the names do not tell the sides apart every weight may be of either.
        own = sides[modality == "image"] if all(sides.values()) else list(self.parameters())
        return (Stage(towers[modality], tuple(own)),)

    def encode(self, inputs: Inputs) -> dict[str, Tensor]:
        """The vectors of a batch, differentiable.

        Args:
            inputs: What `collate` gave: image, text, or both, then of the same items.

        Returns:
            The same modalities to (n, dim) vectors, as the encoder gives them: see `normalized`;
            and ``fused``, where both are given and the encoder has it.
        """
        towers = {"image": self.encode_image, "text": self.encode_text}
        vectors = {modality: towers[modality](batch) for modality, batch in inputs.items()}
        if "fused" in self.dims and len(inputs) == 2:
            vectors["fused"] = self.encode_joint(inputs["image"], inputs["text"])
        return vectors

    def fingerprint(self) -> str:
        """A digest of all that decides the vectors: the weights, `identity`, and what was added.

        It does not depend on where the weights were found, on the device, or on the process.
        """
        if self.merged_from:
            return self.merged_from
        identity = {**self.identity(), **({"adapted": self.adapted} if self.adapted else {})}
        hasher = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode())
        for name, tensor in self.state_dict().items():
            hasher.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            # NumPy knows no bfloat16, and every type can be seen as bytes.
            values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            hasher.update(values.numpy().data)
        return hasher.hexdigest()[:32]


def measure_dims(encoder: Encoder) -> dict[str, int]:
    """The vector sizes of an encoder, found by encoding a blank picture and a word.

    The libraries name sizes in many ways, not all of them right for all of their models.
    """
    blank = encoder.prepare_image(Image.new("RGB", (64, 64), "grey"))
    inputs = encoder.collate({"image": [blank], "text": [encoder.prepare_text("word")]})
    with torch.no_grad():
        return {name: vectors.shape[-1] for name, vectors in encoder.encode(inputs).items()}


def to_device(inputs: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """Collated inputs, however nested, on a device, those that are no whole numbers in a type."""
    if isinstance(inputs, Mapping):
        return {name: to_device(value, device, dtype) for name, value in inputs.items()}
    moved = inputs.to(device, non_blocking=True)
    return moved.to(dtype) if moved.is_floating_point() else moved

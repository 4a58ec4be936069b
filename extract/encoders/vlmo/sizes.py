"""Sizes of a VLMo: the published ones, and what the shapes of a checkpoint tell.

Base and large are those of Bao et al. 2022; base_plus is deeper and thinner than base.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from extract.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]

TABLE = "relative_position_bias_table"
POSITIONS = "transformer.pos_embed"
PATCHES = "transformer.patch_embed.proj.weight"
WORDS = "text_embeddings.word_embeddings.weight"
BLOCK = "transformer.blocks."
# The number of entries of the bias table that belong to neither two patches nor two words: three
# of the picture's [CLS], and one each for text to picture and picture to text.
SHARED_BIASES = 5


@dataclass(frozen=True)
class Sizes:
    """The sizes of a VLMo, under the names of the published configurations.

    Attributes:
        depth: Layers.
        embed_dim: The size of a hidden state.
        num_heads: Attention heads of a layer.
        mlp_hidden_dim: The inner size of an expert.
        vlffn_start_layer_index: The first layer with an expert for both modalities together.
        use_relative_position_bias: Whether attention is biased by relative positions.
        use_abs_pos_emb: Whether patches get position embeddings.
        text_position_embedding_type: ``absolute`` where words get position embeddings, else
            ``rel_pos``.
        layer_scale: Whether branches are scaled by learned factors.
        image_size: A picture's side in pixels.
        patch_size: A patch's side in pixels.
        vocab_size: Word pieces.
        max_text_len: How many pieces of a text stand before the picture in a joint sequence.
        max_text_len_of_initckpt: How long a text the relative positions allow for.
    """

    depth: int
    embed_dim: int
    num_heads: int
    mlp_hidden_dim: int
    vlffn_start_layer_index: int
    use_relative_position_bias: bool
    use_abs_pos_emb: bool
    text_position_embedding_type: str
    layer_scale: bool
    image_size: int = 224
    patch_size: int = 16
    vocab_size: int = 30522
    max_text_len: int = 40
    max_text_len_of_initckpt: int = 196

    @property
    def window(self) -> int:
        """Patches along a picture's side."""
        return self.image_size // self.patch_size

    @property
    def bias_rows(self) -> int:
        """Rows of the table of relative positions."""
        return (2 * self.window - 1) ** 2 + SHARED_BIASES + 2 * self.max_text_len_of_initckpt

    @property
    def text_positions(self) -> bool:
        """Whether words get position embeddings."""
        return self.text_position_embedding_type == "absolute"


KNOWN = {
    "base": Sizes(12, 768, 12, 3072, 10, True, False, "rel_pos", True),
    "base_plus": Sizes(24, 544, 16, 2176, 21, False, True, "absolute", False),
    "large": Sizes(24, 1024, 16, 4096, 21, True, False, "rel_pos", True),
}
# What differs between checkpoints of one published size.
_OF_THE_FILE = ("image_size", "patch_size", "vocab_size")


def infer_sizes(shapes: Shapes, told: Mapping[str, Any], file: str) -> Sizes:
    """The sizes of a checkpoint.

    What is told comes first, then what is known of a published size, then what the shapes say. So
    a weight that is missing does not change the architecture of a size that is known.

    Args:
        shapes: State-dict keys to shapes.
        told: Fields of `Sizes`, of a file beside the checkpoint.
        file: The checkpoint's name, for errors.

    Raises:
        UserError: The weights are no VLMo's, the number of heads cannot be known, or the sizes
            contradict each other.
    """
    found = _of_shapes(shapes, told, file)
    depth, dim = (told.get(name, found[name]) for name in ("depth", "embed_dim"))
    for known in KNOWN.values():
        if (known.depth, known.embed_dim) == (depth, dim):
            found |= {k: v for k, v in asdict(known).items() if k not in _OF_THE_FILE}
    found |= told
    if "num_heads" not in found:
        listed = ", ".join(f"{name} {s.depth} x {s.embed_dim}" for name, s in KNOWN.items())
        raise UserError(
            f"the checkpoint {file} has {depth} layers of {dim} dimensions, which is no published "
            f'size ({listed}); write its number of attention heads as {{"num_heads": N}} to a '
            "file beside it, of the same name with the suffix .json"
        )
    return _checked(Sizes(**found), file)


def read_fields(config: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The fields of `Sizes` in a configuration; others are left out.

    Raises:
        UserError: One is of another type.
    """
    told = {}
    for field in fields(Sizes):
        if field.name not in config:
            continue
        value = config[field.name]
        if type(value) is not field.type:
            expected = getattr(field.type, "__name__", field.type)
            raise UserError(f"{file} gives {field.name} as {value!r}; expected {expected}")
        told[field.name] = value
    return told


def _of_shapes(shapes: Shapes, told: Mapping[str, Any], file: str) -> dict[str, Any]:
    dim, _, patch, _ = _shape(shapes, PATCHES, 4, file)
    numbers = {int(key.split(".")[2]) for key in shapes if _is_block(key)}
    joint = {int(key.split(".")[2]) for key in shapes if _is_block(key) and ".mlp_vl." in key}
    depth = max(numbers, default=-1) + 1
    absolute = POSITIONS in shapes
    found = {
        "depth": depth,
        "embed_dim": dim,
        "mlp_hidden_dim": _shape(shapes, f"{BLOCK}0.mlp_imag.fc1.weight", 2, file)[0],
        "vlffn_start_layer_index": min(joint, default=depth),
        "use_relative_position_bias": TABLE in shapes,
        "use_abs_pos_emb": absolute,
        "text_position_embedding_type": "absolute" if absolute else "rel_pos",
        "layer_scale": f"{BLOCK}0.gamma_1" in shapes,
        "patch_size": patch,
        "vocab_size": _shape(shapes, WORDS, 2, file)[0],
    }
    if TABLE in shapes:
        rows, columns = _shape(shapes, TABLE, 2, file)
        if columns % depth == 0:  # one for each head of each layer
            found["num_heads"] = columns // depth
        reach = told.get("max_text_len_of_initckpt", Sizes.max_text_len_of_initckpt)
        offsets = math.isqrt(max(rows - SHARED_BIASES - 2 * reach, 0))
        found["image_size"] = (offsets + 1) // 2 * patch
    elif absolute:
        found["image_size"] = math.isqrt(max(_shape(shapes, POSITIONS, 3, file)[1] - 1, 0)) * patch
    return found


def _is_block(key: str) -> bool:
    return key.startswith(BLOCK) and key.split(".")[2].isdecimal()


def _shape(shapes: Shapes, key: str, dimensions: int, file: str) -> tuple[int, ...]:
    if key not in shapes:
        raise UserError(
            f"the checkpoint {file} is no VLMo: of its {len(shapes)} weights none is {key}; "
            "give a file as the authors publish it"
        )
    if len(shapes[key]) != dimensions:
        raise UserError(
            f"the checkpoint {file} is no VLMo: {key} has the shape {shapes[key]}; expected one of "
            f"{dimensions} dimensions"
        )
    return shapes[key]


def _checked(sizes: Sizes, file: str) -> Sizes:
    wrong = [
        f"{name} {value}"
        for name, value in asdict(sizes).items()
        if type(value) is int and value < (0 if name == "vlffn_start_layer_index" else 1)
    ]
    if wrong:
        raise UserError(f"the checkpoint {file} has {', '.join(wrong)}; expected at least 1")
    for whole, part in (("embed_dim", "num_heads"), ("image_size", "patch_size")):
        if getattr(sizes, whole) % getattr(sizes, part):
            raise UserError(
                f"the checkpoint {file} has {whole} {getattr(sizes, whole)}, which is no multiple "
                f"of its {part} {getattr(sizes, part)}; correct the .json file beside it"
            )
    return sizes

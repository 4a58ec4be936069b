"""A VLMo small enough to run and train in a test: a checkpoint as published, random weights."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from extract.encoders.vlmo.encoder import VlmoEncoder
from extract.encoders.vlmo.heads import HEADS
from extract.encoders.vlmo.model import VLMo
from extract.encoders.vlmo.preparation import create_tokenizer, find_vocabulary
from extract.encoders.vlmo.sizes import Sizes

TEXTS = ["a red shoe", "blue embroidered dungarees with two pockets", "x"]
SIZES = {
    "depth": 4,
    "embed_dim": 32,
    "num_heads": 4,
    "mlp_hidden_dim": 64,
    "vlffn_start_layer_index": 2,
    "image_size": 32,
}
RELATIVE = {
    "use_relative_position_bias": True,
    "use_abs_pos_emb": False,
    "text_position_embedding_type": "rel_pos",
    "layer_scale": True,
}
ABSOLUTE = {
    "use_relative_position_bias": False,
    "use_abs_pos_emb": True,
    "text_position_embedding_type": "absolute",
    "layer_scale": False,
}


def tiny_sizes(relative=True, **others):
    """Those of a small base, or of a small base_plus."""
    return Sizes(**SIZES | (RELATIVE if relative else ABSOLUTE) | others)


def random_weights(sizes, heads=HEADS, seed=0):
    """A state dict: activations of about the size of 1, and no constant that is plain 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, tensor in VLMo(sizes, heads).state_dict().items():
        drawn = torch.randn(tensor.shape, generator=generator)
        if name.startswith("logit"):
            weights[name] = tensor.clone()
        elif "norm" in name.lower() and name.endswith("weight"):
            weights[name] = 1 + 0.1 * drawn
        elif "gamma" in name:
            weights[name] = 0.7 + 0.1 * drawn
        elif name.endswith("bias"):
            weights[name] = 0.1 * drawn
        elif "embeddings" in name or tensor.dim() < 2 or tensor.shape[0] == 1:
            weights[name] = 0.5 * drawn  # tables, [CLS], positions
        elif "bias_table" in name:
            weights[name] = drawn
        else:
            weights[name] = 1.4 * drawn / math.sqrt(tensor[0].numel())
    return weights


def tiny_vlmo(relative=True, heads=HEADS, seed=0, **sizes):
    """The encoder without a file."""
    chosen = tiny_sizes(relative, **sizes)
    model = VLMo(chosen, heads)
    model.load_state_dict(random_weights(chosen, heads, seed))
    tokenizer = create_tokenizer(find_vocabulary(Path("none")), chosen.vocab_size)
    return VlmoEncoder("vlmo:tiny", model, tokenizer).eval()


def contained(weights, container):
    """A state dict in one of the published containers; ``bare`` is none."""
    if container == "module":
        return {"module": {f"module.{name}": weight for name, weight in weights.items()}}
    return weights if container == "bare" else {"epoch": 1, container: weights}


def write_tiny_vlmo(
    folder, relative=True, container="state_dict", heads=HEADS, seed=0, name="tiny.pt", **sizes
):
    """The checkpoint and the JSON file of its sizes beside it; returns the checkpoint's path.

    It is read by ``create_encoder(f"vlmo:{path}")`` and takes pictures of 32 pixels.
    """
    chosen = tiny_sizes(relative, **sizes)
    file = folder / name
    torch.save(contained(random_weights(chosen, heads, seed), container), file)
    file.with_suffix(".json").write_text(json.dumps(asdict(chosen)))
    return file


def inputs_of(encoder, texts=TEXTS):
    """Pictures and texts, collated; the texts far from the full length."""
    blocks = np.random.default_rng(5).integers(0, 256, (len(texts), 8, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(block).resize((40, 32)) for block in blocks]
    return encoder.collate(
        {
            "image": [encoder.prepare_image(picture) for picture in pictures],
            "text": [encoder.prepare_text(text) for text in texts],
        }
    )


def padded(tokens, length=40):
    """Texts filled up to a length."""
    missing = length - tokens["input_ids"].shape[1]
    return {name: torch.nn.functional.pad(value, (0, missing)) for name, value in tokens.items()}

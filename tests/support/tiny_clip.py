"""A CLIP of open_clip small enough to train in a test, and pictures with texts to train it on."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from extract.torchvision_shim import ensure_torchvision

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 170, 60),
    "blue": (40, 60, 220),
    "yellow": (230, 210, 40),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "pink": (240, 130, 190),
}
NAMES = list(COLOURS)


def write_tiny_clip(folder, width=32, layers=2, seed=0):
    """A folder of open_clip with random weights, for pictures of 32 pixels; gives its spec."""
    ensure_torchvision()
    import open_clip
    from safetensors.torch import save_file

    tower = {"width": width, "layers": layers}
    config = {
        "embed_dim": 16,
        "vision_cfg": {**tower, "image_size": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {**tower, "context_length": 16, "vocab_size": 49408, "heads": 2},
    }
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    told = {"model_cfg": config, "preprocess_cfg": {**pixels, "resize_mode": "shortest"}}
    (folder / "open_clip_config.json").write_text(json.dumps(told))
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"clip:{folder}"


def paint(top, bottom):
    """32 x 32 pixels, half of one colour and half of another, with a little noise."""
    pixels = np.empty((32, 32, 3))
    pixels[:16], pixels[16:] = COLOURS[top], COLOURS[bottom]
    noise = np.random.default_rng([NAMES.index(top), NAMES.index(bottom)]).normal(0, 4, (32, 32, 3))
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def two_colours(number):
    """The colours of an item; of the first 49 no two have the same two."""
    return NAMES[number % 7], NAMES[(number // 7 + number) % 7]


def text_of(number):
    """What is said of an item."""
    top, bottom = two_colours(number)
    return f"a {top} shirt over {bottom} trousers"


def write_gallery(root, n=42, name="shop"):
    """A data set of n items, whose pictures show what their texts say; gives its folder.

    Its further columns: ``top``, a colour; ``product``, of three items each; ``empty``.
    """
    folder = root / "data" / name
    (folder / "images").mkdir(parents=True)
    for number in range(n):
        paint(*two_colours(number)).save(folder / "images" / f"{number}.png")
    columns = {
        "item_id": [f"i{number}" for number in range(n)],
        "text": [text_of(number) for number in range(n)],
        "image": [f"{number}.png" for number in range(n)],
        "top": [two_colours(number)[0] for number in range(n)],
        "product": [f"p{number // 3}" for number in range(n)],
    }
    pq.write_table(pa.table(columns), folder / "items.parquet")
    (folder / "dataset.json").write_text("{}")
    return folder

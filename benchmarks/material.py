"""What is encoded to measure encoders, and by which of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as csv
import torch
from PIL import Image

from extract.catalog import Catalog
from extract.encoders import create_encoder
from extract.encoders.base import Encoder
from extract.encoders.clip import ClipEncoder
from extract.encoders.loading import library

DEFAULT_DATA = Path(__file__).parents[1].parent / "shared" / "data"
TOKENS = 32  # of a random text


def pictures(data: Path, scratch: Path, count: int) -> tuple[Catalog, str]:
    """A catalogue of pictures only, and what they are.

    Args:
        data: Where the real posters are, which are no part of the project.
        scratch: Where to draw others, if they are not there.
        count: How many at most.
    """
    folder = data / "ml100k" / "posters_imdb"
    if folder.is_dir():
        names = sorted(path.name for path in folder.glob("*.jpg"))[:count]
        told = f"{len(names)} real posters of about 168 x 251"
    else:
        folder, names = scratch, [f"{number}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            _draw(number).save(folder / name, quality=90)
        told = f"{len(names)} generated pictures of 168 x 251"
    nothing = [None] * len(names)
    return Catalog.from_columns(names, nothing, names, folder), told


def texts(data: Path, count: int) -> tuple[Catalog, str]:
    """A catalogue of texts only, and what they are; generated where the real ones are absent."""
    file = data / "ml100k" / "items.tsv"
    if file.is_file():
        table = csv.read_csv(file, parse_options=csv.ParseOptions(delimiter="\t", quote_char=False))
        found = [text for text in table["overview"].to_pylist() if text and text.strip()][:count]
        told = f"{len(found)} real overviews"
    else:
        generator = np.random.default_rng(0)
        lengths = generator.lognormal(3.9, 0.6, count).astype(int) + 1
        found = [" ".join(["word"] * length) for length in lengths]
        told = f"{len(found)} generated texts"
    ids = [str(number) for number in range(len(found))]
    return Catalog.from_columns(ids, found, [None] * len(ids), Path()), told


def random_inputs(
    encoder: Encoder, count: int, tokens: int, device: torch.device
) -> dict[str, Any]:
    """Collated noise for pictures and texts of a length: what they hold decides no speed."""
    side = encoder.picture_side or 224
    ids = torch.randint(1, 30_000, (count, tokens), device=device)
    ids[:, -1] = 30_000  # CLIP takes a text to end at its highest id
    return {
        "image": torch.randn(count, 3, side, side, device=device),
        "text": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
    }


def open_clip_encoder(name: str) -> Encoder:
    """An architecture of open_clip with random weights: speed does not depend on them."""
    open_clip = library("open_clip", "open_clip_torch")
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None).eval()
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    architecture = open_clip.get_model_config(name)
    tokenizer = open_clip.get_tokenizer(name)
    return ClipEncoder(f"clip:{name}/random", model, transform, tokenizer, architecture).eval()


ENCODERS: Mapping[str, Callable[[], Encoder]] = {
    "offline": lambda: create_encoder("offline"),
    "vit-b-32": lambda: open_clip_encoder("ViT-B-32"),
    "vit-b-16": lambda: open_clip_encoder("ViT-B-16"),
}


def _draw(number: int) -> Image.Image:
    generator = np.random.default_rng(number)
    coarse = generator.integers(0, 256, (12, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((168, 251), Image.Resampling.BICUBIC)

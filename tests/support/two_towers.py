"""A small encoder in double precision with dropout, items for it, and its plain graph.

The plain graph knows nothing of passes, leaves or kept states: items are prepared one by one, go
through the towers chunk by chunk with all of the graph held, and their vectors are put into the
tables row by row.
"""

import numpy as np
import torch
from PIL import Image
from torch import nn

from extract.catalog import Catalog
from extract.encoders.base import Collate, Encoder, Stage
from extract.finetune.inputs import read_inputs
from extract.finetune.two_pass import TwoPass
from recommend.features import FeatureStore
from recommend.interactions import Interactions

CPU = torch.device("cpu")
ITEMS, USERS = 14, 9
NO_PICTURE, NO_TEXT = {2, 9, 11}, {4, 11}
BOTH = ("image", "text")


class TwoTowers(Encoder):
    """Pictures of 2 x 2 pixels and the letters of texts, each through a frozen-able first step.

    Args:
        dropout: Of the second steps, and of the joint tower; that of a text is drawn for each
            letter, so that it depends on the padding.
        text_dim: The size of a text's vector; that of a picture's is 5.
        scale: Whether it has a scale of its own for contrasts.
    """

    image_parts = ("image_",)

    def __init__(self, dropout=0.0, text_dim=4, scale=True):
        normalized = {"image": False, "text": False, "fused": False}
        super().__init__("two-towers", normalized, pixels_of, letters_of, Collate())
        self.dims = {"image": 5, "text": text_dim, "fused": 6}
        torch.manual_seed(7)
        self.image_low = nn.Sequential(nn.Linear(12, 8), nn.GELU())
        self.image_top = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(8, 7), nn.GELU(), nn.Dropout(dropout), nn.Linear(7, 5)
        )
        self.text_low = nn.Embedding(128, 8)
        self.text_top = nn.Sequential(nn.Dropout(dropout), nn.Linear(8, text_dim), nn.Tanh())
        self.joint = nn.Sequential(nn.Dropout(dropout), nn.Linear(16, 6), nn.Tanh())
        self.log_scale = nn.Parameter(torch.tensor(1.5)) if scale else None
        self.double()
        self.dtypes = dict.fromkeys(normalized, torch.float64)

    def encode_image(self, images):
        return self.image_top(self.image_low(images))

    def encode_text(self, tokens):
        return self._texts(self._letters(tokens))

    def encode_joint(self, images, tokens):
        state = self._letters(tokens)
        return self.joint(torch.cat([self.image_low(images), mean(state["x"], state["mask"])], 1))

    def stages(self, modality):
        if modality == "image":
            steps = (self.image_low, self.image_low), (self.image_top, self.image_top)
        else:
            steps = (self._letters, self.text_low), (self._texts, self.text_top)
        return tuple(Stage(run, tuple(module.parameters())) for run, module in steps)

    @property
    def log_scales(self):
        return () if self.log_scale is None else (self.log_scale,)

    def identity(self):
        return {"family": "two towers"}

    def _letters(self, tokens):
        return {"x": self.text_low(tokens["input_ids"]), "mask": tokens["attention_mask"]}

    def _texts(self, state):
        return mean(self.text_top(state["x"]), state["mask"])


def pixels_of(picture):
    return torch.from_numpy(np.asarray(picture, np.float64).reshape(-1) / 255 - 0.5)


def letters_of(text):
    return [ord(letter) for letter in text]


def mean(vectors, mask):
    """Over the filled places."""
    return (vectors * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def write_items(folder, size=2):
    """Noise for pictures and letters for texts, of many lengths; gives the catalogue."""
    generator = np.random.default_rng(4)
    folder.mkdir(parents=True, exist_ok=True)
    texts, pictures = [], []
    for row in range(ITEMS):
        pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
        letters = generator.integers(97, 123, 1 + row * 5 % 11)
        texts.append(None if row in NO_TEXT else "".join(map(chr, letters)))
        pictures.append(None if row in NO_PICTURE else f"{row}.png")
    return Catalog.from_columns([f"i{row}" for row in range(ITEMS)], texts, pictures, folder)


def item_rows():
    """The catalogue's row of each item: the two have different orders."""
    return np.random.default_rng(5).permutation(ITEMS)


def interactions():
    """Each user takes six items of 14."""
    generator = np.random.default_rng(6)
    items = np.concatenate([generator.permutation(ITEMS)[:6] for _ in range(USERS)])
    return Interactions(np.repeat(np.arange(USERS), 6), items, USERS, ITEMS)


def two_pass(encoder, catalog, chunk, modalities=BOTH, keep="states"):
    """What encodes the items; of a joint tower no step may be done before."""
    keep = "inputs" if "fused" in modalities else keep
    return TwoPass(read_inputs(encoder, catalog, CPU, 0, keep), modalities, chunk)


def store_of(encoder, catalog, rows, modalities=BOTH):
    """The features of all items at the start, in the order of the items."""
    tables = {}
    for name in modalities:
        with torch.no_grad():
            vectors = {row: plain_vectors(encoder, catalog, name, [row])[0] for row in having(name)}
        absent = torch.zeros(encoder.dims[name])
        tables[name] = torch.stack([vectors.get(row, absent).float() for row in rows]).numpy()
    return FeatureStore.from_arrays(tables)


def having(modality):
    """The rows of the catalogue that have a modality."""
    lacking = {"image": NO_PICTURE, "text": NO_TEXT, "fused": NO_PICTURE | NO_TEXT}[modality]
    return [row for row in range(ITEMS) if row not in lacking]


def plain_vectors(encoder, catalog, modality, rows):
    """Some rows of the catalogue, prepared one by one, encoded in one graph."""
    prepared = {
        "image": lambda: [encoder.prepare_image(catalog.picture(row)) for row in rows],
        "text": lambda: [encoder.prepare_text(catalog.text(row)) for row in rows],
    }
    wanted = BOTH if modality == "fused" else (modality,)
    inputs = encoder.collate({name: prepared[name]() for name in wanted})
    if "image" in inputs:
        inputs["image"] = inputs["image"].to(encoder.dtypes["image"])
    if modality == "image":
        return encoder.encode_image(inputs["image"])
    if modality == "text":
        return encoder.encode_text(inputs["text"])
    return encoder.encode_joint(inputs["image"], inputs["text"])


def plain_rows(encoder, catalog, modality, rows, chunk):
    """Row of the catalogue to its vector, of those that have the modality.

    Chunks are of neighbours by the length of their texts in tokens, the longest first.
    """
    usable = set(having(modality))
    lengths = [len(encoder.prepare_text(catalog.text(row) or "")) for row in range(len(catalog))]
    lengths = [0 if row in NO_TEXT else length for row, length in enumerate(lengths)]
    order = sorted((row for row in rows if row in usable), key=lambda row: -lengths[row])
    size = chunk or max(len(order), 1)
    found = {}
    for at in range(0, len(order), size):
        some = order[at : at + size]
        found |= zip(some, plain_vectors(encoder, catalog, modality, some), strict=True)
    return found


def plain_tables(encoder, catalog, stale, rows, items, chunk, trained=None):
    """Whole tables, of which the rows of some items lead to the encoder's weights.

    Args:
        encoder: In the mode of training.
        catalog: The items.
        stale: Modality to the table before.
        rows: The catalogue's row of each item.
        items: The batch's.
        chunk: Items at once.
        trained: The modalities that are encoded; by default all.
    """
    tables = {}
    for modality, table in stale.items():
        wanted = [int(rows[item]) for item in items] if not trained or modality in trained else []
        fresh = plain_rows(encoder, catalog, modality, wanted, chunk)
        picked = [fresh.get(int(row), old) for row, old in zip(rows, table.double(), strict=True)]
        tables[modality] = torch.stack(picked)
    return tables


def gradients(module):
    """Name to a copy of the gradient, None where there is none."""
    return {
        name: None if weight.grad is None else weight.grad.clone()
        for name, weight in module.named_parameters()
    }


def assert_same_gradients(found, expected, tolerance=1e-9):
    """Relative to each weight's largest entry; and the same weights have none."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
            continue
        assert found[name] is not None, name
        largest = gradient.abs().max()
        assert (found[name] - gradient).abs().max() <= tolerance * largest, name

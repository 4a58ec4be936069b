"""A data set where content decides, and where random weights do not show what content decides.

Items belong to groups, and each user likes the items of two. An item's picture carries its group's
code, a faint pattern of single pixels all over the picture, beneath strong colours and noise of its
own. All 3,072 numbers of a picture together tell the code; a random projection to 16 numbers keeps
as much of the noise as of the code, so that little is left to tell the groups apart.

Items that validation and test hold have no training interaction: only their pictures can find them.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from extract.manifest import items_digest
from extract.shards import EmbeddingBatch, ShardWriter

GROUPS, ITEMS, USERS = 30, 600, 300
TAKEN = 12  # by each user for training
SIDE, BLOCKS = 32, 4  # of a picture in pixels and in patches of one colour
# Standard deviations on the scale of 0 to 255.
CODE, NOISE, COLOUR = 25, 30, 50


def write_hidden_code(root, seed=0):
    """The data set ``codes``, with the true codes as its features ``code``; gives its folder."""
    generator = np.random.default_rng(seed)
    folder = root / "data" / "codes"
    (folder / "images").mkdir(parents=True)
    groups = np.arange(ITEMS) % GROUPS
    for number, picture in enumerate(pictures(groups, generator)):
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
    ids = [f"i{number}" for number in range(ITEMS)]
    files = [f"{number}.png" for number in range(ITEMS)]
    items = {"item_id": ids, "text": [""] * ITEMS, "image": files}
    pq.write_table(pa.table(items), folder / "items.parquet")
    users, taken, parts = zip(*interactions(groups, generator), strict=True)
    log = {"user_id": users, "item_id": [ids[item] for item in taken], "split": parts}
    pq.write_table(
        pa.table({name: list(column) for name, column in log.items()}),
        folder / "interactions.parquet",
    )
    (folder / "dataset.json").write_text("{}")
    _write_codes(folder, items, np.eye(GROUPS)[groups])
    return folder


def pictures(groups, generator):
    """(n, 32, 32, 3) uint8: each group's code beneath colours and noise."""
    codes = CODE * generator.choice([-1, 1], (GROUPS, SIDE, SIDE, 3))
    colours = COLOUR * generator.standard_normal((len(groups), BLOCKS, BLOCKS, 3))
    size = SIDE // BLOCKS
    nuisance = colours.repeat(size, axis=1).repeat(size, axis=2)
    nuisance += NOISE * generator.standard_normal(nuisance.shape)
    return (128 + nuisance + codes[groups]).clip(0, 255).astype(np.uint8)


def interactions(groups, generator):
    """(user, item, part): of a group's twenty items two are for validation and two for test."""
    place = np.arange(len(groups)) // GROUPS  # of an item in its group
    parts = {"validation": place < 2, "test": (place >= 2) & (place < 4), "train": place >= 4}
    for user in range(USERS):
        liked = np.isin(groups, generator.choice(GROUPS, 2, replace=False))
        for part, belongs in parts.items():
            items = generator.permutation(np.flatnonzero(liked & belongs))[:TAKEN]
            yield from ((f"u{user}", item, part) for item in items)


def _write_codes(folder, items, codes):
    """The true codes, as features of pictures."""
    writer = ShardWriter(folder / "features" / "code", {"image": GROUPS})
    present = {"image": np.ones(len(codes), bool)}
    ids = items["item_id"]
    writer.write(EmbeddingBatch(ids, ["c"] * len(ids), {"image": codes}, present))
    writer.finish(
        encoder={"spec": "truth", "fingerprint": "truth"},
        normalized={"image": True},
        fusion=None,
        items_digest=items_digest(ids, items["text"], items["image"]),
        seconds=0.0,
    )

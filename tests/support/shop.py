"""A data set small enough to train on in a second, written without the preparing commands."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from extract.manifest import items_digest
from extract.shards import EmbeddingBatch, ShardWriter

N_USERS, N_ITEMS = 30, 40


def interaction_rows(seed=0):
    """Even users like even items; a tenth of the pairs are held out for each part."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(N_USERS):
        liked = [item for item in range(N_ITEMS) if (user + item) % 2 == 0]
        chosen = generator.permutation(liked)[:10]
        splits = ["train"] * 8 + ["validation", "test"]
        rows += [(f"u{user}", f"i{item}", part) for item, part in zip(chosen, splits, strict=True)]
    return rows


def write_shop(root, name="shop", rows=None, items=None):
    """items.parquet and interactions.parquet of data set `name`; returns its folder."""
    folder = root / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows or interaction_rows()
    items = items or [f"i{item}" for item in range(N_ITEMS)]
    table = pa.table({"item_id": items, "text": [f"thing {i}" for i in items]})
    table = table.append_column("image", pa.nulls(len(items), pa.string()))
    pq.write_table(table, folder / "items.parquet")
    users, taken, splits = (list(column) for column in zip(*rows, strict=True))
    log = pa.table({"user_id": users, "item_id": taken, "split": splits})
    pq.write_table(log, folder / "interactions.parquet")
    (folder / "dataset.json").write_text('{"name": "shop"}')
    return folder


def write_features(dataset, name="good", items=None, nan=False):
    """A feature set whose vectors tell even items from odd ones; item i3 lacks a picture."""
    items = items or [f"i{item}" for item in range(N_ITEMS)]
    generator = np.random.default_rng(1)
    parity = np.array([int(item[1:]) % 2 for item in items])
    vectors = {
        modality: (np.eye(2)[parity] @ np.ones((2, dim)) * parity[:, None])
        + generator.standard_normal((len(items), dim)) * 0.1
        for modality, dim in (("image", 6), ("text", 4), ("fused", 5))
    }
    present = {modality: np.ones(len(items), bool) for modality in vectors}
    present["image"][items.index("i3")] = False
    folder = dataset / "features" / name
    writer = ShardWriter(folder, {modality: v.shape[1] for modality, v in vectors.items()})
    writer.write(EmbeddingBatch(items, ["c"] * len(items), vectors, present))
    writer.finish(
        encoder={"spec": "test", "fingerprint": "f"},
        normalized=dict.fromkeys(vectors, False),
        fusion=None,
        items_digest=items_digest(items, [f"thing {item}" for item in items], [None] * len(items)),
        seconds=1.0,
    )
    return folder

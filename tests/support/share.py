"""One of several processes that train an encoder end to end: the gradients of a few batches."""

import sys
from pathlib import Path

import numpy as np
import torch
from support.live_setting import Setting
from support.two_towers import CPU, TwoTowers, having, item_rows, write_items

from extract.finetune.processes import processes, rank
from recommend.sampling import Batch

FUSED = ("image", "text", "fused")
# Chunk, dropout, recommender; of the last one the loss has chance of its own.
WAYS = [(1, 0.0, "vbpr"), (2, 0.0, "vbpr"), (None, 0.0, "vbpr"), (2, 0.0, "bm3"), (2, 0.4, "vbpr")]


def batches():
    """By the number of items: odd, two, two of which one has a picture, two of which none has.

    With two processes the last ones leave one of them, or both, without a picture.
    """
    item_of = np.argsort(item_rows())
    pictured = having("image")
    without = sorted(set(having("text")) - set(pictured))
    for rows in (pictured[:5], pictured[4:6], [pictured[2], without[0]], without):
        items = torch.from_numpy(item_of[rows])
        users = torch.arange(len(items)) % 3
        yield Batch(users, items, items.roll(1))


def steps(folder, chunk, dropout=0.0, name="vbpr"):
    """The gradients of the encoder, and of the rest, batch by batch, with a step after each.

    Each process draws other random numbers.
    """
    catalog = write_items(folder)
    encoder = TwoTowers(dropout, text_dim=5, scale=False)
    setting = Setting(encoder, catalog, name, chunk, FUSED, itc_weight=0.3, clip_norm=0.05)
    found = []
    for batch in batches():
        of_encoder, of_model, *_ = setting.ours(batch, seed=3 + rank())
        found.append({"encoder": of_encoder, "model": of_model})
        setting.move()
    return found


if __name__ == "__main__":
    with processes(CPU):
        folder = Path(sys.argv[1]) / str(rank())
        ways = {way: steps(folder, *way) for way in WAYS}
    torch.save(ways, folder / "found.pt")

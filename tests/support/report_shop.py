"""A small data set with odd items, a few finished runs, and a comparison of them made by hand."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from support.shop import N_ITEMS, interaction_rows, write_features, write_shop

from extract.manifest import items_digest
from pipelines.cli import run
from pipelines.comparisons.contents import Comparison, Estimate, System

# Item to what is odd about its text.
TEXTS = {
    "i0": '</script><img src=x onerror=alert(1)> & "quoted"',
    "i1": "a NUL \x00, an emoji \U0001f9e6, a line \u2028 and \u05e9\u05dc\u05d5\u05dd",
    "i2": "x" * 400,
    "i3": None,
    "i4": " \u200b\n",
}
# Item to what stands in the file of its picture; i8 has none, that of i9 is gone.
PICTURES = {"i5": (300, 200), "i6": (20, 50), "i7": b"no picture at all"}
LOST = "i9"
OUTSIDE = "i10"
# Model, features and seeds of the runs, the best system first.
RUNS = [
    ("vbpr", "good", (0, 1)),
    ("lightgcn", "none", (0,)),
    ("vbpr", "shuffled:good", (0,)),
    ("popularity", "none", (0,)),
]


def category_of(item):
    """Every item is a thing, and of one of three colours besides; a fifth have none of these."""
    number = int(item[1:])
    return None if number % 5 == 0 else f"thing| {('red', 'green', 'blue')[number % 3]}"


def write_catalogue(folder):
    """Odd texts and pictures in place of the shop's plain ones."""
    items = [f"i{item}" for item in range(N_ITEMS)]
    images = {item: f"{item}.png" for item in [*PICTURES, LOST]} | {OUTSIDE: "../secret.png"}
    table = pa.table(
        {
            "item_id": items,
            "text": [TEXTS.get(item, f"thing {item}") for item in items],
            "image": [images.get(item) for item in items],
            "genres": [category_of(item) for item in items],
        }
    )
    pq.write_table(table, folder / "items.parquet")
    (folder / "images").mkdir(exist_ok=True)
    for item, content in PICTURES.items():
        data = content if isinstance(content, bytes) else picture(*content)
        (folder / "images" / f"{item}.png").write_bytes(data)


def picture(width, height):
    """A PNG with random pixels."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_times(folder):
    """When each interaction was: at random, some at the same time, one at a time unknown."""
    log = pq.read_table(folder / "interactions.parquet")
    times = np.random.default_rng(3).integers(0, 40, log.num_rows).tolist()
    times[2] = None
    log = log.append_column("timestamp", pa.array(times, pa.int64()))
    pq.write_table(log, folder / "interactions.parquet")


def write_compared(root):
    """The data set, its runs, and a comparison of them; returns the comparison."""
    folder = write_shop(root, rows=interaction_rows())
    write_times(folder)
    write_catalogue(folder)
    write_features(folder)
    _as_of_ids(folder / "features" / "good")
    origin = {"title": "Shop", "home": "https://shop.example", "licence": "for looking only"}
    (folder / "dataset.json").write_text(json.dumps({"source": {"origin": origin}}))
    return comparison_of(tuple(_train(root, *told) for told in RUNS))


def comparison_of(systems, **changes):
    """A comparison of the shop's systems."""
    told = {"name": "compare", "dataset": "shop", "split": "random", "protocol": "strict"}
    told |= {"users": 30, "primary": "recall@20", "confidence": 0.95, "test": "randomisation"}
    return Comparison(**(told | {"systems": systems} | changes))


def _train(root, model, features, seeds):
    name = f"{model} · {features}"
    for seed in seeds:
        words = ["--model", model, "--seed", seed, "--run", f"{model}-{features[:4]}-{seed}"]
        words += ["--features", "good" if features == "none" else features]
        words += ["--set", "train.max_epochs=3", "--set", "train.evaluate_every=2"]
        words += ["--root", root, "--quiet"]
        assert run("train", [str(word) for word in words]) == 0
    return System(
        name=name,
        model=model,
        features=features,
        regime="frozen",
        control="shuffled" if features.startswith("shuffled") else None,
        runs=tuple(f"{model}-{features[:4]}-{seed}" for seed in seeds),
        seeds=seeds,
        epochs=(1,) * len(seeds),
        seconds=(1.0,) * len(seeds),
        test={"recall@20": Estimate(mean=0.5, low=0.4, high=0.6)},
    )


def _as_of_ids(features):
    """Features that say of themselves which items they are of, and nothing of their contents."""
    manifest = json.loads((features / "manifest.json").read_text())
    manifest["items_digest"] = items_digest([f"i{item}" for item in range(N_ITEMS)])
    (features / "manifest.json").write_text(json.dumps(manifest))

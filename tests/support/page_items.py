"""Items made by hand, where they are near each other, and who took them."""

import base64
import io

import numpy as np
from PIL import Image

from pipelines.pages.contents import Item, Space, User

CATEGORIES = (
    "Drama",
    "Comedy",
    "Action",
    "Thriller",
    "Romance",
    "Animation",
    "Western",
    "War",
    "Noir",
)
WORDS = (
    "night", "river", "stolen", "garden", "last", "train", "red", "letter",
    "winter", "house", "silent", "harbour", "golden", "thief", "summer",
)  # fmt: skip


def picture(generator):
    """A small random gradient as base64 of WebP."""
    ends = generator.integers(0, 256, (2, 2, 3))
    image = Image.fromarray(ends.astype(np.uint8)).resize((32, 32), Image.Resampling.BILINEAR)
    with io.BytesIO() as buffer:
        image.save(buffer, "webp", quality=40)
        return base64.b64encode(buffer.getvalue()).decode()


def catalogue(n_items, seed=0):
    """Items of some clusters; every seventh lacks its picture, every eleventh its text."""
    generator = np.random.default_rng(seed)
    pictures = [picture(generator) for _ in range(min(n_items, 60))]
    items = []
    for row in range(n_items):
        title = " ".join(WORDS[k] for k in generator.integers(0, len(WORDS), 3)).capitalize()
        items.append(
            Item(
                id=f"i{row}",
                text=None
                if row % 11 == 10
                else f"{title} {row}. A film about a {title.lower()} and what came of it.",
                taken=int(300 / (1 + row % 97)),
                category=None if row % 13 == 12 else CATEGORIES[row % len(CATEGORIES)],
                thumbnail=None if row % 7 == 6 else pictures[row % len(pictures)],
                why="file is missing" if row % 7 == 6 else None,
            )
        )
    return tuple(items)


def space(name, modality, n_items, seed, near=10):
    """A ring where each item's neighbours are the next ones, in steps that depend on the seed."""
    generator = np.random.default_rng(seed)
    centres = generator.integers(150, 850, (len(CATEGORIES), 2))
    xy = centres[np.arange(n_items) % len(CATEGORIES)] + generator.normal(0, 45, (n_items, 2))
    near = min(near, n_items - 1)
    ring = [
        tuple((row + (k + 1) * (seed + 1)) % n_items for k in range(near)) for row in range(n_items)
    ]
    missing = {row for row in range(n_items) if modality == "image" and row % 7 == 6}
    return Space(
        name=name,
        features=name.split(" · ")[0],
        modality=modality,
        neighbours=[() if row in missing else ring[row] for row in range(n_items)],
        similarities=[
            () if row in missing else tuple(97 - 3 * k for k in range(near))
            for row in range(n_items)
        ],
        xy=[
            None if row in missing else tuple(int(x) for x in np.clip(xy[row], 0, 1000))
            for row in range(n_items)
        ],
    )


def users(n_users, n_items, names, seed=2):
    generator = np.random.default_rng(seed)
    made = []
    for row in range(n_users):
        drawn = [int(k) for k in generator.permutation(n_items)[:50]]
        held = drawn[:4]
        lists = {
            name: tuple(held[: k % 3] + drawn[4 + k : 14 + k - k % 3])
            for k, name in enumerate(names)
        }
        made.append(User(id=f"u{row}", history=drawn[14:], held_out=held, lists=lists))
    return tuple(made)

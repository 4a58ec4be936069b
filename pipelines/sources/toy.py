"""A generated shop: a small data set of one's own, with pictures, texts and tastes."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.overwriting import Overwriting
from pipelines.progress import Reporter
from pipelines.sources.log import SplitConfig, in_order, split_log
from pipelines.sources.pictures import Draw
from pipelines.sources.toy_pictures import COLOURS, PATTERNS, SHAPES, Look, draw_picture
from pipelines.sources.toy_taste import FEWEST_TAKEN, Attributes, take
from pipelines.sources.toy_words import STYLES, title_and_description
from pipelines.sources.writing import Prepared
from recommend.splits import check_ratios

# Items with something missing, as shares of all: real catalogues have them, and so must this one.
FAULTS = {"no picture": 0.01, "lost picture": 0.01, "torn picture": 0.01, "no text": 0.02}
BYTES_LEFT_OF_TORN = 900


class ToyConfig(SplitConfig, Overwriting):
    """Settings of ``mmrec-prepare toy``."""

    dataset: str = Field("toy", description="Name of the data set to make.")
    items: int = Field(800, ge=50, description="Number of items.")
    users: int = Field(1000, ge=1, description="Number of users.")
    per_user: float = Field(
        10.0, ge=FEWEST_TAKEN, description="Mean number of interactions of a user."
    )


def prepare(config: ToyConfig, reporter: Reporter) -> Prepared:
    """Generate items, looks, texts, tastes and a log; the same seed gives the same bytes."""
    check_ratios(config.ratios)
    # One stream each, so that more users do not change the pictures.
    streams = np.random.default_rng(config.seed).spawn(4)
    attributes = _attributes(config.items, streams[0])
    faults = _faults(config.items, streams[1])
    items, pictures = _catalogue(attributes, faults, streams[2])
    taken = take(attributes, config.users, config.per_user, streams[3])
    log = pa.table(
        {
            "user_id": _ids("user", config.users)[taken.users],
            "item_id": _ids("item", config.items)[taken.items],
            "timestamp": taken.timestamps,
        }
    )
    log = split_log(in_order(log), config)
    steps = {fault: faults.count(fault) for fault in FAULTS}
    for fault, count in steps.items():
        reporter.say(f"items with {fault}: {count}")
    return Prepared("toy", items, log, pictures, config, steps, {})


def _attributes(n: int, generator: np.random.Generator) -> Attributes:
    sizes = (len(SHAPES), len(STYLES), len(COLOURS), len(PATTERNS))
    return Attributes(*(generator.integers(size, size=n) for size in sizes))


def _faults(n: int, generator: np.random.Generator) -> list[str]:
    """The fault of each item, or nothing."""
    faults = [""] * n
    rows = iter(generator.permutation(n).tolist())
    for fault, share in FAULTS.items():
        for _ in range(max(1, round(share * n))):
            faults[next(rows)] = fault
    return faults


def _catalogue(
    attributes: Attributes, faults: list[str], generator: np.random.Generator
) -> tuple[pa.Table, dict[str, Draw]]:
    rows: list[dict[str, str | None]] = []
    pictures: dict[str, Draw] = {}
    names = [list(table) for table in (SHAPES, STYLES, COLOURS, PATTERNS)]
    ids = _ids("item", len(faults)).tolist()
    for i, (item_id, fault) in enumerate(zip(ids, faults, strict=True)):
        columns = (attributes.category, attributes.style, attributes.colour, attributes.pattern)
        category, style, colour, pattern = (
            name[column[i]] for name, column in zip(names, columns, strict=True)
        )
        title, description = title_and_description(category, colour, pattern, style, generator)
        other_colours = [other for other in COLOURS if other != colour]
        second_colour = other_colours[int(generator.integers(len(other_colours)))]
        look = Look(category, colour, second_colour, pattern, int(generator.integers(2**32)))
        image = None if fault == "no picture" else f"{item_id}.jpg"
        text = None if fault == "no text" else f"{title}. {description}"
        rows.append({"item_id": item_id, "text": text, "image": image, "category": category})
        if image and fault != "lost picture":
            draw = _draw_torn if fault == "torn picture" else draw_picture
            pictures[image] = partial(draw, look)
    return pa.Table.from_pylist(rows), pictures


def _draw_torn(look: Look, path: Path) -> None:
    """A picture whose download broke off."""
    draw_picture(look, path)
    path.write_bytes(path.read_bytes()[:BYTES_LEFT_OF_TORN])


def _ids(kind: str, n: int) -> np.ndarray:
    """Ids with as many digits as the last one needs, so that text order is number order."""
    width = len(str(n))
    return np.array([f"{kind}-{number:0{width}d}" for number in range(1, n + 1)])

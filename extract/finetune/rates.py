"""Layer decay: weights of lower layers, which are the more general ones, move more slowly.

Clark et al. 2020 (ELECTRA) and Bao et al. 2022 (BEiT): of L layers, counted from 0, layer l has the
rate times decay^(L - 1 - l), and what comes before the first one the rate times decay^L.
"""

import re
from collections.abc import Iterable, Sequence

from extract.encoders.base import Encoder

# The list that a layer is in, and its number: the first one of a name, since what is numbered
# inside a layer, such as the blocks of a stage, is no layer of the tower.
LAYER = re.compile(
    r"^(?P<tower>(?:.*?\.)?(?:resblocks|blocks?|layers?|stages?)\.?)(?P<number>\d+)\."
)
# What the order of the names misleads about.
BEFORE = re.compile(r"embed")
AFTER = re.compile(r"proj|log\w*_(?:scale|bias)|position_bias_table")


def layer_factors(encoder: Encoder, added: Iterable[str], decay: float) -> dict[str, float]:
    """By what the rates of an encoder's own weights are multiplied.

    The layers of a side, pictures or texts, are its longest list of numbered blocks, layers or
    stages; where names do not tell the sides apart, one list serves both. All other weights are
    embeddings by name, projections and scales by name, or else stand before or after the layers as
    the model lists them. A table of relative positions that all layers share counts as the top's.

    Args:
        encoder: Whose.
        added: Names of weights that are not its own.
        decay: The factor from one layer to the next below.

    Returns:
        The names of its own weights to their factors; all 1 on a side without numbered layers.
    """
    added = set(added)
    sides: dict[bool, list[str]] = {True: [], False: []}
    for name, _ in encoder.named_parameters():
        if name not in added:
            sides[name.startswith(encoder.image_parts)].append(name)
    factors: dict[str, float] = {}
    for names in sides.values():
        factors |= {name: decay**steps for name, steps in _steps_below_top(names).items()}
    return factors


def _steps_below_top(names: Sequence[str]) -> dict[str, int]:
    """How many layers lie above each weight of a side."""
    found = {name: match for name in names if (match := LAYER.match(name))}
    numbers: dict[str, set[int]] = {}
    for match in found.values():
        numbers.setdefault(match["tower"], set()).add(int(match["number"]))
    if not numbers:
        return dict.fromkeys(names, 0)
    tower = max(numbers, key=lambda each: len(numbers[each]))
    above = {number: steps for steps, number in enumerate(sorted(numbers[tower], reverse=True))}
    layers = {
        name: above[int(match["number"])]
        for name, match in found.items()
        if match["tower"] == tower
    }
    first = next(place for place, name in enumerate(names) if name in layers)
    before = {
        name: len(above)
        for place, name in enumerate(names)
        if BEFORE.search(name) or (place < first and not AFTER.search(name))
    }
    return dict.fromkeys(names, 0) | before | layers

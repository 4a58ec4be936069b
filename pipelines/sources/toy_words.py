"""Titles and descriptions of the generated shop, in varying words."""

from collections.abc import Sequence

import numpy as np

WORDS = {
    "mug": ("mug", "cup", "coffee mug"),
    "vase": ("vase", "flower vase", "jug for flowers"),
    "lamp": ("lamp", "table lamp", "bedside light"),
    "cushion": ("cushion", "throw pillow", "sofa cushion"),
    "rug": ("rug", "carpet", "floor mat"),
    "clock": ("clock", "wall clock", "timepiece"),
    "shirt": ("shirt", "tee", "T-shirt"),
    "umbrella": ("umbrella", "parasol", "rain umbrella"),
    "bag": ("bag", "tote", "shopping bag"),
    "chair": ("chair", "seat", "dining chair"),
    "red": ("red", "scarlet", "crimson"),
    "orange": ("orange", "tangerine", "amber"),
    "yellow": ("yellow", "lemon", "golden"),
    "green": ("green", "forest green", "leafy green"),
    "turquoise": ("turquoise", "teal", "aqua"),
    "blue": ("blue", "navy", "royal blue"),
    "purple": ("purple", "violet", "plum"),
    "pink": ("pink", "rose", "blush"),
    "brown": ("brown", "chocolate", "walnut"),
    "black": ("black", "charcoal", "jet black"),
    "plain": ("plain", "solid", "uni"),
    "striped": ("striped", "with stripes", "banded"),
    "dotted": ("dotted", "with polka dots", "spotted"),
    "checked": ("checked", "chequered", "gingham"),
    "zigzag": ("zigzag", "with a chevron pattern", "with zigzag lines"),
    "minimal": ("minimalist", "Scandinavian", "pared-back"),
    "vintage": ("vintage", "retro", "antique-style"),
    "bohemian": ("bohemian", "boho", "folk-inspired"),
    "industrial": ("industrial", "loft-style", "workshop"),
    "coastal": ("coastal", "nautical", "seaside"),
    "playful": ("playful", "whimsical", "fun"),
}

STYLES: dict[str, Sequence[str]] = {
    "minimal": (
        "Clean lines and nothing more.",
        "Quiet design for a calm, uncluttered home.",
        "Less is more, in the Nordic way.",
    ),
    "vintage": (
        "As if found at a Paris flea market.",
        "Old-time charm from the nineteen-fifties.",
        "A nostalgic piece with a worn patina.",
    ),
    "bohemian": (
        "Free-spirited and handmade, with tassels and embroidery.",
        "Woven by artisans, full of wanderlust.",
        "For a home full of plants, rattan and candles.",
    ),
    "industrial": (
        "Raw steel, rivets and concrete from the factory floor.",
        "Rugged, bare metal for a city loft.",
        "Built like a machine, with exposed bolts.",
    ),
    "coastal": (
        "A breath of salt air, sails and driftwood.",
        "Brings the beach house home.",
        "Inspired by harbours, shells and sandy shores.",
    ),
    "playful": (
        "Makes children laugh and grown-ups grin.",
        "Cheerful and silly, a lovely present for kids.",
        "A joke of a design for birthdays and parties.",
    ),
}

CLOSINGS = (
    "Made to last.",
    "Easy to care for.",
    "A fine gift.",
    "Ships within two days.",
    "Designed in our own studio.",
    "",
)


def title_and_description(
    category: str, colour: str, pattern: str, style: str, generator: np.random.Generator
) -> tuple[str, str]:
    """A title and a description that agree with an item's attributes.

    Colour and pattern, which a picture shows, are not always told; the style, which a picture does
    not show, always is.
    """

    def word(attribute: str) -> str:
        return _pick(WORDS[attribute], generator)

    adjectives = [word(style)]
    if generator.random() < 0.6:
        adjectives.append(word(colour))
    title = " ".join([*adjectives, word(category)])
    if generator.random() < 0.6:
        told = word(pattern)
        title += f" {told}" if told.startswith("with") else f", {told}"
    sentences = [_pick(STYLES[style], generator)]
    if generator.random() < 0.5:
        sentences.append(f"This {word(category)} comes in {word(colour)}.")
    sentences.append(_pick(CLOSINGS, generator))
    order = generator.permutation(len(sentences))
    description = " ".join(sentences[place] for place in order if sentences[place])
    return title[0].upper() + title[1:], description


def _pick(choices: Sequence[str], generator: np.random.Generator) -> str:
    return choices[int(generator.integers(len(choices)))]

"""Reads the HTML file of a page back, without a browser."""

import json
from html.parser import HTMLParser

from pipelines.pages.contents import Disagreement, Item, Page, Space


class Outline(HTMLParser):
    """What a file's HTML holds: blocks of JSON, references, elements that were not closed."""

    VOID = ("meta", "link", "br", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.blocks, self.references, self.open, self.elements = {}, [], [], []
        self._block = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.append((tag, given))
        self.references += [
            given[name] for name in ("src", "href", "action", "srcset") if name in given
        ]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script" and given.get("type") == "application/json":
            self._block = given["id"].removeprefix("data-")
            self.blocks[self._block] = ""

    def handle_startendtag(self, tag, attributes):  # of a drawing: <line/>
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._block = None

    def handle_data(self, data):
        if self._block is not None:
            self.blocks[self._block] += data


def read_back(blocks):
    """The page that a file's blocks hold."""
    data = {name: json.loads(text) for name, text in blocks.items()}

    def parts(name):
        numbers = sorted(
            int(key.removeprefix(f"{name}-"))
            for key in data
            if key.startswith(f"{name}-") and key.removeprefix(f"{name}-").isdigit()
        )
        return [row for k in numbers for row in data[f"{name}-{k}"]]

    columns = zip(
        data["items"]["id"],
        data["items"]["taken"],
        data["items"]["category"],
        data["texts"],
        parts("pictures"),
        strict=True,
    )
    items = [
        Item(id=i, taken=taken, category=category, text=text, thumbnail=thumbnail, why=why)
        for i, taken, category, text, (thumbnail, why) in columns
    ]
    spaces = [
        Space(
            **space,
            neighbours=[near for near, _ in parts(f"neighbours-{s}")],
            similarities=[cosines for _, cosines in parts(f"neighbours-{s}")],
            xy=data[f"map-{s}"],
        )
        for s, space in enumerate(data["page"]["spaces"])
    ]
    disagreements = [
        Disagreement(**pair, overlap=data[f"disagreement-{d}"])
        for d, pair in enumerate(data["page"]["disagreements"])
    ]
    return Page(
        comparison=data["page"]["comparison"],
        curves=data["curves"],
        items=items,
        catalogue=data["page"]["catalogue"],
        spaces=spaces,
        made_again=data["page"]["made_again"],
        disagreements=disagreements,
        users=parts("users"),
        licence=data["page"]["licence"],
    )

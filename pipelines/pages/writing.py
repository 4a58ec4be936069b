"""A page as one HTML file: it needs no network, no other file, and fetches nothing.

Scripts and style are inside the file, known to its Content-Security-Policy by their digests. What
comes from the data is escaped by jinja, or lies in blocks of JSON that the page shows as text.
"""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from extract.errors import UserError
from extract.files import replacing
from pipelines.pages import numbers
from pipelines.pages import sections as parts
from pipelines.pages.blocks import blocks
from pipelines.pages.contents import Page

TEMPLATES = files("pipelines.pages") / "templates"
STYLE = ("style.css", "views.css", "media.css")
EARLY = ("theme.js",)
# In the order in which they build on each other.
SCRIPTS = (
    "base.js",
    "controls.js",
    "tables.js",
    "series.js",
    "slices.js",
    "curves.js",
    "items.js",
    "search.js",
    "points.js",
    "map.js",
    "neighbours.js",
    "users.js",
    "start.js",
)
# What HTML cannot hold: controls but tab and newline, and halves of letters.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def write_page(path: Path, page: Page) -> None:
    """Write a page, whole or not at all; the same page gives the same bytes.

    Args:
        path: The HTML file; an old one is replaced.
        page: What to show.

    Raises:
        UserError: jinja2 is not installed.
    """
    environment = _environment()
    early, late, style = _joined(EARLY), _joined(SCRIPTS), _joined(STYLE)
    found, missing = parts.sections(page)
    pieces = environment.get_template("page.html.j2").generate(
        page=page,
        comparison=page.comparison,
        sections={section.id: section for section in found},
        missing=missing,
        blocks=blocks(page),
        early=early,
        late=late,
        style=style,
        policy=_policy([early, late], style),
        parts=parts,
        numbers=numbers,
    )
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for piece in pieces:
            file.write(piece)


def _environment() -> Any:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise UserError(
            'a page needs jinja2, which is not installed; pip install "mmrec[report]"'
        ) from error
    return Environment(
        loader=FunctionLoader(lambda name: _source(name)),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _printable(value: Any) -> Any:
    return UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def _joined(names: tuple[str, ...]) -> str:
    text = "".join(_source(name) for name in names)
    return f'(() => {{\n"use strict";\n{text}}})();\n' if names[0].endswith(".js") else text


def _policy(scripts: list[str], style: str) -> str:
    """Nothing may be fetched; pictures come as data, and only our own code runs."""
    known = " ".join(_digest(script) for script in scripts)
    return (
        f"default-src 'none'; img-src data:; script-src {known}; style-src {_digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""What the file holds, without a browser."""

import base64
import hashlib
import re
import sys

import pytest
from support.page_files import Outline, read_back
from support.pages import comparison, page

from extract.errors import UserError
from pipelines.pages import writing
from pipelines.pages.contents import Item, Page, User
from pipelines.pages.sections import SECTIONS
from pipelines.pages.writing import write_page

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]> &amp; &lt; \\u003c \"quoted\" 'single' `${1}`",
    "\u2028\u2029\u202eright to left\u202c שלום",
    "👩‍👩‍👧 e\u0301 \x00\x07\x1b",
    "{{ 7 * 7 }}{% raw %}",
)


def hostile_page():
    """A page whose every free text is somebody's attempt."""
    all_of_it = " ".join(HOSTILE)
    return page(
        n_items=len(HOSTILE),
        comparison=comparison(
            name=HOSTILE[0],
            dataset=all_of_it,
            command=all_of_it,
            facts={all_of_it: all_of_it},
            answers=({"question": all_of_it, "sentence": all_of_it},),
            failures=({"cell": all_of_it, "error": all_of_it},),
        ),
        items=tuple(
            Item(id=f"{text}{row}", text=text, taken=row, category=text, thumbnail=None, why=text)
            for row, text in enumerate(HOSTILE)
        ),
        users=(User(id=all_of_it, history=(0, 1), held_out=(2,), lists={"lightgcn": (2, 3)}),),
        licence=all_of_it,
    )


def written(tmp_path, shown):
    write_page(tmp_path / "page.html", shown)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "make",
    [
        page,
        hostile_page,
        lambda: page(n_items=431, n_users=101),  # three blocks of items, three of users
        lambda: Page(comparison=comparison(systems=(), contrasts=(), answers=(), published=())),
    ],
    ids=["all", "hostile", "blocks", "nothing"],
)
def test_the_blocks_hold_the_page(tmp_path, make):
    shown = make()
    outline = Outline(written(tmp_path, shown))
    assert outline.open == []
    assert read_back(outline.blocks) == shown


def test_nothing_is_fetched(tmp_path):
    text = written(tmp_path, page())
    outline = Outline(text)
    assert {ref for ref in outline.references if not ref.startswith("#")} == {"data:,"}
    (style,) = re.findall("<style>(.*?)</style>", text, re.S)
    assert "url(" not in style
    assert "@import" not in style
    assert "http://www.w3.org/2000/svg" in text  # the name of SVG, not an address
    assert re.sub("http://www.w3.org/2000/svg", "", text).count("://") == 0


def test_the_policy_knows_the_scripts_and_the_style_by_their_digests(tmp_path):
    text = written(tmp_path, page())
    policy = next(
        given["content"]
        for tag, given in Outline(text).elements
        if given.get("http-equiv") == "Content-Security-Policy"
    )
    digests = re.findall(r"'sha256-(.*?)'", policy)
    inside = re.findall("<script>(.*?)</script>", text, re.S)
    inside += re.findall("<style>(.*?)</style>", text, re.S)
    assert len(inside) == 3
    assert digests == [
        base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in inside
    ]
    rules = re.sub("'sha256-.*?'", "DIGEST", policy)
    assert rules == (
        "default-src 'none'; img-src data:; script-src DIGEST DIGEST; style-src DIGEST; "
        "base-uri 'none'; form-action 'none'"
    )
    # These would be refused, as they are in no list.
    assert not [given for _, given in Outline(text).elements if "style" in given]
    assert not [name for _, given in Outline(text).elements for name in given if name[:2] == "on"]


def test_texts_start_no_element(tmp_path):
    plain = [tag for tag, _ in Outline(written(tmp_path, page(n_items=6, n_users=1))).elements]
    text = written(tmp_path, hostile_page())
    assert plain.count("script") == [tag for tag, _ in Outline(text).elements].count("script")
    assert "alert(1)</script>" not in text
    assert "\x00" not in text
    assert "49" not in re.search("<h1>(.*?)</h1>", text)[1]
    assert "{{ 7 * 7 }}" in text


def test_the_same_page_gives_the_same_bytes(tmp_path):
    assert written(tmp_path, page()) == written(tmp_path, page())


def test_a_page_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def torn(_):
        yield "page", "{}"
        raise RuntimeError("no more")

    monkeypatch.setattr(writing, "blocks", torn)
    with pytest.raises(RuntimeError, match="no more"):
        write_page(path, page())
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_without_jinja_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"jinja2.*pip install \"mmrec\[report\]\""):
        write_page(tmp_path / "page.html", page())


def test_every_section_has_its_template_and_what_is_missing_is_named(tmp_path):
    assert len(SECTIONS) == 13
    ids = [
        given.get("id")
        for tag, given in Outline(written(tmp_path, page())).elements
        if tag == "section"
    ]
    assert ids == [section.id for section in SECTIONS]
    only = Page(comparison=comparison(systems=(), contrasts=(), answers=(), published=()))
    text = written(tmp_path, only)
    ids = [given.get("id") for tag, given in Outline(text).elements if tag == "section"]
    assert ids == ["answers", "failures", "facts"]
    assert "nothing to show for: systems, contrasts, slices, beyond, published, curves" in text
    assert "No run of this comparison came to an end" in text
    assert "the others are not touched" not in text


def test_a_part_of_the_catalogue_is_told(tmp_path):
    told = "Similarities are cosines. The page holds 120 of 5,000 items, and neighbours are looked "
    assert told not in re.sub(r"\s+", " ", written(tmp_path, page()))
    assert told in re.sub(r"\s+", " ", written(tmp_path, page(catalogue=5000)))


def test_features_that_were_made_again_are_told_where_they_are_shown(tmp_path):
    told = "offline, &lt;i&gt; were extracted again"
    assert "were extracted again" not in written(tmp_path, page())
    text = written(tmp_path, page(made_again=("offline", "<i>")))
    sections = text.split("<section ")
    assert [each.split('"')[1] for each in sections if told in each] == ["map", "neighbours"]


def test_figures_are_those_of_the_comparison(tmp_path):
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", written(tmp_path, page())))
    assert ".3800 [.3700, .3900]" in text  # the best system's
    assert "+.0161 [+.0091, +.0231]" in text
    assert "−.0121 [−.0191, −.0051]" in text
    assert "<.001" in text.replace("&lt;", "<")
    assert "48 s, 51 s, 12 min" in text
    assert "938 test users, strict protocol" in text

"""Accessibility by axe-core, in both themes and at both widths, with all sections drawn."""

import pytest
from support.pages import comparison, page

from pipelines.pages.contents import Page

GRAVE = {"serious", "critical"}


def violations(tab, axe):
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")  # draws all that is drawn late
    for details in tab.query_selector_all("details"):
        details.evaluate("node => node.open = true")
    tab.evaluate(axe)
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 20  # it did look
    return [
        (each["id"], node["target"], node["failureSummary"])
        for each in found["violations"]
        if each["impact"] in GRAVE
        for node in each["nodes"][:3]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1400])
def test_no_grave_violation(visit, axe, theme, width):
    tab = visit(width=width, theme=theme, at="#item/i6")
    tab.get_by_role("combobox", name="Search items").fill("i1")
    assert tab.get_by_role("listbox", name="Search items").is_visible()
    assert violations(tab, axe) == []


def test_no_grave_violation_where_little_is_shown(visit, axe):
    bare = page(n_items=3, n_users=0, spaces=(), disagreements=(), curves=())
    assert violations(visit(bare), axe) == []
    only = Page(comparison=comparison(systems=(), contrasts=(), answers=(), published=()))
    assert violations(visit(only), axe) == []


def test_the_skip_link_comes_first_and_leads_to_the_content(visit):
    tab = visit()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.innerText") == "Skip to the content"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"


def test_the_focus_is_seen_and_passes_over_no_section(visit):
    tab = visit(at="#item/i5")
    seen = "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(12):
        tab.keyboard.press("Tab")
        assert tab.evaluate(seen) == "solid"
    assert tab.evaluate("document.activeElement.closest('section[aria-labelledby]').id") == "users"

"""The page in a browser: what it shows, sorts and switches. `visit` sees to it that it is quiet."""

import pytest
from support.page_items import space
from support.pages import comparison, page, system

from pipelines.comparisons.contents import Estimate
from pipelines.pages.contents import Item, Page

LATE = "[data-late]"


def draw_all(tab):
    """Have each section drawn as if it had come near."""
    for node in tab.query_selector_all(LATE):
        node.scroll_into_view_if_needed()
        tab.wait_for_function("node => node.childElementCount > 0", arg=node)


def first_column(tab, section):
    return tab.locator(f"#{section} table.sortable").first.locator("tbody th").all_inner_texts()


def test_sections_are_drawn_when_they_come_near(visit):
    tab = visit()
    assert tab.title() == "compare on films"
    assert tab.locator("main > section").count() == 13
    assert tab.locator("#users-view > *").count() == 0
    draw_all(tab)
    assert tab.locator(f"{LATE}:empty").count() == 0


def test_a_table_is_sorted_by_its_headings(visit):
    tab = visit()
    before = first_column(tab, "systems")
    assert before[0].startswith("freedom · offline")
    button = tab.locator("#systems table.sortable").first.get_by_role("button", name="recall@20")
    button.click()
    assert first_column(tab, "systems")[0].startswith("bm3 · random")
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    button.focus()
    tab.keyboard.press("Enter")
    assert sorted(first_column(tab, "systems")) == sorted(before)
    assert first_column(tab, "systems")[0] == before[0]
    tab.locator("#systems table.sortable").first.get_by_role("button", name="System").click()
    names = first_column(tab, "systems")
    assert names == sorted(names)
    assert tab.locator("#systems th[aria-sort]").count() == 1


def test_no_number_is_sorted_below_all_numbers(visit):
    nothing = Estimate(mean=None, low=None, high=None)
    three = [
        system(name, "vbpr", name, 0.1, test={"recall@20": nothing if mean is None else
               Estimate(mean=mean, low=mean, high=mean)})
        for name, mean in (("a", 0.3), ("b", None), ("c", -0.2))
    ]  # fmt: skip
    tab = visit(Page(comparison=comparison(systems=three, contrasts=())))
    tab.get_by_role("button", name="recall@20").click()
    assert [name[0] for name in first_column(tab, "systems")] == ["b", "c", "a"]


@pytest.mark.parametrize(("system_theme", "other"), [("light", "dark"), ("dark", "light")])
def test_the_theme_is_that_of_the_system_until_one_is_chosen(visit, system_theme, other):
    tab = visit(theme=system_theme)
    paper = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(paper)
    button = tab.locator("#theme")
    assert button.inner_text() == f"{other.capitalize()} theme"
    button.click()
    assert tab.evaluate(paper) != before
    assert button.inner_text() == f"{system_theme.capitalize()} theme"
    tab.reload()
    assert tab.evaluate("document.documentElement.dataset.theme") == other


def test_the_slices_change_with_their_kind_and_systems(visit):
    tab = visit()
    draw_all(tab)
    chart = tab.locator("#slices-chart")
    assert chart.get_by_text("rarest fifth").count() == 1
    marks = chart.locator(".plot-box path").count()
    assert marks == 5 * 4  # slices by systems
    chart.get_by_label("user activity").check()
    assert chart.get_by_text("rarest fifth").count() == 0
    assert chart.locator(".plot-box path").count() == 3 * 4
    chart.get_by_text("Choose systems").click()
    chart.get_by_role("checkbox", name="vbpr · random").check()
    assert chart.locator(".plot-box path").count() == 3 * 5
    assert "vbpr · random" in chart.locator("ul.legend").inner_text()
    chart.get_by_role("checkbox", name="vbpr · random").uncheck()
    chart.get_by_role("checkbox", name="freedom · offline", exact=True).uncheck()
    assert chart.locator(".plot-box path").count() == 3 * 3
    # Nobody else changed the mark.
    fills = chart.locator(".plot-box path").evaluate_all(
        "all => all.map(p => p.getAttribute('fill'))"
    )
    assert set(fills) == {"var(--c1)", "var(--c2)", "var(--c3)"}


def test_learning_curves_have_a_panel_a_system_and_a_line_a_seed(visit):
    tab = visit()
    draw_all(tab)
    assert tab.locator("#curves .panel").count() == 4
    first = tab.locator("#curves .panel").first
    assert first.locator(".curve.validation").count() == 3
    assert "at epoch 40;" in first.inner_text()


@pytest.mark.parametrize("width", [375, 1400])
def test_the_page_is_never_wider_than_the_window(visit, width):
    long = "long" * 60
    tab = visit(
        page(comparison=comparison(facts={long: long}, command=long, name=long)), width=width
    )
    draw_all(tab)
    for summary in tab.locator("summary").all():
        summary.click()
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_tables_scroll_in_their_own_box(visit):
    tab = visit(width=375)
    box = tab.get_by_role("region", name="Table of systems")
    assert box.evaluate("node => node.scrollWidth > node.clientWidth")
    box.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("node => node.scrollLeft > 0", arg=box.element_handle())


def test_the_map_opens_an_item_by_click_and_by_keys(visit):
    one = space("offline · text", "text", 5, 0)
    spread = one.model_copy(update={"xy": ((500, 500), (900, 500), (100, 500), (500, 100), None)})
    tab = visit(page(n_items=5, n_users=1, spaces=(spread,), disagreements=()))
    draw_all(tab)
    canvas = tab.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.hover(position={"x": 12 + 0.1 * (box["width"] - 24), "y": box["height"] / 2})
    assert "thief" in tab.locator(".pointed").inner_text() or tab.locator(".pointed img").count()
    canvas.click(position={"x": 12 + 0.9 * (box["width"] - 24), "y": box["height"] / 2})
    tab.wait_for_function("location.hash === '#item/i1'")
    canvas.focus()
    for key in ("ArrowLeft", "ArrowLeft"):  # from what the pointer left, i1, over i0 to i2
        tab.keyboard.press(key)
    tab.keyboard.press("Enter")
    tab.wait_for_function("location.hash === '#item/i2'")


def test_a_page_of_little_says_so(visit):
    bare = Item(id="x", text=None, taken=0, category=None, thumbnail=None, why="none given")
    only = comparison(systems=comparison().systems[:1], contrasts=(), answers=(), failures=())
    tab = visit(Page(comparison=only, items=(bare,), catalogue=3))
    draw_all(tab)
    shown = tab.locator("main").inner_text()
    assert "These runs answer no question by themselves" in shown
    assert "No picture: none given" in shown
    assert "No text." in shown
    assert "The page holds 1 of 3 items." in shown
    assert "no space in which items are near each other" in shown
    assert tab.locator("#contrasts, #map, #users, #failures").count() == 0


def test_failures_alone_make_a_page(visit):
    tab = visit(Page(comparison=comparison(systems=(), contrasts=(), answers=(), published=())))
    assert "1 cell failed" in tab.get_by_role("complementary").inner_text()
    tab.get_by_role("link", name="What went wrong").click()
    assert "loss is not finite" in tab.locator("#failures").inner_text()

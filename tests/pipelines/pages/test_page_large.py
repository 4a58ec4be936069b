"""A page of 10,000 items, and one of hostile texts, in a browser."""

import pytest
from support.pages import page

from pipelines.pages.contents import Item
from pipelines.pages.writing import write_page

ITEMS = 10_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "page.html"
    write_page(path, page(n_items=ITEMS, n_users=300))
    return path


def nodes(tab):
    return tab.evaluate("document.querySelectorAll('*').length")


def test_ten_thousand_items_make_few_elements(visit, large):
    tab = visit(file=large)
    assert nodes(tab) < 2500
    assert tab.locator("img").count() == 0
    for section in ("map", "neighbours", "users"):
        tab.locator(f"#{section}").scroll_into_view_if_needed()
    tab.wait_for_selector("#users-view .column")
    assert nodes(tab) < 5000
    assert tab.locator("img").count() < 200


def test_one_of_ten_thousand_is_picked(visit, large):
    tab = visit(file=large)
    tab.locator("#neighbours").scroll_into_view_if_needed()
    tab.get_by_role("combobox", name="Search items").fill("i9875")
    assert tab.locator(".found [role=option]").count() == 1
    tab.locator(".found [role=option]").click()
    tab.wait_for_function("document.querySelector('.picked')?.innerText.includes('id i9875')")
    assert tab.locator(".near").first.locator("a.card").first.get_attribute("data-row") == "9876"
    assert tab.locator(".near").count() == 4


def test_very_many_users_are_searched_not_dropped_down(visit):
    for count, listed in ((500, 1), (501, 0)):
        tab = visit(page(n_items=60, n_users=count), at="#user/u7")
        assert tab.locator("#users-view h3").inner_text() == "User u7"
        assert tab.get_by_label("User", exact=True).count() == listed
    tab.get_by_role("combobox", name="Search users").fill("u500")
    tab.keyboard.press("Enter")
    tab.wait_for_function("document.querySelector('#users-view h3').innerText === 'User u500'")


def test_hostile_texts_are_shown_as_texts(visit):
    texts = (
        "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- <b>'\"&lt;",
        "javascript:alert(1)", "\u202eשלום\u202c 👩‍👩‍👧 \u2028", "nul \x00 bell \x07",
    )  # fmt: skip
    items = tuple(
        Item(id=f"{text}/{k}", text=text, taken=k, category=text, thumbnail=None, why=text)
        for k, text in enumerate(texts)
    )
    tab = visit(page(n_items=6, n_users=0, items=items))
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    for text in texts:
        search = tab.get_by_role("combobox", name="Search items")
        search.fill(text[:20].replace("\x00", " "))
        search.press("Enter")
        shown = text.replace("\x00", "\ufffd").replace("\x07", "\ufffd")
        told = tab.locator(".picked .item-text").evaluate("node => node.textContent")
        assert told == shown
        assert tab.locator(".picked .item-text *").count() == 0
    assert tab.locator("script:not([type])").count() == 2

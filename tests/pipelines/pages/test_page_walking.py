"""The neighbour browser and the user page, by click and by keyboard alone."""

import re

import pytest
from support.page_items import catalogue
from support.pages import page

HEADING = "#neighbours-view .picked h3"


@pytest.fixture
def tab(visit):
    return visit(at="#item/i5")


def item(tab):
    """The id that is told of the picked item."""
    return re.search(r"id (\S+)", tab.locator(".picked").inner_text())[1]


def shows(tab, name):
    tab.wait_for_function(
        "id => document.querySelector('.picked')?.innerText.includes('id ' + id)", arg=name
    )
    return item(tab) == name


def test_the_address_names_the_item(tab):
    assert shows(tab, "i5")
    assert tab.locator("#neighbours").evaluate(
        "node => node.getBoundingClientRect().top < innerHeight"
    )


def test_a_click_on_a_neighbour_walks_there_and_back_comes_back(tab):
    # In the first space the neighbours of row 5 are 6, 7, ...; in the second 7, 9, ...
    tab.locator(".near").nth(1).locator("a.card").first.click()
    assert shows(tab, "i7")
    tab.locator(".near").first.locator("a.card").nth(2).click()
    assert shows(tab, "i10")
    tab.go_back()
    assert shows(tab, "i7")
    tab.go_back()
    assert shows(tab, "i5")
    tab.go_forward()
    assert shows(tab, "i7")


def test_common_neighbours_are_marked_with_the_other_spaces(tab):
    first = tab.locator(".near").first.locator("a.card")
    # Of row 5: A has 6..15, B the odd 7..25, C 8, 11, .. 35, D 9, 13, .. 45.
    assert "also" not in first.nth(0).inner_text()
    assert first.nth(1).locator(".letter").all_inner_texts() == ["B"]  # 7
    assert first.nth(2).locator(".letter").all_inner_texts() == ["C"]  # 8
    assert first.nth(3).locator(".letter").all_inner_texts() == ["B", "D"]  # 9
    assert first.nth(0).locator(".cosine").inner_text() == ".97"


def test_search_by_click(tab):
    box = tab.get_by_role("combobox", name="Search items")
    box.fill("i11")
    options = tab.locator(".found [role=option]")
    assert options.first.inner_text().endswith("i11")
    assert options.count() == 11  # i11, then i110 to i119
    options.nth(1).click()
    assert shows(tab, "i110")
    box.fill("what came 42")
    assert options.count() == 1
    box.fill("no such words")
    assert options.count() == 0


def test_search_and_walk_by_keyboard_alone(tab):
    tab.get_by_role("combobox", name="Search items").focus()
    tab.keyboard.type("i11")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert shows(tab, "i110")
    assert tab.evaluate("document.activeElement.matches('.picked h3, input')")
    tab.locator(HEADING).focus()
    tab.keyboard.press("Tab")  # into the first strip
    assert tab.evaluate("document.activeElement.dataset.row") == "111"
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("document.activeElement.dataset.row") == "112"
    tab.keyboard.press("Tab")  # a strip is one stop
    assert tab.evaluate("document.activeElement.closest('.near').innerText.startsWith('B')")
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Enter")
    assert shows(tab, "i112")
    assert tab.evaluate("document.activeElement.tagName") == "H3"


def test_enter_picks_only_what_is_listed(tab):
    box = tab.get_by_role("combobox", name="Search items")
    box.fill("i7")
    box.press("Enter")
    assert shows(tab, "i7")
    tab.get_by_role("button", name="Next item").click()
    assert shows(tab, "i8")
    box.press("Enter")  # the box is empty
    box.fill("i9")
    box.press("Escape")
    box.press("Enter")  # its list is closed
    assert tab.locator(".found:visible").count() == 0
    box.press("ArrowDown")  # opens it again
    assert tab.locator(".found:visible [role=option]").first.inner_text().endswith("i9")
    box.fill("no such words")
    box.press("Enter")
    tab.wait_for_timeout(100)
    assert shows(tab, "i8")


def test_steps_and_the_random_item(tab):
    tab.get_by_role("button", name="Next item").click()
    assert shows(tab, "i6")
    assert "No picture: file is missing" in tab.locator(".picked").inner_text()
    tab.get_by_role("button", name="Previous item").press("Enter")
    assert shows(tab, "i5")
    tab.evaluate("Math.random = () => 0.5")
    tab.get_by_role("button", name="Random item").click()
    assert shows(tab, "i60")


def test_the_first_has_the_last_before_it(visit):
    tab = visit(at="#item/i0")
    tab.get_by_role("button", name="Previous item").click()
    assert shows(tab, "i119")


def test_an_item_without_a_vector_says_so(visit):
    tab = visit(at="#item/i6")
    assert "no vector here" in tab.locator(".near").first.inner_text()
    assert tab.locator(".near").nth(1).locator("a.card").count() == 10


def test_spaces_are_chosen(tab):
    tab.get_by_text("Choose spaces").click()
    tab.get_by_label("B offline · text").uncheck()
    assert tab.locator(".near").count() == 3
    first = tab.locator(".near").first.locator("a.card")
    assert first.nth(1).locator(".letter").count() == 0


def test_where_two_spaces_disagree(tab):
    cards = tab.locator(".disagree a.card")
    assert cards.count() == 12
    # Nothing shared: every eleventh row from 0, the seventh ones aside; most taken first.
    shared = cards.locator(".meta").all_inner_texts()
    assert shared[:9] == ["0 % shared"] * 9
    assert [cards.nth(k).get_attribute("data-row") for k in range(2)] == ["0", "99"]
    cards.nth(1).click()
    assert shows(tab, "i99")


def test_an_unknown_or_broken_address_does_no_harm(visit):
    for address in ("#item/nobody", "#item/%E0%A4%A", "#user/nobody"):
        tab = visit(at=address)
        tab.locator("#neighbours").scroll_into_view_if_needed()
        assert shows(tab, "i0")  # the most often taken


def test_a_user_is_chosen_by_list_search_and_steps(visit):
    tab = visit(at="#user/u3")
    heading = tab.locator("#users-view h3")
    assert heading.inner_text() == "User u3"
    tab.get_by_label("User", exact=True).select_option(label="u7")
    tab.wait_for_function("location.hash === '#user/u7'")
    assert heading.inner_text() == "User u7"
    tab.get_by_role("combobox", name="Search users").fill("u1")
    tab.locator(".found [role=option]").nth(1).click()  # u1, u10, u11
    tab.wait_for_function("location.hash === '#user/u10'")
    tab.get_by_role("button", name="Next user").click()
    tab.get_by_role("button", name="Next user").click()  # past the end
    tab.wait_for_function("location.hash === '#user/u0'")
    tab.go_back()
    tab.wait_for_function("document.querySelector('#users-view h3').innerText === 'User u11'")


def test_hits_are_told_by_sign_and_word(visit):
    shown = page()
    user = shown.users[3]
    tab = visit(shown, at="#user/u3")
    columns = tab.locator("#users-view .column")
    names = [name.split("\n")[0] for name in columns.locator("h5").all_inner_texts()]
    assert names == [
        "freedom · offline",
        "freedom · shuffled:offline",
        "freedom · random",
        "lightgcn",
    ]
    for place, name in enumerate(names):
        hits = [k for k, row in enumerate(user.lists[name]) if row in user.held_out]
        lines = columns.nth(place).locator("li")
        assert lines.count() == 10
        marked = [k for k, text in enumerate(lines.all_inner_texts()) if "✓ hit" in text]
        assert marked == hits
        assert f"{len(hits)} hit" in columns.nth(place).locator("h5").inner_text()
    found = {row for rows in user.lists.values() for row in rows} & set(user.held_out)
    nobody = tab.get_by_role("list", name="Held out, found by nobody")
    rows = nobody.locator("a").evaluate_all("all => all.map(a => Number(a.dataset.row))")
    assert rows == [row for row in user.held_out if row not in found]
    assert rows  # some there are


def test_lists_and_history_by_keyboard_alone(visit):
    shown = page()
    tab = visit(shown, at="#user/u3")
    tab.locator("#users-view h3").focus()
    tab.keyboard.press("Tab")  # the history, one stop
    tab.keyboard.press("ArrowRight")
    row = tab.evaluate("document.activeElement.dataset.row")
    assert int(row) == shown.users[3].history[1]
    tab.keyboard.press("End")
    assert tab.evaluate("document.activeElement.innerText") == "Show all 36"
    tab.keyboard.press("Enter")
    assert tab.get_by_role("list", name="What user u3 took").locator("a").count() == 36
    tab.locator("#users-view .column").nth(1).locator("a").first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    wanted = shown.users[3].lists["freedom · shuffled:offline"][1]
    assert shows(tab, f"i{wanted}")


def test_systems_of_the_user_page_are_chosen(visit):
    tab = visit(at="#user/u0")
    tab.locator("#users-view").get_by_text("Choose systems").click()
    tab.locator("#users-view").get_by_label("bm3 · offline", exact=True).check()
    headings = tab.locator("#users-view .column h5").all_inner_texts()
    assert len(headings) == 5
    assert any(each.startswith("bm3 · offline") for each in headings)


def test_a_long_text_is_cut_until_it_is_asked_for(visit):
    items = list(catalogue(12))
    items[3] = items[3].model_copy(update={"text": "Long. " + "word " * 200 + "end"})
    tab = visit(page(n_items=12, n_users=0, items=items), at="#item/i3")
    text = tab.locator(".item-text")
    assert not text.inner_text().endswith("end")
    text.get_by_role("button", name="All of the text").press("Enter")
    assert text.inner_text().endswith("word end")

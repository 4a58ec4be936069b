"""What the page says of contrasts and seeds, in a browser."""

from support.pages import comparison, system

from pipelines.comparisons.contents import Estimate
from pipelines.pages.contents import Page


def test_a_contrast_is_told_as_the_answers_tell_it(visit):
    """At the level itself, and where seeds disagree; one number of seeds is told for each."""
    steady = system("a", "vbpr", "a", 0.3)
    seeds = (0.2, 0.35, 0.23)
    unsteady = system("b", "vbpr", "b", 0.26, test={"recall@20": Estimate(
        mean=0.26, low=0.25, high=0.27, seeds=seeds)})  # fmt: skip
    base = system("c", "lightgcn", "none", 0.22)
    one = comparison().contrasts[0]
    contrasts = [
        one.model_copy(update={"ours": ours, "theirs": "c", "p_corrected": 1 - 0.95} | more)
        for ours, more in (("a", {}), ("b", {}), ("a", {"p_corrected": 0.051}))
    ]
    found = comparison(systems=(steady, unsteady, base), contrasts=contrasts)
    tab = visit(Page(comparison=found))
    rows = tab.locator("#contrasts tbody tr:not(.group)")
    cells = [rows.nth(row).locator("td").all_inner_texts() for row in range(3)]
    assert [row[3] for row in cells] == ["better", "seeds disagree", "cannot be told"]
    assert [row[-1] for row in cells] == ["3 of 3", "2 of 3", "3 of 3"]
    assert rows.nth(1).locator("path.unsteady").count() == 1
    headings = tab.locator("#systems table").first.locator("thead th").all_inner_texts()
    place = [heading.strip() for heading in headings].index("Seeds")
    first = tab.locator("#systems table").first.locator("tbody tr").first
    assert first.locator("th, td:not(.plot)").nth(place).inner_text() == "3"


def test_systems_of_other_seeds_are_told(visit):
    assert "Systems differ in their seeds" not in visit().locator("#systems").inner_text()
    more = system("a", "vbpr", "a", 0.3).model_copy(update={"seeds": (0, 1)})
    tab = visit(Page(comparison=comparison(systems=(more, *comparison().systems), contrasts=())))
    assert "another item. Systems differ in their seeds" in tab.locator("#systems").inner_text()


def test_what_is_by_item_is_told(visit):
    plain = visit()
    assert not [t for t in plain.locator("#answers, #contrasts").all_inner_texts() if "cold" in t]
    cold = "cold-item recall@20"
    told = [
        each.model_copy(update={"test": each.test | {cold: each.test["recall@20"]}})
        for each in comparison().systems
    ]
    one = comparison().contrasts[0]
    pair = (one, one.model_copy(update={"metric": cold, "better": 0.4, "worse": 0.1}))
    tab = visit(Page(comparison=comparison(systems=told, contrasts=pair)))
    assert "over users (for cold-item recall: over items)" in tab.locator("#answers").inner_text()
    shown = tab.locator("#contrasts").inner_text()
    assert "recall@20 or cold-item recall@20 between two systems" in shown
    assert "or for the same cold items" in shown
    assert "(cold-item recall@20)" in tab.locator("#contrasts tr.group").nth(1).inner_text()
    assert "40 % / 10 %" in shown

"""A comparison as one Markdown document."""

from collections.abc import Iterator

from pipelines.comparisons.contents import Comparison
from pipelines.comparisons.measuring.unseen import is_of_cold_items
from pipelines.comparisons.telling.sheets import (
    Sheet,
    beyond_sheet,
    contrasts_sheet,
    facts_sheet,
    failures_sheet,
    published_sheet,
    questions_told,
    settings_sheet,
    slice_sheets,
    systems_sheet,
)
from pipelines.comparisons.words import counted, figure, percent


def markdown(comparison: Comparison) -> str:
    """The whole document: answers, systems, contrasts, slices, lists, failures, facts, command."""
    return "\n\n".join(block for block in _blocks(comparison) if block) + "\n"


def markdown_table(sheet: Sheet) -> str:
    """A table; figures to the right. Empty without rows."""
    if not sheet.rows:
        return ""
    rules = ["---" if name in sheet.words else "---:" for name in sheet.columns]
    rows = [sheet.columns, rules, *(list(row.values()) for row in sheet.rows)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _blocks(comparison: Comparison) -> Iterator[str]:
    yield f"# {comparison.name}: {comparison.dataset}"
    yield _opening(comparison)
    if comparison.command:
        yield f"```\n{comparison.command}\n```"
    if comparison.answers:
        yield "## Answers"
        yield "\n".join(f"* **{own.question}** {own.sentence}" for own in comparison.answers)
    yield from _section(systems_sheet(comparison), _how_systems(comparison))
    yield from _section(contrasts_sheet(comparison), _how_contrasts(comparison))
    slices = list(slice_sheets(comparison))
    if slices:
        yield "## Slices"
        yield _how_slices(comparison)
    for sheet in slices:
        yield from _section(sheet, level=3)
    yield from _section(beyond_sheet(comparison), HOW_BEYOND)
    yield from _section(published_sheet(comparison), comparison.facts.get("published figures", ""))
    yield from _section(settings_sheet(comparison))
    yield from _section(failures_sheet(comparison))
    yield from _section(facts_sheet(comparison))


def _section(sheet: Sheet, how: str = "", level: int = 2) -> Iterator[str]:
    if sheet.rows:
        yield f"{'#' * level} {sheet.title}"
        yield how
        yield markdown_table(sheet)


def _opening(comparison: Comparison) -> str:
    made = f", made {comparison.made}" if comparison.made else ""
    failed = counted(len(comparison.failures), "cell")
    return (
        f"Data set {comparison.dataset}, split {comparison.split}, protocol "
        f"**{comparison.protocol}**, {comparison.users:,} test users{made}."
        + (f" **{failed} gave no result**: see the end." if comparison.failures else "")
    )


def _how_systems(comparison: Comparison) -> str:
    unequal = len({own.seeds for own in comparison.systems}) > 1
    return (
        f"Means over users, of means over seeds; {percent(comparison.confidence)} intervals by "
        "bootstrap over users. They do not cover how much seeds differ: the next column tells that."
        + (UNEQUAL if unequal else "")
    )


def _how_contrasts(comparison: Comparison) -> str:
    asked = " ".join(f"*{name}*: {words}" for name, words in questions_told(comparison))
    return (
        f"{asked} Paired by user, seeds averaged before; p by {comparison.test}, corrected (Holm) "
        "for all contrasts of this table. A gain or a loss is told where the corrected p is at "
        f"most {figure(1 - comparison.confidence, 2)} and all seeds have its sign: the last column "
        "says how many have. d_z is the mean difference by its standard deviation."
        + (BY_ITEM if any(is_of_cold_items(own.metric) for own in comparison.contrasts) else "")
    )


def _how_slices(comparison: Comparison) -> str:
    return (
        "Of items: the share of all held-out pairs of a slice that is in lists of the whole "
        "catalogue; categories may share items. Of users: the mean of their recall. Behind each "
        f"figure half of its {percent(comparison.confidence)} interval."
    )


UNEQUAL = (
    " Systems differ in their seeds; contrasts are of those that both have, so that they may not "
    "be the differences of this table."
)
BY_ITEM = (
    " Cold-item recall: of items that nobody took in training, ranked among themselves, the share "
    "of those who hold an item out in whose list it is; its mean is over items, and it is paired "
    "by item. All users are shown nearly the same order of these few items, so that tests by user "
    "find differences between orders drawn by chance, too: only what is paired by item holds for "
    "other items."
)
HOW_BEYOND = (
    "Coverage: share of the catalogue in some list. Gini: 0 if all items are listed equally often. "
    "Novelty: mean surprise in bits. Popularity: mean number of users who took a listed item. "
    "Diversity: mean of 1 - cosine over the pairs of a list, by the same vectors for all systems."
)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

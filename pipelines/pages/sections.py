"""What a page has to show, section by section, as its templates want it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.comparisons.concluding.verdicts import Verdict, agreement, verdict
from pipelines.comparisons.contents import QUESTIONS, Comparison, Contrast, Estimate, System
from pipelines.comparisons.measuring.unseen import is_of_cold_items
from pipelines.pages.axes import Axis, axis, differences
from pipelines.pages.contents import Page

KINDS = {Verdict.GAIN: "more", Verdict.LOSS: "less", Verdict.UNSTEADY: "unsteady"}
# What stands beside the primary metric in the first table; all others are in the second one.
BESIDE = 3


@dataclass(frozen=True)
class Section:
    """A part of the page: its place, its heading, its short name in the navigation."""

    id: str
    title: str
    short: str


@dataclass(frozen=True)
class Group:
    """The contrasts that answer one question."""

    title: str
    contrasts: tuple[Contrast, ...]


SECTIONS = (
    Section("answers", "Answers", "Answers"),
    Section("systems", "How well each system ranks", "Systems"),
    Section("contrasts", "One against another", "Contrasts"),
    Section("slices", "For whom, and for which items", "Slices"),
    Section("beyond", "Beyond accuracy", "Beyond"),
    Section("published", "Beside published figures", "Published"),
    Section("curves", "How they learned", "Curves"),
    Section("settings", "Settings", "Settings"),
    Section("map", "A map of the catalogue", "Map"),
    Section("neighbours", "What is near what", "Neighbours"),
    Section("users", "What a user is shown", "Users"),
    Section("failures", "What failed", "Failures"),
    Section("facts", "What ran on what", "Provenance"),
)


def sections(page: Page) -> tuple[list[Section], list[Section]]:
    """The sections that a page has, and those missing; that nothing failed is no lack."""
    comparison = page.comparison
    there = {
        "answers": True,
        "systems": bool(comparison.systems),
        "contrasts": bool(comparison.contrasts),
        "slices": any(system.slices for system in comparison.systems),
        "beyond": any(system.beyond for system in comparison.systems),
        "published": bool(comparison.published),
        "curves": bool(page.curves),
        "settings": bool(comparison.systems),
        "map": bool(page.items) and any(any(space.xy) for space in page.spaces),
        "neighbours": bool(page.items),
        "users": bool(page.users) and bool(page.items),
        "failures": bool(comparison.failures),
        "facts": True,
    }
    missing = [s for s in SECTIONS if not there[s.id] and s.id != "failures"]
    return [s for s in SECTIONS if there[s.id]], missing


def metric_names(comparison: Comparison) -> list[str]:
    """All metrics of the test interactions, the primary one first."""
    names = dict.fromkeys(name for system in comparison.systems for name in system.test)
    return sorted(names, key=lambda name: name != comparison.primary)


def shown_metrics(comparison: Comparison) -> list[str]:
    """The primary metric and a few others: those of its cutoff, then recall and NDCG."""
    primary, *others = metric_names(comparison) or [comparison.primary]
    kind, _, cutoff = primary.partition("@")
    wanted = [f"{name}@{at}" for at in (cutoff, "10") for name in (kind, "ndcg", "recall")]
    others.sort(key=lambda name: wanted.index(name) if name in wanted else len(wanted))
    return [primary, *others[:BESIDE]]


def some_by_item(metrics: Iterable[str]) -> bool:
    """Whether a mean of one of these metrics is over cold items, not users."""
    return any(map(is_of_cold_items, metrics))


def bars(comparison: Comparison) -> Axis:
    """The line on which the systems' primary metric is drawn."""
    estimates = [each.test.get(comparison.primary) for each in comparison.systems]
    return axis([x for each in estimates if each for x in _numbers(each)])


def forest(comparison: Comparison) -> Axis:
    """The line on which differences are drawn, around zero."""
    ends = [x for each in comparison.contrasts for x in (each.low, each.high, each.difference)]
    return differences(ends)


def groups(comparison: Comparison) -> list[Group]:
    """Contrasts by metric and question, in the order in which the questions are told."""
    told = []
    for metric in dict.fromkeys(each.metric for each in comparison.contrasts):
        of_metric = "" if metric == comparison.primary else f" ({metric})"
        for question, words in QUESTIONS.items():
            alike = (metric, question)
            found = tuple(c for c in comparison.contrasts if (c.metric, c.question) == alike)
            if found:
                told.append(Group(f"{words}{of_metric}", found))
    return told


def by_name(comparison: Comparison) -> dict[str, System]:
    """The systems by their names."""
    return {each.name: each for each in comparison.systems}


def kind(contrast: Contrast, systems: Mapping[str, System], confidence: float) -> str:
    """How a contrast is drawn: ``more``, ``less``, ``unsteady`` or ``open``."""
    return KINDS.get(verdict(contrast, systems, confidence), "open")


def seeds_agreeing(contrast: Contrast, systems: Mapping[str, System]) -> str:
    """In how many of the common seeds a difference has the sign of its mean, ``2 of 3``."""
    found = agreement(contrast, systems)
    return found.shown if found.seeds else "none in common"


def beyond_names(comparison: Comparison) -> list[str]:
    """All beyond-accuracy measures, as they come."""
    return list(dict.fromkeys(name for system in comparison.systems for name in system.beyond))


def told_apart(systems: tuple[System, ...]) -> bool:
    """Whether anything is known of items that nobody took."""
    return any(system.scores_unseen is not None for system in systems)


def _numbers(estimate: Estimate) -> tuple[float | None, ...]:
    return (estimate.mean, estimate.low, estimate.high, *estimate.seeds)

"""A comparison's tables as texts, for the terminal and for Markdown alike."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from pipelines.comparisons.concluding.verdicts import agreement
from pipelines.comparisons.contents import QUESTIONS, Comparison, Estimate, System
from pipelines.comparisons.words import NOTHING, figure, interval, p_value, percent
from pipelines.progress import plain_table

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        title: What it shows.
        rows: Heading to cell, all with the same headings.
        words: Headings of columns of words; the others hold figures.
    """

    title: str
    rows: Sequence[dict[str, str]]
    words: frozenset[str]

    @property
    def columns(self) -> list[str]:
        """The headings."""
        return list(self.rows[0]) if self.rows else []

    def table(self) -> Table:
        """For `pipelines.progress.print_table`."""
        figures = [name for name in self.columns if name not in self.words]
        return plain_table(self.columns, [list(row.values()) for row in self.rows], figures)


def systems_sheet(comparison: Comparison) -> Sheet:
    """All systems, best first: the primary metric with its interval and seeds, and the others."""
    known = comparison.systems[0].test if comparison.systems else {}
    others = [name for name in dict.fromkeys((*METRICS, *known)) if name != comparison.primary]
    rows = [
        {
            "system": own.name,
            **_primary(own.test[comparison.primary], comparison),
            **{name: figure(own.test[name].mean) for name in others},
            "seeds": str(len(own.seeds)),
            "epoch": _range(own.epochs),
            "seconds": _range([round(seconds) for seconds in own.seconds]),
        }
        for own in comparison.systems
    ]
    return Sheet("Systems, best first", rows, frozenset({"system"}))


def contrasts_sheet(comparison: Comparison) -> Sheet:
    """All contrasts, in the order of the questions."""
    ends = f"{percent(comparison.confidence)} interval"
    systems = {own.name: own for own in comparison.systems}
    rows = [
        {
            "question": own.question,
            "ours": own.ours,
            "theirs": own.theirs,
            "metric": own.metric,
            "difference": figure(own.difference, signed=True),
            ends: interval(own.low, own.high),
            "p": p_value(own.p).removeprefix("p "),
            "corrected": p_value(own.p_corrected).removeprefix("p "),
            "d_z": figure(own.effect, 2),
            "better / worse": f"{own.better:.0%} / {own.worse:.0%}",
            "seeds": agreement(own, systems).shown,
        }
        for own in comparison.contrasts
    ]
    return Sheet("Contrasts", rows, frozenset({"question", "ours", "theirs", "metric"}))


def slice_sheets(comparison: Comparison) -> Iterator[Sheet]:
    """One for each kind of slice: a row for each system, a column for each slice."""
    slices = comparison.systems[0].slices if comparison.systems else ()
    for kind in dict.fromkeys(own.kind for own in slices):
        yield Sheet(
            f"Recall@{comparison.primary.partition('@')[2]} by {kind}",
            [_of_slices(own, kind) for own in comparison.systems],
            frozenset({"system"}),
        )


def beyond_sheet(comparison: Comparison) -> Sheet:
    """Lists beyond their hits."""
    rows = [
        {"system": own.name, **{name: _beyond(value) for name, value in own.beyond.items()}}
        for own in comparison.systems
    ]
    return Sheet("Lists beyond their hits", rows, frozenset({"system"}))


def settings_sheet(comparison: Comparison) -> Sheet:
    """Settings that are not the models' defaults, and how they were found."""
    rows = [
        {
            "system": own.name,
            "settings": ", ".join(f"{key}={value}" for key, value in own.settings.items()),
            "trials": str(own.searched),
        }
        for own in comparison.systems
        if own.settings or own.searched
    ]
    return Sheet("Settings that are not the defaults", rows, frozenset({"system", "settings"}))


def published_sheet(comparison: Comparison) -> Sheet:
    """Published figures beside ours."""
    rows = [
        {
            "system": own.system,
            "metric": own.metric,
            "published": figure(own.published),
            "ours": figure(own.ours),
            "source": own.source,
            "note": own.note,
        }
        for own in comparison.published
    ]
    return Sheet(
        "Published figures beside ours", rows, frozenset({"system", "metric", "source", "note"})
    )


def failures_sheet(comparison: Comparison) -> Sheet:
    """Cells without a result."""
    rows = [{"cell": own.cell, "error": own.error} for own in comparison.failures]
    return Sheet("Cells without a result", rows, frozenset({"cell", "error"}))


def facts_sheet(comparison: Comparison) -> Sheet:
    """What ran on what."""
    rows = [{"what": what, "is": value} for what, value in comparison.facts.items()]
    return Sheet("What ran on what", rows, frozenset({"what", "is"}))


def answers_sheet(comparison: Comparison) -> Sheet:
    """Questions and answers."""
    rows = [{"question": own.question, "answer": own.sentence} for own in comparison.answers]
    return Sheet("Answers", rows, frozenset({"question", "answer"}))


def questions_told(comparison: Comparison) -> Iterable[tuple[str, str]]:
    """The short name and the words of each question that has contrasts."""
    present = {own.question for own in comparison.contrasts}
    return [(name, words) for name, words in QUESTIONS.items() if name in present]


def _primary(estimate: Estimate, comparison: Comparison) -> dict[str, str]:
    known = [value for value in estimate.seeds if value is not None]
    return {
        comparison.primary: figure(estimate.mean),
        f"{percent(comparison.confidence)} interval": interval(estimate.low, estimate.high),
        "lowest to highest seed": interval(min(known), max(known)) if known else NOTHING,
    }


def _of_slices(system: System, kind: str) -> dict[str, str]:
    cells = {}
    for own in system.slices:
        if own.kind == kind:
            heading = f"{own.name} ({own.pairs:,} pairs)"
            cells[heading] = NOTHING
            if own.recall.low is not None and own.recall.high is not None:
                half = (own.recall.high - own.recall.low) / 2
                cells[heading] = f"{figure(own.recall.mean)} ± {figure(half)}"
    return {"system": system.name, **cells}


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _beyond(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else figure(value)

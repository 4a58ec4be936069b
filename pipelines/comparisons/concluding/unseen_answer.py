"""The answer on items that nobody took in training, where the test asks for them."""

from collections.abc import Iterable, Sequence

from pipelines.comparisons.contents import Answer, Comparison, Estimate, System
from pipelines.comparisons.measuring.slicing import AMONG
from pipelines.comparisons.measuring.unseen import Chances
from pipelines.comparisons.words import figure, interval, listed, percent

QUESTION = "Can items be recommended that nobody took in training?"
# Of the test pairs; with fewer the other answers are of other items.
LEAST_SHARE = 0.5


def unseen_answer(comparison: Comparison, chance: Chances) -> list[Answer]:
    """One answer where most test pairs are with unseen items, else none.

    Args:
        comparison: The numbers.
        chance: What lists drawn by chance find.
    """
    if chance.unseen is None or chance.share < LEAST_SHARE:
        return []
    real = [own for own in comparison.systems if own.scores_unseen and own.control is None]
    sentence = f"{_who(comparison.systems)}{_how_well(real, comparison, chance)}."
    return [Answer(question=QUESTION, sentence=sentence)]


def _who(systems: Sequence[System]) -> str:
    able = _models(own for own in systems if own.scores_unseen and own.control is None)
    unable = [name for name in _models(systems) if name not in able]
    if not able:
        return "None of the models compared tells such items apart"
    every = len(able) + len(unable)
    if not unable:
        which = {1: "The one model compared tells", 2: "Both models tell"}
        return f"{which.get(every, f'All {every} models tell')} such items apart"
    verb = "tells" if len(able) == 1 else "tell"
    return (
        f"{len(able)} of {every} models {verb} such items apart ({', '.join(able)}), "
        f"{listed(unable)} cannot"
    )


def _how_well(real: Sequence[System], comparison: Comparison, chance: Chances) -> str:
    k = comparison.primary.partition("@")[2]
    among = [(own.name, _among(own)) for own in real]
    told = _against_chance(among, chance.unseen, f"recall@{k}", comparison.confidence)
    if not told:
        return ""
    told = f"; of systems with real features {told} rank them better than chance among themselves"
    if comparison.primary == f"recall@{k}":
        whole = [(own.name, own.test[comparison.primary]) for own in real]
        against = _against_chance(whole, chance.whole, comparison.primary, comparison.confidence)
        told += f", and {against} in lists of the whole catalogue"
    return told + _untrained(real)


def _untrained(real: Sequence[System]) -> str:
    """How many of the systems had their best weights before training had begun in earnest."""
    first = sum(max(own.epochs) <= 1 for own in real)
    verb = "was" if first == 1 else "were"
    return f"; {first} of {len(real)} {verb} best in the first epoch, in all seeds" if first else ""


def _against_chance(
    estimates: Sequence[tuple[str, Estimate]], bar: float | None, metric: str, confidence: float
) -> str:
    """How many have an interval above chance, and which is best."""
    known = [
        (name, own.mean, own.low, own.high)
        for name, own in estimates
        if own.mean is not None and own.low is not None
    ]
    if not known or bar is None:
        return ""
    above = sum(low > bar for _, _, low, _ in known)
    name, mean, low, high = max(known, key=lambda own: own[1])
    return (
        f"{above or 'none'} of {len(known)} (at best {name}: {metric} {figure(mean)}, "
        f"{percent(confidence)} interval {interval(low, high)}, chance {figure(bar)})"
    )


def _among(system: System) -> Estimate:
    found = [own.recall for own in system.slices if own.kind == AMONG]
    return found[0] if found else Estimate(mean=None, low=None, high=None)


def _models(systems: Iterable[System]) -> list[str]:
    return sorted({own.model for own in systems})

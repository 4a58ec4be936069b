"""The answer on items that nobody took in training, where the test asks for them."""

from collections.abc import Iterable, Sequence

from pipelines.comparisons.contents import Answer, Comparison, System
from pipelines.comparisons.measuring.unseen import LEAST_SHARE, Chances, cold_recall
from pipelines.comparisons.words import figure, listed

QUESTION = "Can items be recommended that nobody took in training?"


def unseen_answer(comparison: Comparison, chance: Chances) -> list[Answer]:
    """One answer where most test pairs are with unseen items, else none.

    Args:
        comparison: The numbers.
        chance: What lists drawn by chance find.
    """
    if chance.unseen is None or chance.share < LEAST_SHARE:
        return []
    sentence = f"{_who(comparison.systems)}{_how_well(comparison, chance)}."
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


def _how_well(comparison: Comparison, chance: Chances) -> str:
    """The best with real features and the best control beside chance, by each of two metrics.

    Whether the one is better than the other the contrasts tell; of a ranking that knows nothing an
    interval over users would often lie beside chance.
    """
    able = [own for own in comparison.systems if own.scores_unseen]
    cutoff = comparison.primary.partition("@")[2]
    among = _beside_chance(able, cold_recall(int(cutoff)), chance.unseen)
    if not among:
        return ""
    told = f"; among themselves they are ranked best by {among}"
    if comparison.primary == f"recall@{cutoff}":
        whole = _beside_chance(able, comparison.primary, chance.whole)
        told += f", in lists of the whole catalogue by {whole}"
    return told + _untrained([own for own in able if own.control is None])


def _beside_chance(systems: Sequence[System], metric: str, bar: float | None) -> str:
    """Which system with real features is best, and what the best control and chance find."""
    real = [own for own in systems if own.control is None and metric in own.test]
    if not real or bar is None:
        return ""
    best = max(real, key=lambda own: own.test[metric].mean or 0.0)
    told = f"{best.name} ({metric} {figure(best.test[metric].mean)}"
    controls = [own for own in systems if own.control is not None and metric in own.test]
    if controls:
        hardest = max(controls, key=lambda own: own.test[metric].mean or 0.0)
        told += f"; the best control, {hardest.name}, {figure(hardest.test[metric].mean)}"
    return f"{told}; chance {figure(bar)})"


def _untrained(real: Sequence[System]) -> str:
    """How many of the systems had their best weights before training had begun in earnest."""
    first = sum(max(own.epochs) <= 1 for own in real)
    verb = "was" if first == 1 else "were"
    return f"; {first} of {len(real)} {verb} best in the first epoch, in all seeds" if first else ""


def _models(systems: Iterable[System]) -> list[str]:
    return sorted({own.model for own in systems})

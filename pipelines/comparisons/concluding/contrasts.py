"""Which systems are set against each other for each question, and what comes of it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from extract.files import digest
from pipelines.comparisons.contents import Contrast, Question
from pipelines.comparisons.measuring.feature_sets import FeatureSet, bases
from pipelines.comparisons.measuring.outcomes import Outcome
from pipelines.comparisons.measuring.systems import Group
from pipelines.workspace import SHUFFLED
from recommend.significance import Test, compare, holm

Pair = tuple[Question, Group, Group]
# Of two feature sets the one whose gain is asked for comes first.
RANKS = {"large multimodal": 0, "unknown": 1, "modality-specific": 2, "random": 3}


def pairs(groups: Sequence[Group], sets: Mapping[str, FeatureSet], best: str | None) -> list[Pair]:
    """All pairs that a question asks for, ours before theirs, in the order of the questions.

    Where several systems could stand on a side, as with two learning rates, those do whose
    settings are nearest; results have no say in it.

    Args:
        groups: The systems.
        sets: What is known of their feature sets.
        best: Name of the system that sees interactions only to set others against; None if there
            is none.
    """
    groups = sorted(groups, key=lambda group: group.name)
    real = [group for group in groups if group.is_real]
    found: list[Pair] = []
    for ours in real:
        found += [("content", ours, theirs) for theirs in _controls(ours, groups)]
    for ours in real:
        found += [("encoder", ours, theirs) for theirs in _other_encoders(ours, real, sets)]
    for ours in real:
        found += [("fine-tuning", ours, theirs) for theirs in _untuned(ours, real, sets)]
    for ours in real:
        found += [("end-to-end", ours, theirs) for theirs in _frozen(ours, real)]
    found = [pair for pair in found if _is_nearest(*pair[1:], real)]
    for theirs in (group for group in groups if group.name == best):
        found += [("model", ours, theirs) for ours in real if ours.regime == "frozen"]
    return found


def best_without_features(groups: Sequence[Group], metric: str) -> str | None:
    """Of the systems that see interactions only the best on validation; None if there is none.

    The best of the test would have been chosen by the chance that it is to be judged by.

    Args:
        groups: The systems.
        metric: By which.
    """
    plain = {
        group.name: np.mean([run.metrics["validation"][metric] for run in group.runs])
        for group in groups
        if not group.uses_features
    }
    return max(sorted(plain), key=lambda name: plain[name]) if plain else None


def contrasts(
    found: Mapping[str, Sequence[Pair]],
    outcomes: Mapping[str, Outcome],
    seed: int,
    test: Test,
    confidence: float,
) -> list[Contrast]:
    """The contrasts of pairs, corrected for all of them together.

    Args:
        found: Metric to the pairs that are compared by it, as `pairs` gave them.
        outcomes: The systems by name.
        seed: Of the draws, with the names of a pair: the order of the pairs is of no matter.
        test: Which test gives p.
        confidence: Of the intervals.
    """
    told = [
        _contrast(
            question, outcomes[ours.name], outcomes[theirs.name], metric, seed, test, confidence
        )
        for metric, of_metric in found.items()
        for question, ours, theirs in of_metric
    ]
    corrected = holm([own.p for own in told])
    return [
        own.model_copy(update={"p_corrected": float(p)})
        for own, p in zip(told, corrected, strict=True)
    ]


def common_seeds(one: Group, other: Group) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds that two systems are compared on: those of both, or all where none is of both."""
    both = tuple(sorted(set(one.seeds) & set(other.seeds)))
    return (both, both) if both else (one.seeds, other.seeds)


def _contrast(
    question: Question,
    ours: Outcome,
    theirs: Outcome,
    metric: str,
    seed: int,
    test: Test,
    confidence: float,
) -> Contrast:
    names = f"{ours.name}\n{theirs.name}\n{metric}"
    generator = np.random.default_rng([seed, int(digest([names])[:16], 16)])
    own, other = common_seeds(ours.group, theirs.group)
    result = compare(
        ours.of_units(metric, own), theirs.of_units(metric, other), generator, test, confidence
    )
    return Contrast(
        question=question,
        ours=ours.name,
        theirs=theirs.name,
        metric=metric,
        difference=result.difference,
        low=result.low,
        high=result.high,
        p=result.p,
        p_corrected=result.p,
        effect=result.effect if np.isfinite(result.effect) else None,
        better=result.better,
        worse=result.worse,
        one_sign=result.one_sign,
    )


def _controls(ours: Group, groups: Sequence[Group]) -> Iterator[Group]:
    """The features shuffled, or other ones if these were not, and the random ones."""
    alike = [own for own in groups if own.model == ours.model and own.regime == ours.regime]
    shuffled = [own for own in alike if own.control == "shuffled"]
    exact = [own for own in shuffled if own.features == SHUFFLED + ours.features]
    for candidates in (exact or shuffled, [own for own in alike if own.control == "random"]):
        names = sorted({own.features for own in candidates})
        yield from (_nearest(ours, [c for c in candidates if c.features == n]) for n in names)


def _other_encoders(
    ours: Group, real: Sequence[Group], sets: Mapping[str, FeatureSet]
) -> Iterator[Group]:
    """Systems of the same model whose features are of another encoder that comes after ours."""
    if ours.regime != "frozen" or not _is_untuned(ours, sets):
        return
    others: dict[str, list[Group]] = {}
    for own in real:
        if own.model == ours.model and own.regime == "frozen" and _is_untuned(own, sets):
            others.setdefault(own.features, []).append(own)
    mine = _rank(ours.features, sets)
    for features, candidates in others.items():
        if mine < _rank(features, sets):
            yield _nearest(ours, candidates)


def _untuned(ours: Group, real: Sequence[Group], sets: Mapping[str, FeatureSet]) -> Iterator[Group]:
    """Systems of the same model and regime with the features of the encoder before its tuning."""
    own = sets.get(ours.features)
    if own is None or not own.tuned:
        return
    for base in bases(own, sets.values()):
        candidates = [
            other
            for other in real
            if (other.model, other.regime) == (ours.model, ours.regime)
            and other.features == base.name
        ]
        if candidates:
            yield _nearest(ours, candidates)


def _frozen(ours: Group, real: Sequence[Group]) -> Iterator[Group]:
    """The same model on the same features as they are, if ours is of another regime."""
    candidates = [
        own
        for own in real
        if own.regime == "frozen" and (own.model, own.features) == (ours.model, ours.features)
    ]
    if ours.regime != "frozen" and candidates:
        yield _nearest(ours, candidates)


def _nearest(ours: Group, candidates: Sequence[Group]) -> Group:
    """The one with the fewest other settings; of several the first by name."""
    return min(candidates, key=lambda other: (_distance(ours, other), other.name))


def _is_nearest(ours: Group, theirs: Group, real: Sequence[Group]) -> bool:
    """Whether no other variant of ours has settings that are nearer to theirs."""
    alike = (ours.model, ours.features, ours.regime)
    variants = [own for own in real if (own.model, own.features, own.regime) == alike]
    return _distance(ours, theirs) == min(_distance(own, theirs) for own in variants)


def _distance(one: Group, other: Group) -> int:
    """How many settings two systems do not share."""
    keys = set(one.settings) | set(other.settings)
    return sum(one.settings.get(key) != other.settings.get(key) for key in keys)


def _is_untuned(group: Group, sets: Mapping[str, FeatureSet]) -> bool:
    return group.features not in sets or not sets[group.features].tuned


def _rank(features: str, sets: Mapping[str, FeatureSet]) -> tuple[int, str]:
    kind = sets[features].kind if features in sets else "unknown"
    return RANKS[kind], features

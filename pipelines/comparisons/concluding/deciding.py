"""Which contrasts decide a question."""

from collections.abc import Iterable, Mapping, Sequence

from pipelines.comparisons.contents import Comparison, Contrast, Question, System
from pipelines.comparisons.measuring.feature_sets import Kind
from pipelines.workspace import SHUFFLED

Kinds = Mapping[str, Kind]
Systems = Mapping[str, System]


def asked(
    question: Question, metric: str, comparison: Comparison, systems: Systems, kinds: Kinds
) -> list[Contrast]:
    """The contrasts by a metric that decide a question.

    Content must beat every control, so that of the controls of a system the hardest one decides;
    where some features have their own shuffled, others, whose control is of other vectors, do not
    decide. Of encoders only large multimodal ones against modality-specific ones are asked about,
    and of regimes only the one whose loss reaches the encoder.
    """
    own = [one for one in comparison.contrasts if (one.question, one.metric) == (question, metric)]
    if question == "content":
        return _hardest(_with_own_control(own, systems))
    if question == "encoder":
        wanted = ("large multimodal", "modality-specific")
        return [
            one
            for one in own
            if tuple(kinds.get(systems[name].features) for name in (one.ours, one.theirs)) == wanted
        ]
    if question == "end-to-end":
        return [one for one in own if systems[one.ours].regime == "end-to-end"]
    return own


def _with_own_control(own: Sequence[Contrast], systems: Systems) -> Sequence[Contrast]:
    """The contrasts of systems whose own features were shuffled; all, where there are none."""
    decided = {
        one.ours
        for one in own
        if systems[one.theirs].features == SHUFFLED + systems[one.ours].features
    }
    return [one for one in own if one.ours in decided] or own


def _hardest(own: Iterable[Contrast]) -> list[Contrast]:
    by_system: dict[str, Contrast] = {}
    for contrast in own:
        former = by_system.get(contrast.ours)
        if former is None or contrast.difference < former.difference:
            by_system[contrast.ours] = contrast
    return list(by_system.values())

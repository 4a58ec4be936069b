"""Which contrasts decide a question."""

from collections.abc import Iterable, Mapping, Sequence

from pipelines.comparisons.concluding.verdicts import Verdict, verdict
from pipelines.comparisons.contents import Comparison, Contrast, Question, System
from pipelines.comparisons.measuring.feature_sets import Kind
from pipelines.workspace import SHUFFLED

Kinds = Mapping[str, Kind]
Systems = Mapping[str, System]
# How far a control is from not being beaten.
EASE = {Verdict.LOSS: 0, Verdict.NONE: 1, Verdict.UNSTEADY: 1, Verdict.GAIN: 2}


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
        return _hardest(_with_own_control(own, systems), systems, comparison.confidence)
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


def _hardest(own: Iterable[Contrast], systems: Systems, confidence: float) -> list[Contrast]:
    """Of each system the contrast with the control that it does worst against.

    A control that is not beaten beyond chance is harder than one that is, however small the gain.
    """
    by_system: dict[str, list[Contrast]] = {}
    for contrast in own:
        by_system.setdefault(contrast.ours, []).append(contrast)

    def ease(contrast: Contrast) -> tuple[int, float]:
        return EASE[verdict(contrast, systems, confidence)], contrast.difference

    return [min(contrasts, key=ease) for contrasts in by_system.values()]

"""What to run where a question was not asked."""

from collections.abc import Mapping

from pipelines.comparisons.contents import Comparison, Question, System
from pipelines.comparisons.measuring.feature_sets import Kind
from pipelines.comparisons.words import listed


def why_not(question: Question, comparison: Comparison, kinds: Mapping[str, Kind]) -> str:
    """Why no contrast decides a question, and what would.

    Args:
        question: Which.
        comparison: The numbers.
        kinds: Of the encoders, by feature set.
    """
    real = [own for own in comparison.systems if own.control is None and own.features != "none"]
    if not real:
        return (
            "Not asked: no model was compared that sees real features; add --models freedom,vbpr "
            "and --features NAME."
        )
    return {
        "content": _content,
        "encoder": _encoder,
        "fine-tuning": _fine_tuning,
        "end-to-end": _end_to_end,
        "model": _model,
    }[question](real, kinds)


def _content(real: list[System], kinds: Mapping[str, Kind]) -> str:
    name = real[0].features
    return (
        f"Not asked: there is no control for the features {name}; add --features "
        f"random,shuffled:{name}."
    )


def _encoder(real: list[System], kinds: Mapping[str, Kind]) -> str:
    found = {kinds.get(own.features, "unknown") for own in real}
    both = {"large multimodal", "modality-specific"}
    lacking = {"large multimodal": "clip", "modality-specific": "offline"}
    missing = [kind for kind in lacking if kind not in found]
    if found >= both:
        return (
            "Not asked: no model was compared with untuned features of both kinds of encoder; "
            "give all of them the same --features."
        )
    return (
        f"Not asked: there are no features of a {' or '.join(missing)} encoder; add --features "
        f"{','.join(lacking[kind] for kind in missing)}."
    )


def _fine_tuning(real: list[System], kinds: Mapping[str, Kind]) -> str:
    names = sorted({own.features for own in real})
    return (
        f"Not asked: no features of a tuned encoder were compared with those of its base (found "
        f"{listed(names)}); tune one with mmrec-finetune, extract with it, and add its --features."
    )


def _end_to_end(real: list[System], kinds: Mapping[str, Kind]) -> str:
    regimes = {own.regime for own in real}
    if "end-to-end" in regimes:
        return (
            "Not asked: no end-to-end system stands beside a frozen one of the same model and "
            "features; add --regimes frozen."
        )
    return "Not asked: no system trained through its encoder; add --regimes end-to-end."


def _model(real: list[System], kinds: Mapping[str, Kind]) -> str:
    return "Not asked: there is no model that sees interactions only; add --models lightgcn."

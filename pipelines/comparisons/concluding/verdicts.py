"""What contrasts say of a model: it gains, it loses, both, or chance explains what was seen."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from pipelines.comparisons.contents import Contrast, System


class Agreement(NamedTuple):
    """In how many of the seeds a difference has the sign of its mean.

    The tests are about users; whether another training run would find the same they do not tell.
    """

    agreeing: int
    seeds: int

    @property
    def shown(self) -> str:
        """``2 of 3``."""
        return f"{self.agreeing} of {self.seeds}"


def agreement(contrast: Contrast, systems: Mapping[str, System]) -> Agreement:
    """How far the seeds that two systems have in common agree on a contrast.

    Args:
        contrast: Which.
        systems: By name.
    """
    ours, theirs = (_by_seed(systems[name], contrast) for name in (contrast.ours, contrast.theirs))
    common = sorted(set(ours) & set(theirs))
    signs = [(ours[seed] - theirs[seed]) * contrast.difference > 0 for seed in common]
    return Agreement(sum(signs), len(signs))


def _by_seed(system: System, contrast: Contrast) -> dict[int, float]:
    means = system.test[contrast.metric].seeds
    return {seed: mean for seed, mean in zip(system.seeds, means, strict=True) if mean is not None}


class Verdict(Enum):
    """Of a contrast or, over several, of a model; only a model can have both."""

    GAIN = "gain"
    LOSS = "loss"
    BOTH = "both"
    NONE = "none"


def verdict(contrast: Contrast, confidence: float) -> Verdict:
    """What one contrast says at the level 1 - confidence, corrected for all contrasts."""
    # 1 - 0.95 is a little more than 0.05, and what is written as .05 must count.
    if contrast.p_corrected > 1 - confidence + 1e-12 or not contrast.difference:
        return Verdict.NONE
    return Verdict.GAIN if contrast.difference > 0 else Verdict.LOSS


def by_model(
    contrasts: Iterable[Contrast], systems: Mapping[str, System], confidence: float
) -> dict[str, Verdict]:
    """What its contrasts say of each model, in the order of the models' first contrast.

    Args:
        contrasts: Of one question.
        systems: By name.
        confidence: Of the comparison.
    """
    found: dict[str, set[Verdict]] = {}
    for contrast in contrasts:
        of_model = found.setdefault(systems[contrast.ours].model, set())
        of_model.add(verdict(contrast, confidence))
    return {model: _together(own) for model, own in found.items()}


def _together(found: set[Verdict]) -> Verdict:
    told = found - {Verdict.NONE}
    if len(told) > 1:
        return Verdict.BOTH
    return next(iter(told), Verdict.NONE)

"""What contrasts say of a model: it gains, it loses, both, or chance explains what was seen."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from pipelines.comparisons.contents import Contrast, System


class Agreement(NamedTuple):
    """How many of some agree, such as seeds in which a difference has the sign of its mean.

    The tests are about users; whether another training run would find the same they do not tell.
    """

    agreeing: int
    seeds: int

    @property
    def shown(self) -> str:
        """``2 of 3``."""
        return f"{self.agreeing} of {self.seeds}"

    @property
    def whole(self) -> bool:
        """Whether all agree."""
        return self.agreeing == self.seeds


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
    """Of a contrast or, over several, of a model; only a model can have both.

    `UNSTEADY` is a difference beyond what chance among users explains whose sign not all seeds
    share: another training might find the contrary.
    """

    GAIN = "gain"
    LOSS = "loss"
    BOTH = "both"
    UNSTEADY = "unsteady"
    NONE = "none"


def verdict(contrast: Contrast, systems: Mapping[str, System], confidence: float) -> Verdict:
    """What one contrast says at the level 1 - confidence, corrected for all contrasts.

    Args:
        contrast: Which.
        systems: By name.
        confidence: Of the comparison.
    """
    # 1 - 0.95 is a little more than 0.05, and what is written as .05 must count.
    beyond = contrast.p_corrected <= 1 - confidence + 1e-12
    if not beyond or not contrast.difference or not contrast.one_sign:
        return Verdict.NONE
    seeds = agreement(contrast, systems)
    if not seeds.whole:
        return Verdict.UNSTEADY
    return Verdict.GAIN if contrast.difference > 0 else Verdict.LOSS


def by_model(
    contrasts: Iterable[Contrast], systems: Mapping[str, System], confidence: float
) -> dict[str, tuple[Verdict, Agreement]]:
    """What its contrasts say of each model, and how many of them, in order of their first one.

    Args:
        contrasts: Of one question.
        systems: By name.
        confidence: Of the comparison.
    """
    found: dict[str, list[Verdict]] = {}
    for contrast in contrasts:
        of_model = found.setdefault(systems[contrast.ours].model, [])
        of_model.append(verdict(contrast, systems, confidence))
    return {model: _together(own) for model, own in found.items()}


def _together(found: Sequence[Verdict]) -> tuple[Verdict, Agreement]:
    """The strongest verdict, or both of the strong ones, and of how many contrasts it is."""
    strong = {own for own in found if own in (Verdict.GAIN, Verdict.LOSS)}
    if len(strong) > 1:
        return Verdict.BOTH, Agreement(len(found), len(found))
    one = next(iter(strong), Verdict.UNSTEADY if Verdict.UNSTEADY in found else Verdict.NONE)
    return one, Agreement(found.count(one), len(found))

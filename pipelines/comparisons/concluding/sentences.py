"""Contrasts of one question as a sentence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from pipelines.comparisons.concluding.deciding import Systems
from pipelines.comparisons.concluding.verdicts import Agreement, Verdict, agreement, by_model
from pipelines.comparisons.concluding.verdicts import verdict as verdict_of
from pipelines.comparisons.contents import Contrast
from pipelines.comparisons.words import figure, interval, listed, p_value, percent

SAME = "both find exactly the same"


@dataclass(frozen=True)
class Subject:
    """Of whom a sentence tells that they gain or lose.

    Attributes:
        words: With what they are compared, and their name.
        many: Whether the verb is in the plural.
    """

    words: str
    many: bool = True

    def verb(self, plural: str, singular: str) -> str:
        """The form of a verb."""
        return plural if self.many else singular


@dataclass(frozen=True)
class Teller:
    """Tells contrasts of one document.

    Attributes:
        systems: By name.
        confidence: Of its intervals and verdicts.
        contrasts: How many there are in the document, for all of which p is corrected.
    """

    systems: Systems
    confidence: float
    contrasts: int

    def one(self, one: Contrast) -> str:
        """A sentence on the one contrast that answers a question."""
        size, name = figure(abs(one.difference)), one.metric
        if float(size):
            more = "more" if one.difference > 0 else "less"
            told = f"{one.ours} has {size} {more} {name} than {one.theirs}"
        else:
            told = f"{one.ours} has as much {name} as {one.theirs}"
        return f"{told} ({self._evidence(one)}): {self._found(one)}."

    def many(self, deciding: Sequence[Contrast], subject: Subject) -> str:
        """A sentence that counts models by what their contrasts say."""
        models = by_model(deciding, self.systems, self.confidence)
        show = subject.verb("show", "shows")
        verbs = {
            Verdict.GAIN: subject.verb("gain", "gains"),
            Verdict.LOSS: subject.verb("lose", "loses"),
            Verdict.BOTH: subject.verb("gain", "gains") + " in one setting and lose in another",
            Verdict.UNSTEADY: f"{show} a difference that seeds do not agree on",
            Verdict.NONE: f"{show} no difference beyond chance",
        }
        clauses: list[str] = []
        for kind, verb in verbs.items():
            alike = {name: own for name, (found, own) in models.items() if found == kind}
            of_kind = [_counted(name, own) for name, own in alike.items()]
            if of_kind:
                clauses.append(f"{verb} {_in_models(of_kind, len(models), first=not clauses)}")
        return f"{subject.words} {listed(clauses)}; {self._largest(deciding)}."

    def _found(self, one: Contrast) -> str:
        seeds = agreement(one, self.systems)
        found = self._verdict(one)
        if found == Verdict.NONE and not one.better and not one.worse:
            return SAME
        if found == Verdict.NONE and not one.one_sign:
            return "the mean and the ranks point in opposite ways, so that neither is concluded"
        return {
            Verdict.GAIN: "a gain beyond chance",
            Verdict.LOSS: "a loss beyond chance",
            Verdict.UNSTEADY: f"a difference that only {seeds.shown} seeds agree on",
            Verdict.NONE: f"no difference beyond chance; {self._unseeable([one])}",
        }[found]

    def _verdict(self, one: Contrast) -> Verdict:
        return verdict_of(one, self.systems, self.confidence)

    def _largest(self, deciding: Sequence[Contrast]) -> str:
        """The largest gain and loss; if there is neither, what could not have been seen."""
        gains = [one for one in deciding if self._verdict(one) == Verdict.GAIN]
        losses = [one for one in deciding if self._verdict(one) == Verdict.LOSS]
        told = []
        if gains:
            told.append(self._extreme("gain", max(gains, key=lambda one: one.difference)))
        if losses:
            told.append(self._extreme("loss", min(losses, key=lambda one: one.difference)))
        if told:
            return " and ".join(told)
        if not any(one.better or one.worse for one in deciding):
            return SAME
        widest = max(deciding, key=lambda one: abs(one.difference))
        return f"{self._extreme('difference', widest)}, and {self._unseeable(deciding)}"

    def _extreme(self, what: str, one: Contrast) -> str:
        return (
            f"the largest {what} is {figure(one.difference, signed=True)} {one.metric} of "
            f"{one.ours} against {one.theirs} ({self._evidence(one)})"
        )

    def _evidence(self, one: Contrast) -> str:
        ends, seeds = interval(one.low, one.high), agreement(one, self.systems)
        told = f"{percent(self.confidence)} interval {ends}, corrected {p_value(one.p_corrected)}"
        if not seeds.seeds:
            return f"{told}, no seed in common"
        if seeds.seeds == 1:
            return f"{told}, one seed"
        differs = one.better or one.worse
        return f"{told}, in {seeds.shown} seeds" if differs and not seeds.whole else told

    def _unseeable(self, deciding: Iterable[Contrast]) -> str:
        """About the smallest effect that could have been seen.

        Half of the widest interval at the level that one of so many contrasts must reach.
        """
        level = (1 - self.confidence) / 2
        quantile = NormalDist().inv_cdf
        wider = quantile(level / max(self.contrasts, 1)) / quantile(level)
        reach = [wider * (one.high - one.low) / 2 for one in deciding]
        unproven = [abs(one.difference) for one in deciding]
        return f"one of less than about {figure(max(reach + unproven))} could have gone unseen"


def _counted(model: str, settings: Agreement) -> str:
    """A model's name, and of how many of its contrasts it is told if not of all."""
    return model if settings.whole else f"{model}, in {settings.shown} settings"


def _in_models(names: Sequence[str], total: int, first: bool) -> str:
    if total == 1:
        return f"with the one model compared, {names[0]}"
    if len(names) == total:
        every = "both models" if total == 2 else f"all {total} models"
        return f"in {every} ({_in_brackets(names)})"
    of_all = f" of {total} models" if first else ""
    return f"in {len(names)}{of_all} ({_in_brackets(names)})"


def _in_brackets(names: Sequence[str]) -> str:
    return ("; " if any("," in name for name in names) else ", ").join(names)

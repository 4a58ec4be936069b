"""What may be concluded, in one sentence for each question, drawn from the contrasts alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.comparisons.concluding.deciding import Kinds, Systems, asked
from pipelines.comparisons.concluding.not_asked import why_not
from pipelines.comparisons.concluding.unseen_answer import unseen_answer
from pipelines.comparisons.concluding.verdicts import Verdict, agreement, by_model, verdict
from pipelines.comparisons.contents import QUESTIONS, Answer, Comparison, Contrast, Question
from pipelines.comparisons.measuring.unseen import Chances
from pipelines.comparisons.words import figure, interval, listed, p_value, percent


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


def answers(comparison: Comparison, kinds: Kinds, chance: Chances) -> tuple[Answer, ...]:
    """One answer for each question, and one on unseen items where the test is of them.

    Args:
        comparison: The numbers.
        kinds: Of the encoders, by feature set.
        chance: What lists drawn by chance find.
    """
    systems = {own.name: own for own in comparison.systems}
    told = [
        Answer(
            question=words,
            sentence=_sentence(
                asked(question, comparison.primary, comparison, systems, kinds), comparison, systems
            )
            or why_not(question, comparison, kinds),
        )
        for question, words in QUESTIONS.items()
    ]
    return (*told, *unseen_answer(comparison, chance), *_by_others(comparison, systems, kinds))


def _by_others(comparison: Comparison, systems: Systems, kinds: Kinds) -> Iterator[Answer]:
    """Answers by metrics other than the primary one, where there are contrasts by them."""
    for metric in dict.fromkeys(one.metric for one in comparison.contrasts):
        if metric == comparison.primary:
            continue
        for question, words in QUESTIONS.items():
            deciding = asked(question, metric, comparison, systems, kinds)
            if deciding:
                sentence = _sentence(deciding, comparison, systems)
                yield Answer(question=f"{words} ({metric})", sentence=sentence)


def _sentence(deciding: Sequence[Contrast], comparison: Comparison, systems: Systems) -> str:
    """What contrasts of one question say; empty if there are none."""
    if not deciding:
        return ""
    if len(deciding) == 1:
        return _of_one(deciding[0], systems, comparison.confidence)
    subject = SUBJECTS[deciding[0].question](comparison, deciding)
    return _of_many(deciding, systems, subject, comparison.confidence)


def _of_one(one: Contrast, systems: Systems, confidence: float) -> str:
    size, name = figure(abs(one.difference)), one.metric
    if float(size):
        more = "more" if one.difference > 0 else "less"
        told = f"{one.ours} has {size} {more} {name} than {one.theirs}"
    else:
        told = f"{one.ours} has as much {name} as {one.theirs}"
    found = {
        Verdict.GAIN: "a gain beyond chance",
        Verdict.LOSS: "a loss beyond chance",
        Verdict.NONE: f"no difference beyond chance; {_unseeable([one])}",
    }[verdict(one, confidence)]
    if not one.better and not one.worse:
        found = "not one user is served better or worse"
    return f"{told} ({_evidence(one, systems, confidence)}): {found}."


def _of_many(
    deciding: Sequence[Contrast], systems: Systems, subject: Subject, confidence: float
) -> str:
    models = by_model(deciding, systems, confidence)
    verbs = {
        Verdict.GAIN: subject.verb("gain", "gains"),
        Verdict.LOSS: subject.verb("lose", "loses"),
        Verdict.BOTH: subject.verb("gain", "gains") + " in one setting and lose in another",
        Verdict.NONE: subject.verb("show", "shows") + " no difference beyond chance",
    }
    clauses: list[str] = []
    for kind, verb in verbs.items():
        of_kind = [name for name, found in models.items() if found == kind]
        if of_kind:
            shown = of_kind
            if kind in (Verdict.GAIN, Verdict.LOSS):
                shown = [_with_seeds(name, kind, deciding, systems, confidence) for name in of_kind]
            clauses.append(f"{verb} {_in_models(shown, len(models), first=not clauses)}")
    return f"{subject.words} {listed(clauses)}; {_largest(deciding, systems, confidence)}."


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


def _largest(deciding: Sequence[Contrast], systems: Systems, confidence: float) -> str:
    """The largest gain and the largest loss; if there is neither, what could not have been seen."""
    gains = [one for one in deciding if verdict(one, confidence) == Verdict.GAIN]
    losses = [one for one in deciding if verdict(one, confidence) == Verdict.LOSS]
    told = []
    if gains:
        told.append(
            _extreme("gain", max(gains, key=lambda one: one.difference), systems, confidence)
        )
    if losses:
        told.append(
            _extreme("loss", min(losses, key=lambda one: one.difference), systems, confidence)
        )
    if told:
        return " and ".join(told)
    widest = max(deciding, key=lambda one: abs(one.difference))
    if not any(one.better or one.worse for one in deciding):
        return "not one user is served better or worse"
    largest = _extreme("difference", widest, systems, confidence)
    return f"{largest}, and {_unseeable(deciding)}"


def _extreme(what: str, one: Contrast, systems: Systems, confidence: float) -> str:
    return (
        f"the largest {what} is {figure(one.difference, signed=True)} {one.metric} of {one.ours} "
        f"against {one.theirs} ({_evidence(one, systems, confidence)})"
    )


def _with_seeds(
    model: str, kind: Verdict, deciding: Sequence[Contrast], systems: Systems, confidence: float
) -> str:
    """A model's name, and where its seeds do not agree in how many of them it gains or loses."""
    of_kind = [
        agreement(one, systems)
        for one in deciding
        if systems[one.ours].model == model and verdict(one, confidence) == kind
    ]
    most = max(of_kind, key=lambda own: own.agreeing)
    return (
        model
        if most.agreeing == most.seeds or most.seeds < 2
        else f"{model}, in {most.shown} seeds"
    )


def _evidence(one: Contrast, systems: Systems, confidence: float) -> str:
    ends, seeds = interval(one.low, one.high), agreement(one, systems)
    told = f"{percent(confidence)} interval {ends}, corrected {p_value(one.p_corrected)}"
    if seeds.seeds == 1:
        return f"{told}, one seed"
    return told if seeds.agreeing == seeds.seeds else f"{told}, in {seeds.shown} seeds"


def _unseeable(deciding: Iterable[Contrast]) -> str:
    """The smallest effect that could have been seen: half of the widest interval."""
    half = max((one.high - one.low) / 2 for one in deciding)
    return f"one of less than about {figure(half)} could have gone unseen"


def _content(comparison: Comparison, deciding: Sequence[Contrast]) -> Subject:
    alike = ("content", deciding[0].metric)
    every = [one.ours for one in comparison.contrasts if (one.question, one.metric) == alike]
    several = len(every) > len(set(every))
    against = "the harder of their controls" if several else "their control"
    return Subject(f"Against {against}, real features")


def _model(comparison: Comparison, deciding: Sequence[Contrast]) -> Subject:
    best = deciding[0].theirs
    return Subject(
        f"Against {best}, the best that sees interactions only, multimodal recommenders with real "
        "features"
    )


SUBJECTS: dict[Question, Callable[[Comparison, Sequence[Contrast]], Subject]] = {
    "content": _content,
    "encoder": lambda *_: Subject(
        "Against those of modality-specific encoders, features of large multimodal ones"
    ),
    "fine-tuning": lambda *_: Subject(
        "Against those of the encoder as it came, features of the tuned encoder"
    ),
    "end-to-end": lambda *_: Subject(
        "Against the same features frozen, training through the encoder", many=False
    ),
    "model": _model,
}

"""What may be concluded, in one sentence for each question, drawn from the contrasts alone."""

from collections.abc import Callable, Iterator, Sequence

from pipelines.comparisons.concluding.deciding import Kinds, Systems, asked
from pipelines.comparisons.concluding.not_asked import why_not
from pipelines.comparisons.concluding.sentences import Subject, Teller
from pipelines.comparisons.concluding.unseen_answer import unseen_answer
from pipelines.comparisons.contents import QUESTIONS, Answer, Comparison, Contrast, Question
from pipelines.comparisons.measuring.unseen import Chances


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
    teller = Teller(systems, comparison.confidence, len(comparison.contrasts))
    if len(deciding) == 1:
        return teller.one(deciding[0])
    return teller.many(deciding, SUBJECTS[deciding[0].question](comparison, deciding))


def _content(comparison: Comparison, deciding: Sequence[Contrast]) -> Subject:
    alike = ("content", deciding[0].metric)
    every = [one.ours for one in comparison.contrasts if (one.question, one.metric) == alike]
    several = len(every) > len(set(every))
    against = "the harder of their controls" if several else "their control"
    return Subject(f"Against {against}, real features")


def _model(comparison: Comparison, deciding: Sequence[Contrast]) -> Subject:
    best = deciding[0].theirs
    return Subject(
        f"Against {best}, on validation the best that sees interactions only, multimodal "
        "recommenders with real features"
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

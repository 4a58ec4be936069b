"""The answer on items that nobody took in training, from systems that are written by hand."""

import pytest
from support.contrasts import KINDS, compared, system

from pipelines.comparisons.concluding.answering import answers
from pipelines.comparisons.contents import QUESTIONS, Estimate
from pipelines.comparisons.measuring.unseen import Chances


def ranking(name, whole, among):
    """A system whose recall of cold items among themselves is known."""
    own = system(name, (whole,), True)
    cold = Estimate(mean=among, low=among - 0.05, high=among + 0.05, seeds=(among,))
    return own.model_copy(update={"test": {**own.test, "cold-item recall@20": cold}})


def told_of(systems, chance):
    return answers(compared([], systems, "item-cold"), KINDS, chance)[len(QUESTIONS) :]


def test_unseen_items_have_an_answer_where_the_test_is_of_them():
    systems = [
        ranking("vbpr · offline", 0.3, 0.25),
        ranking("bm3 · offline", 0.1, 0.12),
        ranking("bm3 · random", 0.2, 0.14),
        system("lightgcn · none", (0.0,), False),
    ]
    (told,) = told_of(systems, Chances(whole=0.21, unseen=0.1, share=1.0))
    assert told.question == "Can items be recommended that nobody took in training?"
    assert told.sentence == (
        "2 of 3 models tell such items apart (bm3, vbpr), lightgcn cannot; among themselves they "
        "are ranked best by vbpr · offline (cold-item recall@20 .2500; the best control, bm3 · "
        "random, .1400; chance .1000), in lists of the whole catalogue by vbpr · offline "
        "(recall@20 .3000; the best control, bm3 · random, .2000; chance .2100)."
    )
    systems[1] = systems[1].model_copy(update={"epochs": (1,)})
    (again,) = told_of(systems, Chances(whole=0.21, unseen=0.1, share=1.0))
    more = "; 1 of 2 was best in the first epoch, in all seeds."
    assert again.sentence == told.sentence.removesuffix(".") + more
    assert told_of(systems, Chances(whole=0.02, unseen=0.1, share=0.2)) == ()


@pytest.mark.parametrize(
    ("able", "unable", "words"),
    [
        ([], ["lightgcn"], "None of the models compared tells such items apart."),
        (["vbpr"], [], "The one model compared tells such items apart;"),
        (["vbpr", "bm3"], [], "Both models tell such items apart;"),
        (
            ["vbpr"],
            ["bpr", "lightgcn"],
            "1 of 3 models tells such items apart (vbpr), bpr and ",
        ),
    ],
    ids=["none", "one", "all", "some"],
)
def test_who_tells_unseen_items_apart(able, unable, words):
    systems = [ranking(f"{m} · offline", 0.3, 0.2) for m in able]
    systems += [system(f"{m} · none", (0.0,), False) for m in unable]
    comparison = compared([], systems, "item-cold")
    told = answers(comparison, KINDS, Chances(0.02, 0.1, 1.0))[-1]
    assert told.sentence.startswith(words)

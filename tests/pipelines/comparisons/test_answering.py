"""Answers: sentences from contrasts that are written by hand."""

import pytest

from pipelines.comparisons.concluding.answering import answers
from pipelines.comparisons.contents import (
    QUESTIONS,
    Comparison,
    Contrast,
    Estimate,
    SliceEstimate,
    System,
)
from pipelines.comparisons.measuring.unseen import Chances
from pipelines.comparisons.words import figure, listed, p_value, percent

KINDS = {"offline": "modality-specific", "clip": "large multimodal", "ft": "modality-specific"}
NO_CHANCE = Chances(whole=0.02, unseen=None, share=0.0)


def system(name, seeds=(0.3,), scores_unseen=None, slices=()):
    model, features, *regime = name.split(" · ")
    control = {"random": "random", "shuffled:offline": "shuffled"}.get(features)
    estimate = Estimate(mean=sum(seeds) / len(seeds), low=0.2, high=0.4, seeds=seeds)
    return System(
        name=name,
        model=model,
        features=features,
        regime=regime[0] if regime else "frozen",
        control=control,
        scores_unseen=scores_unseen,
        runs=tuple(f"r{n}" for n in range(len(seeds))),
        seeds=tuple(range(len(seeds))),
        epochs=(3,) * len(seeds),
        seconds=(1.0,) * len(seeds),
        test={"recall@20": estimate},
        slices=slices,
    )


def contrast(question, ours, theirs, difference, corrected=0.5, half=0.006):
    return Contrast(
        question=question,
        ours=ours,
        theirs=theirs,
        metric="recall@20",
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=corrected / 2,
        p_corrected=corrected,
        effect=0.1,
        better=0.3,
        worse=0.2,
    )


def compared(contrasts, systems=(), split="random"):
    names = dict.fromkeys(name for one in contrasts for name in (one.ours, one.theirs))
    known = {own.name: own for own in systems}
    return Comparison(
        name="c",
        dataset="d",
        split=split,
        protocol="strict",
        users=100,
        primary="recall@20",
        confidence=0.95,
        test="randomisation",
        systems=tuple(known.get(name) or system(name) for name in {**names, **known}),
        contrasts=tuple(contrasts),
    )


def answer(question, contrasts, systems=()):
    comparison = compared(contrasts, systems)
    told = {own.question: own.sentence for own in answers(comparison, KINDS, NO_CHANCE)}
    assert list(told) == list(QUESTIONS.values())
    return told[QUESTIONS[question]]


def test_one_contrast_without_a_difference_tells_what_could_not_be_seen():
    own = contrast("fine-tuning", "vbpr · ft", "vbpr · offline", 0.0041, 0.31, half=0.0061)
    assert answer("fine-tuning", [own]) == (
        "vbpr · ft has .0041 more recall@20 than vbpr · offline (95 % interval -.0020 to .0102, "
        "corrected p .31, one seed): no difference beyond chance; one of less than about .0061 "
        "could have gone unseen."
    )


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            0.02,
            "has .0200 more recall@20 than vbpr · offline (95 % interval .0140 to .0260, "
            "corrected p .003, one seed): a gain beyond chance.",
        ),
        (
            -0.02,
            "has .0200 less recall@20 than vbpr · offline (95 % interval -.0260 to -.0140, "
            "corrected p .003, one seed): a loss beyond chance.",
        ),
    ],
    ids=["gain", "loss"],
)
def test_one_contrast_with_a_difference(difference, words):
    own = contrast("fine-tuning", "vbpr · ft", "vbpr · offline", difference, 0.003)
    assert answer("fine-tuning", [own]) == f"vbpr · ft {words}"


def test_no_difference_at_all_is_as_much():
    own = contrast("fine-tuning", "vbpr · ft", "vbpr · offline", 0.0, 1.0, half=0.0)
    assert answer("fine-tuning", [own]).startswith(
        "vbpr · ft has as much recall@20 as vbpr · offline (95 % interval .0000 to .0000, "
        "corrected p 1.00, one seed): no difference beyond chance"
    )


def tuned(model, difference, corrected):
    return contrast("fine-tuning", f"{model} · ft", f"{model} · offline", difference, corrected)


START = "Against those of the encoder as it came, features of the tuned encoder "


def test_many_contrasts_are_counted_by_model():
    own = [
        tuned("vbpr", 0.03, 0.001),
        tuned("bm3", 0.01, 0.02),
        tuned("mgcn", -0.02, 0.04),
        tuned("freedom", 0.05, 0.06),
    ]
    assert answer("fine-tuning", own) == (
        f"{START}gain in 2 of 4 models (vbpr, bm3), lose in 1 (mgcn) and show no difference beyond "
        "chance in 1 (freedom); the largest gain is +.0300 recall@20 of vbpr · ft against vbpr · "
        "offline (95 % interval .0240 to .0360, corrected p .001, one seed) and the largest loss "
        "is -.0200 recall@20 of mgcn · ft against mgcn · offline (95 % interval -.0260 to -.0140, "
        "corrected p .040, one seed)."
    )


def test_where_no_model_differs_the_widest_interval_is_told():
    own = [tuned("vbpr", 0.003, 0.5), tuned("bm3", -0.004, 1.0)]
    assert answer("fine-tuning", own) == (
        f"{START}show no difference beyond chance in both models (vbpr, bm3); the largest "
        "difference is -.0040 recall@20 of bm3 · ft against bm3 · offline (95 % interval "
        "-.0100 to .0020, corrected p 1.00, one seed), and one of less than about .0060 could have "
        "gone unseen."
    )


def test_all_models_alike_are_all():
    own = [tuned(model, 0.03, 0.001) for model in ("a", "b", "c")]
    assert answer("fine-tuning", own).startswith(
        f"{START}gain in all 3 models (a, b, c); the largest"
    )


def test_one_model_with_several_contrasts_can_gain_and_lose():
    own = [
        contrast("encoder", "vbpr · clip", "vbpr · offline", 0.03, 0.001),
        contrast("encoder", "vbpr · clip", "vbpr · offline", -0.03, 0.001),
    ]
    assert "gain in one setting and lose in another with the one model compared, vbpr;" in answer(
        "encoder", own
    )


def test_seeds_that_do_not_agree_are_told():
    systems = [
        system("vbpr · ft", (0.40, 0.30, 0.45)),
        system("vbpr · offline", (0.30, 0.35, 0.31)),
        system("bm3 · ft", (0.4, 0.4, 0.4)),
        system("bm3 · offline", (0.3, 0.3, 0.3)),
    ]
    told = answer("fine-tuning", [tuned("vbpr", 0.063, 0.001), tuned("bm3", 0.03, 0.001)], systems)
    assert "gain in both models (vbpr, in 2 of 3 seeds; bm3);" in told
    assert "corrected p .001, in 2 of 3 seeds)" in told


def test_content_is_decided_by_the_hardest_control():
    own = [
        contrast("content", "vbpr · offline", "vbpr · shuffled:offline", 0.03, 0.001),
        contrast("content", "vbpr · offline", "vbpr · random", 0.002, 0.9),
        contrast("content", "bm3 · offline", "bm3 · shuffled:offline", 0.04, 0.001),
        contrast("content", "bm3 · offline", "bm3 · random", 0.05, 0.001),
    ]
    told = answer("content", own)
    assert told.startswith(
        "Against the harder of their controls, real features gain in 1 of 2 models (bm3) and show "
        "no difference beyond chance in 1 (vbpr); the largest gain is +.0400"
    )
    # Other features' shuffled vectors are no control of these.
    other = contrast("content", "vbpr · clip", "vbpr · shuffled:offline", 0.3, 0.001)
    assert answer("content", [*own, other]) == told


def test_one_control_is_their_control():
    own = [contrast("content", f"{m} · offline", f"{m} · random", -0.01, 0.001) for m in ("a", "b")]
    assert answer("content", own).startswith(
        "Against their control, real features lose in both models (a, b); the largest loss"
    )


def test_only_large_against_modality_specific_encoders_answer():
    own = [
        contrast("encoder", "vbpr · clip", "vbpr · offline", 0.03, 0.001),
        contrast("encoder", "vbpr · clip", "vbpr · other", 0.05, 0.001),
    ]
    assert answer("encoder", own).startswith("vbpr · clip has .0300 more recall@20 than vbpr · off")


def test_only_the_regime_with_a_gradient_answers():
    tuned_only = [contrast("end-to-end", "vbpr · ft · tuned", "vbpr · ft", 0.03, 0.001)]
    assert answer("end-to-end", tuned_only) == (
        "Not asked: no system trained through its encoder; add --regimes end-to-end."
    )
    both = [
        contrast("end-to-end", f"{m} · ft · end-to-end", f"{m} · ft", 0.001, 1) for m in ("a", "b")
    ]
    assert answer("end-to-end", tuned_only + both).startswith(
        "Against the same features frozen, training through the encoder shows no difference beyond "
        "chance in both models (a, b);"
    )


def test_the_best_without_features_is_named():
    own = [contrast("model", f"{m} · offline", "lightgcn · none", 0.02, 0.001) for m in ("a", "b")]
    assert answer("model", own).startswith(
        "Against lightgcn · none, the best that sees interactions only, multimodal recommenders "
        "with real features gain in both models (a, b);"
    )


@pytest.mark.parametrize(
    ("question", "systems", "words"),
    [
        ("content", ["a · none"], "no model was compared that sees real features"),
        ("content", ["a · clip"], "add --features random,shuffled:clip."),
        ("encoder", ["a · clip"], "a modality-specific encoder; add --features offline."),
        ("encoder", ["a · offline"], "a large multimodal encoder; add --features clip."),
        (
            "encoder",
            ["a · npy"],
            "large multimodal or modality-specific encoder; add --features c",
        ),
        ("encoder", ["a · clip", "b · offline"], "give all of them the same --features."),
        ("fine-tuning", ["a · clip", "a · offline"], "its base (found clip and offline); tune one"),
        ("end-to-end", ["a · clip · end-to-end"], "stands beside a frozen one"),
        ("model", ["a · clip"], "add --models lightgcn."),
    ],
    ids=range(9),
)
def test_questions_that_were_not_asked_say_what_to_run(question, systems, words):
    told = answer(question, [], [system(name) for name in systems])
    assert told.startswith("Not asked: ")
    assert words in told


def among(mean, low, high):
    own = Estimate(mean=mean, low=low, high=high, seeds=(mean,))
    kind = "cold items among themselves"
    return (SliceEstimate(kind=kind, name="unseen", members=9, pairs=20, recall=own),)


def test_unseen_items_have_an_answer_where_the_test_is_of_them():
    systems = [
        system("vbpr · offline", (0.3,), True, among(0.25, 0.2, 0.3)),
        system("bm3 · offline", (0.1,), True, among(0.12, 0.08, 0.16)),
        system("bm3 · random", (0.1,), True, among(0.5, 0.4, 0.6)),
        system("lightgcn · none", (0.0,), False),
    ]
    comparison = compared([], systems, "item-cold")
    told = answers(comparison, KINDS, Chances(whole=0.21, unseen=0.1, share=1.0))[-1]
    assert told.question == "Can items be recommended that nobody took in training?"
    assert told.sentence == (
        "2 of 3 models tell such items apart (bm3, vbpr), lightgcn cannot; of systems with real "
        "features 1 of 2 (at best vbpr · offline: recall@20 .2500, 95 % interval .2000 to .3000, "
        "chance .1000) rank them better than chance among themselves, and none of 2 (at best vbpr "
        "· offline: recall@20 .3000, 95 % interval .2000 to .4000, chance .2100) in lists of the "
        "whole catalogue."
    )
    early = system("bm3 · offline", (0.1,), True, among(0.12, 0.08, 0.16))
    systems[1] = early.model_copy(update={"epochs": (1,)})
    first = compared([], systems, "item-cold")
    again = answers(first, KINDS, Chances(whole=0.21, unseen=0.1, share=1.0))[-1].sentence
    more = "; 1 of 2 was best in the first epoch, in all seeds."
    assert again == told.sentence.removesuffix(".") + more
    few = Chances(whole=0.02, unseen=0.1, share=0.2)
    assert len(answers(comparison, KINDS, few)) == len(QUESTIONS)


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
    systems = [system(f"{m} · offline", (0.3,), True, among(0.2, 0.1, 0.3)) for m in able]
    systems += [system(f"{m} · none", (0.0,), False) for m in unable]
    comparison = compared([], systems, "item-cold")
    told = answers(comparison, KINDS, Chances(0.02, 0.1, 1.0))[-1]
    assert told.sentence.startswith(words)


def test_figures_as_they_stand_in_sentences():
    assert [figure(x) for x in (0.1234, -0.002, 1.0, -0.00001, 0, None)] == [
        ".1234",
        "-.0020",
        "1.0000",
        ".0000",
        ".0000",
        "–",
    ]
    assert [figure(x, 2, signed=True) for x in (0.1, -12.345, 0.001)] == ["+.10", "-12.35", ".00"]
    assert [p_value(p) for p in (0.31, 0.0996, 0.0006, 0.0004, 1.0)] == [
        "p .31",
        "p .100",
        "p < .001",
        "p < .001",
        "p 1.00",
    ]
    assert [percent(x) for x in (0.95, 0.999, 0.9)] == ["95 %", "99.9 %", "90 %"]
    assert [listed(list(x)) for x in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]

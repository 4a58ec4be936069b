"""Answers: sentences from contrasts that are written by hand."""

from statistics import NormalDist

import pytest
from support.contrasts import KINDS, NO_CHANCE, compared, contrast, system

from pipelines.comparisons.concluding.answering import answers
from pipelines.comparisons.contents import QUESTIONS


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


MODELS = [f"{letter} · offline" for letter in "bcdefghij"]


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
        "-.0100 to .0020, corrected p 1.00, one seed), and one of less than about .0069 could have "
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
        contrast("encoder", "vbpr · clip", "vbpr · ft", -0.03, 0.001),
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
    assert told.startswith(
        f"{START}gain in 1 of 2 models (bm3) and show a difference that seeds do not agree on in 1 "
        "(vbpr); the largest gain is +.0300"
    )
    alone = answer("fine-tuning", [tuned("vbpr", 0.063, 0.001)], systems[:2])
    assert alone.endswith(
        "corrected p .001, in 2 of 3 seeds): a difference that only 2 of 3 seeds agree on."
    )


def test_systems_without_a_common_seed_say_so():
    ours, theirs = system("vbpr · ft", (0.4,)), system("vbpr · offline", (0.3,))
    theirs = theirs.model_copy(update={"seeds": (7,)})
    told = answer("fine-tuning", [tuned("vbpr", 0.1, 0.001)], [ours, theirs])
    assert told.endswith("corrected p .001, no seed in common): a gain beyond chance.")


def test_a_gain_of_some_feature_sets_is_counted():
    own = [
        contrast("model", f"vbpr · {features}", "lightgcn · none", 0.01, corrected)
        for features, corrected in (("a", 0.001), ("b", 1.0), ("c", 0.9))
    ]
    assert "gain with the one model compared, vbpr, in 1 of 3 settings;" in answer("model", own)


def test_nothing_that_differs_is_told_as_such():
    same = {"half": 0.0, "better": 0.0, "worse": 0.0}
    own = [
        contrast("end-to-end", f"{m} · ft · end-to-end", f"{m} · ft", 0.0, 1.0, **same)
        for m in ("a", "b")
    ]
    assert answer("end-to-end", own[:1]) == (
        "a · ft · end-to-end has as much recall@20 as a · ft (95 % interval .0000 to .0000, "
        "corrected p 1.00, one seed): both find exactly the same."
    )
    assert answer("end-to-end", own).endswith("(a, b); both find exactly the same.")


def test_what_could_not_be_seen_is_of_the_corrected_level():
    own = [tuned("vbpr", 0.004, 0.5), *(contrast("model", f"{n}", "x · none", 0.1) for n in MODELS)]
    wider = NormalDist().inv_cdf(0.025 / 10) / NormalDist().inv_cdf(0.025)
    assert f"less than about {0.006 * wider:.4f} could".replace(" 0.", " .") in answer(
        "fine-tuning", own
    )
    # What was found and not proven could have gone unseen.
    large = [tuned("vbpr", 0.02, 0.5)]
    assert "one of less than about .0200 could" in answer("fine-tuning", large)


def test_ranks_and_mean_that_disagree_conclude_nothing():
    own = contrast("fine-tuning", "vbpr · ft", "vbpr · offline", 0.02, 0.003, one_sign=False)
    assert answer("fine-tuning", [own]).endswith(
        ": the mean and the ranks point in opposite ways, so that neither is concluded."
    )


def test_contrasts_by_another_metric_have_answers_of_their_own():
    own = tuned("vbpr", 0.03, 0.9)
    cold = own.model_copy(update={"metric": "cold-item recall@20", "p_corrected": 0.001})
    comparison = compared([own, cold], [], "item-cold")
    test = {"cold-item recall@20": comparison.systems[0].test["recall@20"]}
    systems = [s.model_copy(update={"test": {**s.test, **test}}) for s in comparison.systems]
    for place, mean in enumerate((0.3, 0.4)):
        assert systems[place].name == ("vbpr · offline", "vbpr · ft")[place]
        systems[place].test["cold-item recall@20"] = system("a · b", (mean,)).test["recall@20"]
    told = answers(comparison.model_copy(update={"systems": tuple(systems)}), KINDS, NO_CHANCE)
    assert told[-1].question == "Does fine-tuning the encoder help? (cold-item recall@20)"
    assert told[-1].sentence.endswith("corrected p .001, one seed): a gain beyond chance.")
    assert "no difference beyond chance" in told[2].sentence


def test_content_is_decided_by_the_hardest_control():
    own = [
        contrast("content", "vbpr · offline", "vbpr · shuffled:offline", 0.03, 0.001),
        contrast("content", "vbpr · offline", "vbpr · random", 0.002, 0.9),
        contrast("content", "bm3 · offline", "bm3 · shuffled:offline", 0.04, 0.001),
        contrast("content", "bm3 · offline", "bm3 · random", 0.05, 0.001),
        # The smaller gain is proven, the larger one is not: this control is not beaten.
        contrast("content", "mgcn · offline", "mgcn · shuffled:offline", 0.010, 0.001),
        contrast("content", "mgcn · offline", "mgcn · random", 0.011, 0.5),
    ]
    told = answer("content", own)
    assert told.startswith(
        "Against the harder of their controls, real features gain in 1 of 3 models (bm3) and show "
        "no difference beyond chance in 2 (vbpr, mgcn); the largest gain is +.0400"
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
        "Against lightgcn · none, on validation the best that sees interactions only, multimodal "
        "recommenders with real features gain in both models (a, b);"
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

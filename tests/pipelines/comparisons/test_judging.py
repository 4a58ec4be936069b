"""Judging: which systems are set against which, corrected together, and what is found."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from support.compared import knowing, log_rows, market, noise, put_run

from extract.errors import UserError
from pipelines.comparisons.contents import Comparison, Failure
from pipelines.comparisons.judging import JudgeOptions, judge
from pipelines.loading import load_log


def judged(workspace, folders, failures=(), **options):
    return judge(workspace, "shop", folders, failures, JudgeOptions(**options))


def pairs(comparison, question):
    return {(c.ours, c.theirs) for c in comparison.contrasts if c.question == question}


def set_encoder(workspace, features, **encoder):
    """Say in a manifest which encoder made the features."""
    path = workspace.dataset(None).features(features) / "manifest.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"encoder": {"fingerprint": features, **encoder}}))


@pytest.fixture
def shop(tmp_path):
    """Features of a pair, of a CLIP, of the pair tuned, and of the encoder random."""
    workspace = market(tmp_path, features=("pair", "clip", "ft", "dice"))
    set_encoder(workspace, "pair", spec="offline", model="m1")
    set_encoder(workspace, "clip", spec="clip", model="m2")
    set_encoder(workspace, "ft", spec="tuned:/elsewhere/data/shop/encoders/ft", model="m3")
    set_encoder(workspace, "dice", spec="random:64", model="m4")
    recipe = workspace.dataset(None).encoder("ft")
    recipe.mkdir(parents=True)
    told = {"base": "offline", "base_model": "m1", "adaptation": {"projection": 8}}
    (recipe / "encoder.json").write_text(json.dumps(told))
    return workspace


@pytest.fixture
def whole(shop):
    """A comparison in which every question but end-to-end is asked, and vbpr · pair is best."""
    folders = [put_run(shop, knowing(shop, 0.1)), put_run(shop, noise(9), "popularity")]
    for number, features in enumerate(("pair", "clip", "ft", "shuffled:pair", "random", "dice")):
        share = 0.9 if features == "pair" else 0.1
        folders.append(put_run(shop, knowing(shop, share, number), "vbpr", features))
    folders.append(put_run(shop, knowing(shop, 0.1, 7), "vbpr", "pair", feature_source="tuned"))
    return judged(shop, folders)


def test_each_question_sets_its_own_pairs_against_each_other(whole):
    assert pairs(whole, "content") == {
        ("vbpr · pair", "vbpr · shuffled:pair"),
        ("vbpr · pair", "vbpr · random"),
        ("vbpr · pair", "vbpr · dice"),
        ("vbpr · clip", "vbpr · shuffled:pair"),
        ("vbpr · clip", "vbpr · random"),
        ("vbpr · clip", "vbpr · dice"),
        ("vbpr · ft", "vbpr · shuffled:pair"),
        ("vbpr · ft", "vbpr · random"),
        ("vbpr · ft", "vbpr · dice"),
    }
    assert pairs(whole, "encoder") == {("vbpr · clip", "vbpr · pair")}
    assert pairs(whole, "fine-tuning") == {("vbpr · ft", "vbpr · pair")}
    assert pairs(whole, "end-to-end") == {("vbpr · pair · tuned", "vbpr · pair")}
    assert pairs(whole, "model") == {
        (f"vbpr · {features}", "bpr · none") for features in ("pair", "clip", "ft")
    }


def test_own_shuffled_features_come_before_those_of_others(shop):
    folders = [
        put_run(shop, noise(n), "vbpr", features)
        for n, features in enumerate(("pair", "clip", "shuffled:pair", "shuffled:clip"))
    ]
    assert pairs(judged(shop, folders), "content") == {
        ("vbpr · pair", "vbpr · shuffled:pair"),
        ("vbpr · clip", "vbpr · shuffled:clip"),
    }


def test_systems_are_best_first_and_the_difference_is_that_of_the_files(shop, whole):
    values = [own.test["recall@20"].mean for own in whole.systems]
    assert values == sorted(values, reverse=True)
    assert whole.systems[0].name == "vbpr · pair"
    runs = {own.name: own.runs[0] for own in whole.systems}
    for contrast in whole.contrasts:
        ours, theirs = (per_user(shop, runs[n]) for n in (contrast.ours, contrast.theirs))
        own = ours - theirs
        assert contrast.difference == pytest.approx(own.mean())
        assert contrast.better == pytest.approx((own > 0).mean())
        assert contrast.effect == pytest.approx(own.mean() / own.std(ddof=1))
        assert contrast.low <= contrast.difference <= contrast.high


def per_user(workspace, run, metric="recall@20"):
    table = pq.read_table(workspace.new_run("shop", run) / "per_user.parquet").to_pylist()
    told = {row["user_id"]: row[metric] for row in table if row["split"] == "test"}
    return np.array([told[user] for user in sorted(told)])


def test_holm_is_over_all_contrasts_of_the_document(whole):
    p = [contrast.p for contrast in whole.contrasts]
    assert len(p) == 15
    corrected = multipletests(p, method="holm")[1]
    assert [c.p_corrected for c in whole.contrasts] == pytest.approx(corrected.tolist())


def test_others_are_set_against_the_best_without_features_on_validation(shop):
    """Not on the test: chosen by it, the best of alike systems would be the luckiest."""
    log = load_log(shop.dataset(None))
    validation, test = log.split.validation, log.split.test
    best_of_test = noise(1)
    best_of_test[test.users, test.items] += 100
    best_of_validation = noise(2)
    best_of_validation[validation.users, validation.items] += 100
    folders = [
        put_run(shop, best_of_test),
        put_run(shop, best_of_validation, "popularity"),
        put_run(shop, noise(3), "vbpr", "pair"),
    ]
    assert pairs(judged(shop, folders), "model") == {("vbpr · pair", "popularity · none")}


def test_where_the_test_is_of_cold_items_they_are_contrasted_by_item(tmp_path):
    rows = [(u, i, s) for u, i, s in log_rows(cold=12) if s != "test" or int(i[1:]) >= 28]
    shop = market(tmp_path, rows)
    log = load_log(shop.dataset(None))
    right, test = noise(0), log.split.test
    right[test.users, test.items] += 100
    folders = [
        put_run(shop, right if features == "good" else noise(seed), "vbpr", features, seed=seed)
        for features in ("good", "random")
        for seed in (0, 1)
    ]
    comparison = judged(shop, [*folders, put_run(shop, noise(5))], primary="recall@5")
    (own,) = [c for c in comparison.contrasts if c.metric == "cold-item recall@5"]
    assert (own.question, own.ours, own.theirs) == ("content", "vbpr · good", "vbpr · random")
    test_of = {s.name: s.test["cold-item recall@5"] for s in comparison.systems}
    assert test_of["vbpr · good"].mean == 1.0
    assert own.difference == pytest.approx(1 - test_of["vbpr · random"].mean)
    # Twelve items are unseen, of which every other one is held out for the test: six, of one sign.
    assert own.p == pytest.approx(2 / 2**6)
    assert (own.better, own.worse) == (1.0, 0.0)
    assert comparison.answers[-1].question.endswith("(cold-item recall@5)")


def test_wilcoxon_is_that_of_scipy(shop):
    folders = [put_run(shop, knowing(shop, 0.5)), put_run(shop, noise(1), "vbpr", "pair")]
    (contrast,) = judged(shop, folders, test="wilcoxon").contrasts
    own = per_user(shop, folders[1].name) - per_user(shop, folders[0].name)
    assert contrast.p == pytest.approx(stats.wilcoxon(own).pvalue, abs=1e-12)


def test_a_real_difference_is_found_and_none_between_alike_systems(shop):
    scores = knowing(shop, 0.2)
    folders = [put_run(shop, scores), put_run(shop, knowing(shop, 0.9, 1), "vbpr", "pair")]
    folders.append(put_run(shop, scores, "vbpr", "clip"))
    told = {c.ours: c for c in judged(shop, folders).contrasts if c.question == "model"}
    found, alike = told["vbpr · pair"], told["vbpr · clip"]
    assert found.p_corrected < 0.01
    assert found.difference > found.low > 0.1
    assert (alike.p_corrected, alike.difference, alike.low, alike.high) == (1, 0, 0, 0)
    assert (alike.effect, alike.better, alike.worse) == (0, 0, 0)


def test_results_do_not_depend_on_the_order_of_runs_or_on_other_systems(shop):
    one = put_run(shop, knowing(shop, 0.5))
    other = put_run(shop, knowing(shop, 0.6, 1), "vbpr", "pair")
    third = put_run(shop, knowing(shop, 0.6, 2), "vbpr", "clip")
    (alone,) = judged(shop, [one, other]).contrasts
    again = judged(shop, [third, other, one])
    (same,) = [c for c in again.contrasts if (c.ours, c.theirs) == (alone.ours, alone.theirs)]
    assert (same.p, same.low, same.high) == (alone.p, alone.low, alone.high)
    (reseeded,) = judged(shop, [one, other], seed=1).contrasts
    assert reseeded.p != alone.p


def test_seeds_are_averaged_over_those_that_both_systems_have(shop):
    ours = [put_run(shop, knowing(shop, 0.6, s), "vbpr", "pair", seed=s) for s in range(3)]
    theirs = [put_run(shop, knowing(shop, 0.3, 10 + s), seed=s) for s in (1, 2, 5)]
    comparison = judged(shop, ours + theirs)
    (contrast,) = comparison.contrasts
    means = [
        np.mean([per_user(shop, f.name) for f in own], axis=0) for own in (ours[1:], theirs[:2])
    ]
    assert contrast.difference == pytest.approx((means[0] - means[1]).mean())
    own = {system.name: system for system in comparison.systems}["vbpr · pair"]
    assert own.seeds == (0, 1, 2)
    per_seed = [per_user(shop, folder.name).mean() for folder in ours]
    assert own.test["recall@20"].seeds == pytest.approx(per_seed)
    assert own.test["recall@20"].mean == pytest.approx(np.mean(per_seed))


def test_without_a_common_seed_all_seeds_are_compared(shop):
    ours, theirs = put_run(shop, noise(), "vbpr", "pair", seed=4), put_run(shop, noise(1), seed=5)
    (contrast,) = judged(shop, [ours, theirs]).contrasts
    own = per_user(shop, ours.name) - per_user(shop, theirs.name)
    assert contrast.difference == pytest.approx(own.mean())


def test_of_several_variants_the_one_of_the_same_settings_is_set_against(shop):
    slow = {"train": {"learning_rate": 0.01}}
    folders = [
        put_run(shop, noise(n), "vbpr", features, **settings)
        for n, (features, settings) in enumerate(
            [("pair", {}), ("pair", slow), ("clip", {}), ("random", slow), ("clip", slow)]
        )
    ]
    comparison = judged(shop, folders)
    assert pairs(comparison, "encoder") == {
        (f"vbpr · clip · learning_rate={rate}", f"vbpr · pair · learning_rate={rate}")
        for rate in ("0.001", "0.01")
    }
    assert pairs(comparison, "content") == {
        (f"vbpr · {features} · learning_rate=0.01", "vbpr · random")
        for features in ("pair", "clip")
    }


def test_the_document_tells_what_ran_on_what(shop):
    folder = put_run(shop, noise(), "vbpr", "pair", epoch=1)
    failures = [Failure(cell="bm3 · pair · s0", error="the loss is nan")]
    options = {"command": "mmrec-compare", "name": "mine", "searched": {folder.name: 12}}
    comparison = judged(shop, [folder], failures, **options)
    assert (comparison.name, comparison.split, comparison.users) == ("mine", "given", 60)
    assert (comparison.protocol, comparison.command) == ("strict", "mmrec-compare")
    assert comparison.failures == tuple(failures)
    assert [system.searched for system in comparison.systems] == [12]
    facts = comparison.facts
    assert facts["versions"] == "mmrec 0.1.0"
    assert facts["features pair"] == "offline (modality-specific), fingerprint pair"
    assert facts["best in the first epoch"] == "vbpr · pair"
    assert facts["runs"] == "1 run of 1 system, 1 of each; seed 0"
    assert facts["published figures"] == "none known for a data set of these sizes"
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_tuned_features_are_of_their_base_kind_and_told_by_name_alone(shop):
    comparison = judged(shop, [put_run(shop, noise(), "vbpr", "ft")])
    told = comparison.facts["features ft"]
    assert told == "tuned:ft (modality-specific, tuned), fingerprint ft"


def test_runs_of_a_former_state_of_the_data_set_are_refused(shop):
    folder = put_run(shop, noise())
    market(shop.root, log_rows(seed=5))
    with pytest.raises(UserError, match="another state of the data set 'shop': another split"):
        judged(shop, [folder])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"confidence": 1.0}, "confidence lies between 0 and 1"),
        ({"primary": "recall"}, "written like recall@20"),
        ({"primary": "recall@51"}, "a cutoff of 1 to 50"),
        ({"primary": "recal@20"}, "recall@20"),
        ({"test": "t"}, "randomisation"),
    ],
    ids=["confidence", "no cutoff", "too long", "unknown", "test"],
)
def test_wrong_options_are_refused(shop, options, problem):
    folder = put_run(shop, noise())
    with pytest.raises(UserError, match=problem):
        judged(shop, [folder], **options)

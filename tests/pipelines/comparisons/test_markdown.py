"""The document as Markdown, its tables for the terminal, and published figures beside ours."""

from itertools import pairwise

import pytest
from support.compared import knowing, market, noise, put_run

from pipelines.comparisons.contents import Estimate, Failure, System
from pipelines.comparisons.judging import JudgeOptions, judge
from pipelines.comparisons.measuring.published import PUBLISHED, SIZES, published_beside
from pipelines.comparisons.telling.markdown import markdown, markdown_table
from pipelines.comparisons.telling.sheets import Sheet, contrasts_sheet, systems_sheet
from pipelines.progress import print_table


@pytest.fixture
def comparison(tmp_path):
    shop = market(tmp_path)
    folders = [put_run(shop, knowing(shop, 0.2, seed), seed=seed) for seed in (0, 1)]
    folders += [put_run(shop, noise(), "vbpr", "good"), put_run(shop, noise(1), "vbpr", "random")]
    failures = [Failure(cell="bm3-good-s0", error="loss is nan | epoch 3\nstop")]
    return judge(shop, "shop", folders, failures, JudgeOptions(command="mmrec-compare --x"))


def test_the_document_has_all_its_parts_once(comparison):
    text = markdown(comparison)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Answers",
        "## Systems, best first",
        "## Contrasts",
        "## Slices",
        "## Lists beyond their hits",
        "## Cells without a result",
        "## What ran on what",
    ]
    assert "```\nmmrec-compare --x\n```" in text
    assert "split given, protocol **strict**, 60 test users" in text
    for own in comparison.answers:
        assert text.count(f"* **{own.question}** {own.sentence}\n") == 1
    assert "| bm3-good-s0 | loss is nan \\| epoch 3 stop |" in text
    assert text.endswith("|\n")
    assert "None" not in text


def test_every_row_of_a_table_has_as_many_cells(comparison):
    lines = markdown(comparison).splitlines()
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.replace("\\|", "").count("|") == line.replace("\\|", "").count("|")


def test_the_row_of_a_system_is_its_estimates(comparison):
    best = comparison.systems[0]
    own = best.test["recall@20"]
    row = systems_sheet(comparison).rows[0]
    assert row["system"] == best.name
    assert row["recall@20"] == f"{own.mean:.4f}"[1:]
    assert row["95 % interval"] == f"{own.low:.4f} to {own.high:.4f}".replace("0.", ".")
    assert row["lowest to highest seed"] == (
        f"{min(own.seeds):.4f} to {max(own.seeds):.4f}".replace("0.", ".")
    )


def test_tables_go_to_the_terminal(comparison, capsys):
    print_table(contrasts_sheet(comparison).table())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(comparison.contrasts)
    assert "vbpr · random" in lines[1]


def test_a_table_without_rows_is_nothing():
    assert markdown_table(Sheet("empty", [], frozenset())) == ""


def ours(name, metrics, **settings):
    return System(
        name=name,
        runs=("r",),
        seeds=(0,),
        epochs=(1,),
        seconds=(1.0,),
        test={m: Estimate(mean=v, low=v, high=v) for m, v in metrics.items()},
        **{"regime": "frozen", **settings},
    )


METRICS = {"recall@10": 0.05, "recall@20": 0.09, "ndcg@10": 0.03, "ndcg@20": 0.04}
BABY = {"counts": {"users": 19_445, "items": 7_050, "interactions": 160_792}}


def test_published_figures_stand_beside_ours_where_all_is_the_same():
    systems = [
        ours("freedom · offline", METRICS, model="freedom", features="offline"),
        ours("freedom · random", METRICS, model="freedom", features="random", control="random"),
        ours("bpr · none", METRICS, model="bpr", features="none"),
        ours("itemknn · offline", METRICS, model="itemknn", features="offline"),
    ]
    found, reason = published_beside(systems, BABY, "mmrec", "mmrec")
    assert {own.system for own in found} == {"freedom · offline", "bpr · none"}
    told = {own.metric: own for own in found if own.system == "freedom · offline"}
    assert {m: own.published for m, own in told.items()} == {
        "recall@10": 0.0627,
        "recall@20": 0.0992,
        "ndcg@10": 0.0330,
        "ndcg@20": 0.0424,
    }
    assert {m: own.ours for m, own in told.items()} == METRICS
    assert told["recall@10"].note == "another draw of the same split; features offline"
    assert "settings picked on test" in reason
    given = {**BABY, "source": {"kind": "inter"}}
    found, _ = published_beside(systems, given, "given", "mmrec")
    assert found[0].note.startswith("the split that came with the log")


@pytest.mark.parametrize(
    ("description", "split", "protocol", "reason"),
    [
        ({}, "mmrec", "mmrec", "none known for a data set of these sizes"),
        ({"counts": {**BABY["counts"], "items": 7_049}}, "mmrec", "mmrec", "none known"),
        (BABY, "item-cold", "mmrec", "none for baby split item-cold"),
        (BABY, "mmrec", "strict", "none for baby by the protocol strict: theirs is mmrec"),
    ],
    ids=["no sizes", "other sizes", "other split", "other protocol"],
)
def test_no_published_figures_where_anything_differs(description, split, protocol, reason):
    systems = [ours("bpr · none", METRICS, model="bpr", features="none")]
    found, told = published_beside(systems, description, split, protocol)
    assert found == []
    assert told.startswith(reason)


def test_the_published_table_is_whole():
    assert set(PUBLISHED) == set(SIZES) == {"baby", "sports", "clothing"}
    for figures in PUBLISHED.values():
        assert len(figures) == 12
        for own in figures.values():
            # More places never find less, and of one list recall is at least NDCG here.
            assert own.ndcg_10 < own.recall_10 < own.recall_20
            assert own.ndcg_10 < own.ndcg_20 < own.recall_20
            assert own.source

"""mmrec-report: where the page goes, and what is told where there can be none."""

import json
import shutil

import pytest
from support.process import libraries_imported
from support.report_shop import comparison_of

from pipelines.comparisons.contents import Failure, write_comparison


@pytest.fixture(scope="module")
def made(compared, tmp_path_factory):
    workspace, comparison = compared
    root = shutil.copytree(workspace, tmp_path_factory.mktemp("report"), dirs_exist_ok=True)
    for name in ("compare", "other"):
        folder = root / "comparisons/shop" / name
        folder.mkdir(parents=True)
        write_comparison(folder, comparison.model_copy(update={"name": name}))
    return root


@pytest.fixture
def root(made, tmp_path):
    """The workspace that the fixtures of commands work in."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def test_the_page_lies_beside_the_comparison(mmrec, root):
    outcome = mmrec("report")
    path = root / "comparisons/shop/compare/report.html"
    assert (outcome.code, outcome.out) == (0, f"{path}\n")
    page = path.read_text(encoding="utf-8")
    assert "for looking only" in page
    assert "onerror=alert(1)>" not in page
    assert "writing 40 items and 30 users" in outcome.err


def test_another_comparison_to_another_place(mmrec, root, tmp_path):
    out = tmp_path / "in" / "a page.html"
    words = "report --dataset shop --comparison other --users 2 --no-thumbnails --anonymous"
    outcome = mmrec(words, "--items", 35, "--out", out)
    assert (outcome.code, outcome.out) == (0, f"{out}\n"), outcome.err
    assert out.is_file()
    assert not (root / "comparisons/shop/other/report.html").exists()


def test_where_all_cells_failed_the_page_says_what_did(mmrec, root):
    folder = root / "comparisons/shop/failed"
    folder.mkdir()
    failure = Failure(cell="vbpr · good · s0", error="loss is not finite in epoch 3")
    write_comparison(folder, comparison_of((), name="failed", users=0, failures=(failure,)))
    outcome = mmrec("report --comparison failed")
    assert outcome.code == 0, outcome.err
    page = (folder / "report.html").read_text(encoding="utf-8")
    for told in ("No run of this comparison came to an end", failure.cell, failure.error):
        assert told in page
    assert "Test users" not in page


def test_quiet(mmrec, root):
    assert mmrec("report --quiet --no-thumbnails").err == ""


def test_no_such_comparison(refused, root):
    told = refused("report --comparison othre")
    assert "no finished comparison 'othre'; known: compare, other" in told
    assert "mmrec-compare --dataset shop --name othre" in told
    shutil.rmtree(root / "comparisons")
    told = refused("report")
    assert told.endswith("it has none. Make it with mmrec-compare --dataset shop")


def test_a_comparison_of_another_version(refused, root):
    path = root / "comparisons/shop/compare/comparison.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": "mmrec-comparison/0"}))
    assert "run mmrec-compare again" in refused("report")


@pytest.mark.parametrize("missing", ["jinja2", "sklearn"])
def test_a_package_that_is_not_installed(refused, root, monkeypatch, missing):
    from pipelines import reporting

    monkeypatch.setattr(reporting, "find_spec", lambda name: None if name == missing else name)
    told = refused("report")
    assert f"a page needs {missing}" in told
    assert 'pip install "mmrec[report]"' in told
    assert not (root / "comparisons/shop/compare/report.html").exists()


def test_wrong_usage(mmrec, root):
    for words in ("report --items 0", "report --users -1"):
        assert mmrec(words).code == 2


def test_no_encoder_library_is_imported(root):
    assert libraries_imported("report", "--no-thumbnails", "--root", root) == set()

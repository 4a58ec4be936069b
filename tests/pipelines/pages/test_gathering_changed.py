"""What a page is handed where something has changed, failed or is gone since."""

import json
import shutil

import pytest
from support.report_shop import comparison_of
from support.shop import interaction_rows, write_shop

from extract.errors import UserError
from pipelines.comparisons.contents import Failure
from pipelines.pages.contents import Page
from pipelines.pages.gathering import PageOptions, gather
from pipelines.workspace import Workspace


@pytest.fixture
def root(compared, tmp_path):
    """A copy of the workspace, to write into."""
    return shutil.copytree(compared[0], tmp_path / "copy")


def made_by_another(features):
    """Let features of the same vectors be those of another encoder."""
    path = features / "manifest.json"
    manifest = json.loads(path.read_text())
    encoder = manifest["encoder"] | {"fingerprint": "another"}
    path.write_text(json.dumps(manifest | {"encoder": encoder}))


def test_runs_that_are_gone_are_told_and_left_out(root, compared, saying):
    comparison = compared[1]
    shutil.rmtree(root / "runs/shop/vbpr-good-0")
    (root / "runs/shop/popularity-none-0/metrics.json").unlink()
    page = gather(Workspace(root), comparison, PageOptions(thumbnails=False))
    assert (page.curves[0].system, page.curves[0].seed) == ("vbpr · good", 1)
    assert "popularity · none" not in page.users[0].lists
    assert "vbpr · good" in page.users[0].lists
    told = [line for line in saying if line.startswith("warning:")]
    assert len(told) == 2
    assert "vbpr-good-0 of vbpr · good is not in" in told[0]
    shutil.rmtree(root / "runs/shop")
    with pytest.raises(UserError, match="none of the runs of the comparison 'compare'"):
        gather(Workspace(root), comparison)


def test_a_data_set_that_changed_since(root, compared):
    write_shop(root, rows=[*interaction_rows(), ("newcomer", "i0", "train")])
    with pytest.raises(UserError, match="the users and split of data set 'shop' have changed"):
        gather(Workspace(root), compared[1])


@pytest.mark.parametrize("how", ["gone", "stale"])
def test_features_that_cannot_be_shown(root, compared, saying, how):
    folder = root / "data/shop/features/good"
    if how == "gone":
        shutil.rmtree(folder)
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"items_digest": "other"}))
    page = gather(Workspace(root), compared[1], PageOptions(thumbnails=False))
    assert [space.modality for space in page.spaces] == ["graph", "graph"]
    assert page.disagreements == ()
    told = [line for line in saying if "the features good are left out" in line]
    assert len(told) == 1


def test_a_torn_history_is_told(root, compared):
    (root / "runs/shop/lightgcn-none-0/history.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(UserError, match="one epoch a line in JSON, and does not"):
        gather(Workspace(root), compared[1], PageOptions(thumbnails=False))


def test_features_that_were_extracted_again_are_told(root, compared, saying):
    quick = PageOptions(thumbnails=False, users=0)
    assert gather(Workspace(root), compared[1], quick).made_again == ()
    made_by_another(root / "data/shop/features/good")
    page = gather(Workspace(root), compared[1], quick)
    assert page.made_again == ("good",)
    assert [space.features for space in page.spaces][:3] == ["good"] * 3
    told = [line for line in saying if line.startswith("warning:")]
    assert len(told) == 1
    assert "the features good were extracted again" in told[0]


def test_a_comparison_in_which_all_failed(root, compared):
    failures = (Failure(cell="vbpr · good · s0", error="loss is not finite in epoch 1"),)
    failed = comparison_of((), failures=failures, users=0)
    page = gather(Workspace(root), failed)
    assert page == Page(comparison=failed, licence="Shop, https://shop.example: for looking only")

"""Tuned encoders that name each other by paths inside a workspace, which can be moved whole."""

import json
import shutil

import pytest
import torch
from support.adapted import vectors_of

from extract.encoders import create_encoder
from extract.encoders.adaptation import Adaptation, adapt
from extract.encoders.tuned import Recipe, load_tuned, read_recipe, save_tuned
from extract.encoders.weights import trained_weights
from extract.finetune.optimizer import choose_trained
from extract.finetune.options import TuneOptions

TUNED, RUNS = "data/shop/encoders/ft", "runs/shop/r1/encoder"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "workspace"


def save(base, folder, seed=0):
    """An encoder with projections made of a base, as training leaves it."""
    recipe = Recipe(base.spec, base.fingerprint(), Adaptation(projection=4))
    torch.manual_seed(seed)
    encoder, added = adapt(base, recipe.adaptation)
    choose_trained(encoder, added, TuneOptions())
    save_tuned(folder, recipe, trained_weights(encoder), {})
    return encoder.eval()


def base_of(folder):
    return json.loads((folder / "encoder.json").read_text())["base"]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (TUNED, RUNS, "tuned:../../../../data/shop/encoders/ft"),
        (RUNS, TUNED, "tuned:../../../../runs/shop/r1/encoder"),
        (RUNS, "runs/shop/r2/encoder", "tuned:../../r1/encoder"),
        (TUNED, "data/shop/encoders/ft2", "tuned:../ft"),
        (TUNED, "runs/other/r1/encoder", "tuned:../../../../data/shop/encoders/ft"),
    ],
)
def test_the_workspace_can_move(root, first, second, told):
    save(create_encoder("random:8"), root / first)
    encoder = save(create_encoder(f"tuned:{root / first}"), root / second, seed=1)
    assert base_of(root / second) == told
    assert read_recipe(root / second)[0].base == f"tuned:{root / first}"
    moved = root.rename(root.with_name("moved"))
    loaded = load_tuned(moved / second)
    assert loaded.fingerprint() == encoder.fingerprint()
    for modality, vectors in vectors_of(encoder).items():
        torch.testing.assert_close(vectors_of(loaded)[modality], vectors)


def test_a_base_in_another_workspace_is_told_by_its_whole_path(root, tmp_path):
    save(create_encoder("random:8"), root / TUNED)
    for second in (tmp_path / "other" / RUNS, root / "runs" / "encoder", tmp_path / "encoder"):
        save(create_encoder(f"tuned:{root / TUNED}"), second, seed=1)
        assert base_of(second) == f"tuned:{root / TUNED}"
    root.rename(root.with_name("moved"))
    shutil.move(tmp_path / "moved", root)
    load_tuned(tmp_path / "encoder")


def test_a_base_told_from_the_workspaces_root_is_told_as_short_as_others(root):
    save(create_encoder("random:8"), root / TUNED)
    base = create_encoder(f"tuned:{root / TUNED}")
    base.spec = f"tuned:../../../../{TUNED}"
    save(base, root / "data/shop/encoders/ft2")
    assert base_of(root / "data/shop/encoders/ft2") == "tuned:../ft"


def test_a_relative_root(root, monkeypatch):
    save(create_encoder("random:8"), root / TUNED)
    monkeypatch.chdir(root)
    save(create_encoder(f"tuned:{TUNED}"), root / RUNS)
    assert base_of(root / RUNS) == f"tuned:../../../../{TUNED}"
    monkeypatch.chdir(root.parent)
    load_tuned(root / RUNS)


def test_a_workspace_behind_a_link(root, tmp_path):
    save(create_encoder("random:8"), root / TUNED)
    (tmp_path / "link").symlink_to(root)
    save(create_encoder(f"tuned:{root / TUNED}"), tmp_path / "link" / RUNS)
    assert base_of(root / RUNS) == f"tuned:../../../../{TUNED}"
    load_tuned(tmp_path / "link" / RUNS)


def test_runs_on_another_disk(root, tmp_path):
    """A link in the middle of the workspace, from behind which no relative path leads back."""
    save(create_encoder("random:8"), root / TUNED)
    (tmp_path / "disk").mkdir()
    (root / "runs").symlink_to(tmp_path / "disk")
    save(create_encoder(f"tuned:{root / TUNED}"), root / RUNS)
    load_tuned(root / RUNS)

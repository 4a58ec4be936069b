"""The cells of a grid, written out by hand."""

import pytest
import torch
from support.shop import write_features, write_shop

from extract.errors import UserError
from pipelines.assembling import assemble
from pipelines.comparisons.planning.grid import UNTRAINED, CompareConfig, cells, left_out
from pipelines.config import resolve
from pipelines.run_config import resolve_run
from pipelines.workspace import Workspace
from recommend.models import MODELS
from recommend.train import trainable


@pytest.fixture
def shop(tmp_path):
    folder = write_shop(tmp_path)
    for name in ("good", "better"):
        write_features(folder, name)
    return folder


@pytest.fixture
def grid(tmp_path, shop):
    """The cells of settings."""

    def of(**settings):
        return cells(CompareConfig(**settings), Workspace(tmp_path))

    return of


def told(grid):
    return [
        (
            cell.config.model["name"],
            cell.config.features,
            cell.config.feature_source,
            cell.config.seed,
        )
        for cell in grid
    ]


def test_seed_by_seed_with_controls(grid):
    found = grid(models=("lightgcn", "vbpr"), features=("good",), seeds=(4, 1))
    assert [cell.name for cell in found] == [
        "lightgcn-none-s4",
        "vbpr-good-s4",
        "vbpr-random-s4",
        "vbpr-shuffled-good-s4",
        "lightgcn-none-s1",
        "vbpr-good-s1",
        "vbpr-random-s1",
        "vbpr-shuffled-good-s1",
    ]
    assert told(found)[:4] == [
        ("lightgcn", "none", "frozen", 4),
        ("vbpr", "good", "frozen", 4),
        ("vbpr", "random", "frozen", 4),
        ("vbpr", "shuffled:good", "frozen", 4),
    ]
    assert {cell.config.dataset for cell in found} == {"shop"}


def test_all_finished_feature_sets_and_four_models_by_default(grid, shop):
    (shop / "features" / "unfinished").mkdir()
    columns = ["better", "good", "random", "shuffled:better"]
    models = [("lightgcn", "none")]
    models += [(model, name) for model in ("vbpr", "freedom", "bm3") for name in columns]
    assert told(grid()) == [
        (model, name, "frozen", seed) for seed in (0, 1, 2) for model, name in models
    ]


def test_controls_that_are_named_are_not_added_again(grid):
    found = grid(models=("vbpr",), features=("shuffled:better", "good", "random"), seeds=(0,))
    assert [row[1] for row in told(found)] == ["shuffled:better", "good", "random"]


def test_without_controls(grid):
    found = grid(models=("vbpr",), features=("good",), controls=False, seeds=(0,))
    assert [row[1] for row in told(found)] == ["good"]


def test_regimes_are_for_real_features_and_for_models_that_learn(grid):
    settings = {"models": ("popularity", "itemknn", "vbpr"), "features": ("good",), "seeds": (0,)}
    regimes = ("frozen", "tuned")
    assert told(grid(**settings, regimes=regimes)) == [
        ("popularity", "none", "frozen", 0),
        ("itemknn", "good", "frozen", 0),
        ("itemknn", "random", "frozen", 0),
        ("itemknn", "shuffled:good", "frozen", 0),
        ("vbpr", "good", "frozen", 0),
        ("vbpr", "good", "tuned", 0),
        ("vbpr", "random", "frozen", 0),
        ("vbpr", "shuffled:good", "frozen", 0),
    ]
    assert left_out(CompareConfig(**settings, regimes=regimes)) == [
        "itemknn learn nothing, so the grid has no tuned of them"
    ]
    assert left_out(CompareConfig(**settings)) == []


def test_a_regime_that_nobody_has(grid):
    with pytest.raises(UserError, match="no cell is left of this grid; itemknn learn nothing"):
        grid(models=("itemknn",), regimes=("tuned",))


def test_regimes_with_an_encoder(grid, shop):
    write_features(shop, "random-8")
    found = grid(
        models=("lightgcn", "vbpr"),
        regimes=("frozen", "refresh", "end-to-end"),
        encoder="random:8",
        controls=False,
        seeds=(0,),
        end_to_end={"encoder_rate": 0.5, "chunk_size": 3},
    )
    assert [row[:3] for row in told(found)] == [
        ("lightgcn", "none", "frozen"),
        ("vbpr", "better", "frozen"),
        ("vbpr", "good", "frozen"),
        ("vbpr", "random-8", "frozen"),
        ("vbpr", None, "refresh"),
        ("vbpr", None, "end-to-end"),
    ]
    last = found[-1].config
    assert last.encoder == "random:8"
    assert (last.end_to_end.encoder_rate, last.end_to_end.chunk_size) == (0.5, 3)
    refreshed = found[-2].config
    assert refreshed.feature_source == "refresh"
    assert refreshed.end_to_end.encoder_rate != 0.5  # which would be refused
    assert refreshed.end_to_end.chunk_size == 3


def test_an_encoder_starts_from_its_own_vectors(grid, shop):
    write_features(shop, "tuned_one")
    (shop / "encoders" / "tuned_one").mkdir(parents=True)
    settings = {"models": ("vbpr",), "regimes": ("end-to-end",), "encoder": "tuned_one"}
    [cell] = grid(**settings, seeds=(0,), controls=False)
    assert cell.config.features == "tuned_one"
    assert cell.name == "vbpr-tuned_one-end-to-end-s0"
    [cell] = grid(**settings, seeds=(0,), controls=False, end_to_end={"projection": 4})
    assert cell.config.features is None


def test_settings_go_into_every_cell(tmp_path, shop):
    sets = ("train.max_epochs=7", "model.embedding_size=16", "seeds=[3]")
    config = resolve(CompareConfig, {"models": "vbpr,lightgcn", "protocol": "mmrec"}, None, sets)
    found = cells(config, Workspace(tmp_path))
    assert len(found) == 5
    for cell in found:
        assert cell.config.train.max_epochs == 7
        assert cell.config.model["embedding_size"] == 16
        assert (cell.config.seed, cell.config.protocol) == (3, "mmrec")


def test_names_are_those_of_mmrec_train(grid, mmrec, tmp_path):
    words = ("--set", "train.max_epochs=2", "--features", "good", "--modalities", "text")
    assert mmrec("train --model vbpr --seed 5", *words).code == 0
    train = {"max_epochs": 2}
    found = grid(
        models=("vbpr",), features=("good",), modalities=("text",), seeds=(5,), train=train
    )
    assert found[0].name in {path.name for path in (tmp_path / "runs/shop").iterdir()}


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"models": ("fredom",)}, r"unknown model 'fredom'; did you mean 'freedom'\?"),
        ({"features": ("god",)}, r"unknown feature set .* 'god'; did you mean 'good'\?"),
        ({"features": ("shuffled:god",)}, r"did you mean 'good'\?"),
        ({"modalities": ("picture",)}, "unknown modality 'picture'"),
        ({"dataset": "shp"}, r"unknown data set 'shp'; did you mean 'shop'\?"),
        ({"models": ()}, "--models names none"),
        ({"seeds": ()}, "--seeds names none"),
        ({"regimes": ("end-to-end",)}, "the regime end-to-end needs --encoder SPEC"),
        ({"encoder": "offline"}, "only the regimes end-to-end and refresh can have --encoder"),
        ({"end_to_end": {"lora": 4}}, "can have the settings end_to_end"),
        ({"model": {"name": "vbpr"}}, "name the models of a grid with --models"),
        (
            {"models": ("bpr", "freedom"), "model": {"item_layers": 2}},
            r"bpr: unknown setting 'model.item_layers'.*; what a grid sets, all of its models know",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_refusals(grid, settings, error):
    with pytest.raises(UserError, match=error):
        grid(**settings)


def test_features_whose_runs_would_have_one_name(grid, shop):
    write_features(shop, "shuffled-good")
    with pytest.raises(UserError, match="'shuffled-good' and 'shuffled:good' would give runs of"):
        grid(features=("good", "shuffled-good"))
    grid(features=("good", "shuffled-good"), controls=False)


def test_no_finished_features(tmp_path):
    write_shop(tmp_path)
    with pytest.raises(UserError, match="has no finished feature set; make one with mmrec-extract"):
        cells(CompareConfig(), Workspace(tmp_path))
    assert len(cells(CompareConfig(models=("bpr",)), Workspace(tmp_path))) == 3


def test_an_unfinished_feature_set_that_is_named(grid, shop):
    (shop / "features/good/manifest.json").unlink()
    with pytest.raises(UserError, match="unfinished"):
        grid(features=("good",))


def test_which_models_learn_nothing(tmp_path, shop):
    """Known before they are built; here they are."""
    assert len(MODELS) == 15
    untrained = set()
    for name, kind in MODELS.items():
        settings = {"dataset": "shop", "model": {"name": name}, "device": "cpu"}
        features = {"features": "good"} if kind.uses_features else {}
        torch.manual_seed(0)
        parts = assemble(resolve_run({**settings, **features}), Workspace(tmp_path))
        if not trainable(parts.model):
            untrained.add(name)
    assert untrained == UNTRAINED

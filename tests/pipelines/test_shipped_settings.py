"""The settings files that come with the project."""

from importlib import resources
from pathlib import Path

import pytest

from pipelines.config import read_toml
from pipelines.run_config import resolve_run, shipped_config
from recommend.models import MODELS

FOLDER = Path(str(resources.files("pipelines") / "configs"))
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
DATASETS = ("baby", "sports", "clothing")
UNTRAINED = {"popularity", "itemknn"}


def test_every_model_that_is_trained_has_settings_for_every_data_set():
    wanted = {f"{model}-{dataset}" for model in set(MODELS) - UNTRAINED for dataset in DATASETS}
    assert set(NAMES) == wanted
    assert len(NAMES) == 3 * (len(MODELS) - 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_are_valid_and_named_after_their_model(name):
    settings = read_toml(shipped_config(Path(name)))
    config = resolve_run(settings)
    model, _, dataset = name.rpartition("-")
    assert dataset in DATASETS
    assert config.model["name"] == model
    # What a file says must not be undone by the defaults.
    assert settings["model"].items() <= config.model.items()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_is_the_command(name):
    model, _, dataset = name.rpartition("-")
    features = " --features offline" if MODELS[model].uses_features else ""
    wanted = f"# mmrec-train --config {name} --dataset {dataset}{features} --protocol mmrec"
    assert (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0] == wanted

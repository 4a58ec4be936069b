import math
from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field

from extract.errors import UserError
from extract.planning import EmbedOptions
from pipelines.config import Config, Seed, options_of, resolve, validate, write_toml


class Training(Config):
    rate: float = Field(0.5, gt=0, description="A rate.")


class Files(Config):
    images: tuple[Path, ...] = Field((), description="Folders.")
    ratios: tuple[float, ...] = Field((0.8, 0.2), description="Shares.")


class Settings(Files):
    size: int = Field(3, description="A size.")
    name: str = Field(description="A name.")
    kind: Literal["one", "two"] = Field("one", description="A kind.")
    deep: bool = Field(False, description="Depth.")
    seed: Seed = Field(0, description="A seed.")
    train: Training = Field(Training(), description="A table.")


def test_later_sources_win(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('name = "file"\nsize = 1\nkind = "two"\n[train]\nrate = 0.1\n')
    given = {"name": "option", "size": None, "images": ()}
    found = resolve(Settings, given, file, ["size=2", "name=set", "train.rate=0.2"])
    assert (found.name, found.size, found.kind, found.train.rate) == ("option", 2, "two", 0.2)


def test_settings_are_read_back_as_they_were_written(tmp_path):
    config = Settings(name="a", ratios="0.5,0.5", images=("x,y", "z"), seed=2**63 - 1)
    write_toml(tmp_path / "config.toml", config, "of a test")
    assert resolve(Settings, {}, tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"seed": -1}, "seed: input should be greater than or equal to 0, found -1"),
        ({"seed": 2**63}, "seed: input should be less than 9223372036854775808"),
        ({"ratios": "0.5,nan"}, "ratios.1: input should be a finite number, found 'nan'"),
        ({"ratios": (math.inf,)}, "ratios.0: input should be a finite number, found inf"),
        ({"nmae": "x"}, "unknown setting 'nmae'; did you mean 'name'?"),
        ({"train": {"rat": 1}}, "unknown setting 'train.rat'; did you mean 'train.rate'?"),
        ({"train": {"rate": math.inf}}, "train.rate: input should be a finite number"),
    ],
)
def test_what_is_wrong_is_told(setting, told):
    with pytest.raises(UserError) as caught:
        validate(Settings, {"name": "x"} | setting)
    assert told in str(caught.value)


def test_everything_wrong_is_told_at_once():
    with pytest.raises(UserError) as caught:
        validate(Settings, {"seed": -1, "size": "x"})
    for part in ("the setting name is needed", "seed: ", "size: "):
        assert part in str(caught.value)


def test_the_encoders_options_are_finite_too():
    assert EmbedOptions.model_config["allow_inf_nan"] is False


def help_of(config_class):
    @click.command()
    @options_of(config_class)
    def command(**_):
        pass

    return CliRunner().invoke(command, ["--help"], terminal_width=100).output


def test_help_lists_what_is_required_then_the_class_then_its_bases():
    lines = help_of(Settings).splitlines()
    flags = [line.split()[0] for line in lines if line.startswith("  --")]
    own = ["--size", "--kind", "--deep", "--seed"]
    assert flags == ["--name", *own, "--images", "--ratios", "--config", "--set", "--help"]


def test_help_tells_what_is_required_and_every_default():
    text = help_of(Settings)
    assert "A name.  [required]" in text
    assert "A size.  [default: 3]" in text
    assert "Depth.  [default: false]" in text
    assert "Shares.  [default: 0.8,0.2]" in text
    assert text.count("[required]") == 1


@pytest.mark.parametrize(
    ("config_class", "example"),
    [(Settings, "train.rate=0.5"), (Files, "ratios=0.8,0.2"), (Training, "rate=0.5")],
)
def test_the_example_of_set_is_a_setting_of_this_command(config_class, example):
    assert f"such as {example};" in " ".join(help_of(config_class).split())
    needed = {"name": "x"} if config_class is Settings else {}
    assert resolve(config_class, needed, None, [example]) == config_class(**needed)

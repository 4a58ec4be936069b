"""``make prepare``, ``make extract``, ``make train``: first what is missing, and nothing twice.

Each command is shown as one would type it, before it runs.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from extract.errors import unknown_name
from extract.ledger import count_problems
from pipelines import prepare
from pipelines.assembling import with_names
from pipelines.cli import CONTEXT, DONE, load_command, run, run_tidily
from pipelines.config import resolve
from pipelines.encoder_specs import encoder_spec
from pipelines.extraction import ExtractionConfig, feature_folder
from pipelines.loading import is_made_from
from pipelines.overwriting import check_same_source, finished_features
from pipelines.progress import Reporter
from pipelines.roots import open_root
from pipelines.run_config import RunConfig, run_settings
from pipelines.runs import CONFIG, RunFolder
from pipelines.sources.amazon import Amazon2014Config
from pipelines.sources.movielens_files import RELEASES
from pipelines.workspace import RANDOM, SHUFFLED, Dataset, Workspace, read_json
from recommend.models import model_class

# What encodes where nothing is said.
OFFLINE = "offline"
# The data sets that can be made from their name alone, and the kind of their source.
PUBLISHED = {
    "toy": "toy",
    **dict.fromkeys(Amazon2014Config.short_names, "amazon"),
    **dict.fromkeys(RELEASES, "movielens"),
}


@dataclass(frozen=True)
class Wish:
    """What ``make`` was asked for; empty where it was not.

    Attributes:
        root: The workspace.
        dataset: The data set.
        features: The feature set, or a control.
        encoder: The encoder.
        model: The recommender.
        arguments: Further words for the last command.
    """

    root: str
    dataset: str
    features: str
    encoder: str
    model: str
    arguments: tuple[str, ...]

    @property
    def workspace(self) -> Workspace:
        """Where everything lies."""
        return Workspace(open_root(self.root) if self.root else Path())

    def found(self) -> Dataset:
        """The data set, which need not exist yet; without a name the only one there is."""
        workspace = self.workspace
        return workspace.new_dataset(self.dataset) if self.dataset else workspace.dataset(None)

    def words(self, *more: str) -> list[str]:
        """The words of a command."""
        named = {"--root": self.root, "--dataset": self.dataset}
        return [word for option in named.items() if option[1] for word in option] + list(more)


def make_dataset(wish: Wish, arguments: Sequence[str] = ()) -> int:
    """Prepare the data set unless it is there.

    Args:
        wish: What was asked for.
        arguments: Further words for the command.

    Returns:
        The exit code.

    Raises:
        UserError: It is not there, and no published one either; or it is there, and was made
            otherwise than the arguments say.
    """
    dataset = wish.found()
    kind = PUBLISHED.get(dataset.name)
    there = dataset.description.is_file()
    if kind is None and not there and dataset.folder.is_dir():
        dataset.require_prepared()
    if kind is None and (arguments or not there):
        raise unknown_name(
            "published data set",
            dataset.name,
            PUBLISHED,
            f"One of your own is made by mmrec-prepare table --dataset {dataset.name} ...",
        )
    words = wish.words(*arguments)
    if there and not (kind and arguments and _is_to_be_replaced(dataset, kind, words)):
        _say(f"the data set {dataset.name!r} is there already: {dataset.folder}")
        _tell_unreachable(dataset)
        return DONE
    return _call("prepare", [str(kind), *words])


def make_features(wish: Wish) -> int:
    """Encode what of the catalogue is not encoded yet, and return the exit code.

    Raises:
        UserError: The data set cannot be had, or there is no such encoder.
    """
    encoder = wish.encoder or wish.features or OFFLINE
    own_name = ["--features", wish.features] if wish.encoder and wish.features else []
    words = wish.words("--encoder", encoder, *own_name, *wish.arguments)
    # What is wrong is told before anything is fetched.
    _extraction_config(words)
    encoder_spec(encoder, wish.found())
    return make_dataset(wish) or _call("extract", words)


def make_run(wish: Wish) -> int:
    """Train and evaluate unless that is done, and return the exit code.

    Raises:
        UserError: Something that is missing cannot be had, the settings do not go together, or
            a run of that name has other settings.
    """
    config = _run_config(_training_words(wish, wish.features))
    live = config.encoder is not None
    if not model_class(config.model["name"]).uses_features or (live and not wish.features):
        return make_dataset(wish) or _train(wish, "")
    if wish.features == RANDOM:
        return make_dataset(wish) or _train(wish, RANDOM)
    control = SHUFFLED if wish.features.startswith(SHUFFLED) else ""
    return _encode_and_train(wish, config.encoder or "", control)


def _encode_and_train(wish: Wish, encoder: str, control: str) -> int:
    """Train on features, which are made unless they are there.

    Args:
        wish: What was asked for.
        encoder: The one that takes part in training; empty without one.
        control: What stands before the name of the features.
    """
    asked, dataset = wish.features.removeprefix(control), wish.found()
    encoder = wish.encoder or encoder
    name = asked if encoder or asked in dataset.feature_names() else ""
    # Where nothing else says what encodes, the features' name does.
    encoder = encoder or asked or OFFLINE
    if name not in dataset.feature_names():
        encoder_spec(encoder, dataset)  # told before anything is fetched
    if code := make_dataset(wish):
        return code
    words = wish.words("--encoder", encoder, *(["--features", name] if name else []))
    folder = feature_folder(_extraction_config(words), wish.workspace)
    if finished_features(folder) and is_made_from(wish.found(), folder.name):
        _say(f"the features {folder.name!r} are there already: {folder}")
    elif code := _call("extract", words):
        return code
    return _train(wish, control + folder.name)


def _train(wish: Wish, features: str) -> int:
    """Train, or go on with a run that is there; of a finished one its figures are told."""
    words = _training_words(wish, features)
    config = with_names(_run_config(words), wish.workspace)
    folder = wish.workspace.new_run(config.dataset or "", config.run or "")
    if (folder / CONFIG).is_file():
        RunFolder.check_free(folder, config)
        root = ["--root", wish.root] if wish.root else []
        words = [*root, "--resume", str(folder)]
    return _call("train", words)


def _training_words(wish: Wish, features: str) -> list[str]:
    named = ["--features", features] if features else []
    return wish.words(*named, "--model", wish.model, *wish.arguments)


def _run_config(words: Sequence[str]) -> RunConfig:
    """The settings that ``mmrec-train`` understands by its words."""
    given = _parsed("mmrec-train", load_command("train"), words)
    regime = {"feature_source": "end-to-end"} if given.pop("end_to_end") else {}
    model, config_file, sets = (given.pop(name) for name in ("model", "config_file", "sets"))
    given.pop("resumed")
    return run_settings({**given, **regime}, model, config_file, sets)


def _extraction_config(words: Sequence[str]) -> ExtractionConfig:
    """The settings that ``mmrec-extract`` understands by its words."""
    given = _parsed("mmrec-extract", load_command("extract"), words)
    return resolve(ExtractionConfig, given, given.pop("config_file"), given.pop("sets"))


def _tell_unreachable(dataset: Dataset) -> None:
    """Say how to get at the pictures that were out of reach when the data set was made."""
    lost = count_problems(dataset.folder).get(("image", "unreachable"), 0)
    if lost:
        settings = read_json(dataset.description)
        kind = settings.get("source", {}).get("kind", "")
        _say(
            f"{lost:,} of its pictures were out of reach then; mmrec-prepare {kind} --dataset "
            f"{dataset.name}, with the settings that it was made with, asks for them once more"
        )


def _is_to_be_replaced(dataset: Dataset, kind: str, words: Sequence[str]) -> bool:
    """Whether a data set is to be made again though it is there.

    Raises:
        UserError: It was made otherwise than ``mmrec-prepare`` with these words would make it.
    """
    given = _parsed(f"mmrec-prepare {kind}", prepare.command.commands[kind], words)
    config_class = prepare.SOURCES[kind].config
    settings = resolve(config_class, given, given.pop("config_file"), given.pop("sets"))
    check_same_source(dataset, kind, settings)
    return settings.overwrite


def _parsed(name: str, command: click.Command, words: Sequence[str]) -> dict[str, Any]:
    """What a command is given by some words, but for the options of every command.

    Raises:
        click.UsageError: It does not take them.
    """
    given = command.make_context(name, list(words), **CONTEXT).params
    return {name: value for name, value in given.items() if name not in ("root", "quiet")}


def _call(name: str, words: Sequence[str]) -> int:
    _say(f"mmrec-{name} {shlex.join(words)}")
    return run(name, words)


def _say(line: str) -> None:
    Reporter().say(line)


TARGETS = {
    "prepare": lambda wish: make_dataset(wish, wish.arguments),
    "extract": make_features,
    "train": make_run,
}


@click.command()
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--root", default="", envvar="MMREC_ROOT", help="The workspace.")
@click.option("--dataset", default="", help="The data set; may be left out where there is one.")
@click.option("--features", default="", help="The feature set, or a control.")
@click.option("--encoder", default="", help=f"The encoder.  [default: FEATURES, or {OFFLINE}]")
@click.option("--model", default="freedom", help="The recommender.  [default: freedom]")
def command(target: str, **wished: Any) -> int:
    """Do what is missing, up to a target; ARGUMENTS after -- go to the last command."""
    return TARGETS[target](Wish(**wished))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module and return its exit code."""
    return run_tidily(lambda: command, "make", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Settings that a search chose for a system: frozen in a file before a cell of it is trained."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from extract.files import digest, replacing
from pipelines.assembling import with_names
from pipelines.comparisons.notes import NotingReporter
from pipelines.comparisons.planning.compare_config import FROZEN
from pipelines.comparisons.planning.grid import Cell
from pipelines.comparisons.searching.search import Chosen, SearchOptions, search
from pipelines.comparisons.searching.trial_settings import overridden
from pipelines.overwriting import finished_features
from pipelines.run_config import RunConfig
from pipelines.workspace import RANDOM, SHUFFLED, Workspace
from recommend.sources import LIVE

SEARCHES, CHOSEN = "search.db", "chosen"


@dataclass(frozen=True)
class Choice:
    """What was chosen for a system.

    Attributes:
        settings: By table, in place of the system's own.
        trials: How many were tried.
        value: Of the selection metric on validation.
    """

    settings: Mapping[str, Mapping[str, Any]]
    trials: int
    value: float


@dataclass(frozen=True)
class SearchSystem:
    """The task of searching a system's settings.

    Attributes:
        cell: The system's first cell; of its seed are all trials.
        root: The workspace's folder.
        folder: The comparison's.
        options: How to search.
        key: What `key_of` says of it all.
    """

    cell: Cell
    root: Path
    folder: Path
    options: SearchOptions
    key: str

    def __call__(self) -> Choice:
        """Search, and write down what was chosen.

        Raises:
            UserError: As `pipelines.comparisons.searching.search.search`.
        """
        chosen: Chosen = search(
            self.cell.config,
            Workspace(self.root),
            self.options,
            self.folder / SEARCHES,
            self.cell.system,
            NotingReporter(),
        )
        choice = Choice(chosen.settings, chosen.trials, chosen.value)
        _write(self.folder, self.cell.system, choice, self.key)
        return choice


def by_search(cells: Sequence[Cell]) -> tuple[dict[str, list[Cell]], list[Cell]]:
    """Cells by the system whose settings are searched for them, and those without one.

    With an encoder in every step a search costs too much, and regimes are to differ in nothing but
    how the encoder takes part: so its systems take what is chosen for the same features frozen.

    Args:
        cells: Of a grid.
    """
    searched: dict[str, list[Cell]] = {}
    live = []
    for cell in cells:
        if cell.config.feature_source in LIVE:
            live.append(cell)
        else:
            searched.setdefault(cell.system, []).append(cell)
    unsearched: list[Cell] = []
    for cell in live:
        frozen = cell.config.model_copy(update={"feature_source": FROZEN})
        leader = searched.get(Cell(frozen).system) if cell.config.features else None
        (unsearched if leader is None else leader).append(cell)
    return searched, unsearched


def key_of(cell: Cell, workspace: Workspace, options: SearchOptions, log: Mapping[str, str]) -> str:
    """A digest of what a choice depends on: settings, search, data.

    Args:
        cell: The system's first.
        workspace: Where its data set lies.
        options: How to search.
        log: Digests of the data set's log.
    """
    settings = {name: value for name, value in cell.config.results().items() if name != "run"}
    name = (cell.config.features or RANDOM).removeprefix(SHUFFLED)
    manifest = None
    if name not in (RANDOM, "none"):
        manifest = finished_features(workspace.dataset(cell.config.dataset).features(name))
    data = [dict(log), manifest.digest() if manifest else ""]
    return digest([json.dumps([settings, asdict(options), data], sort_keys=True)])


def read_choice(folder: Path, system: str, key: str) -> Choice | None:
    """A choice that was made before, in the same way; None where there is none."""
    try:
        told = tomllib.loads(choice_file(folder, system).read_text(encoding="utf-8"))
        if told["key"] != key:
            return None
        return Choice(told["settings"], told["trials"], told["value"])
    except (OSError, ValueError, KeyError):  # not there, torn, or something else
        return None


def with_choice(config: RunConfig, choice: Choice, workspace: Workspace) -> RunConfig:
    """A cell's settings with those that were chosen; the run gets its name anew."""
    return with_names(
        overridden(config.model_copy(update={"run": None}), choice.settings), workspace
    )


def _write(folder: Path, system: str, choice: Choice, key: str) -> None:
    told = {"key": key, "trials": choice.trials, "value": choice.value}
    text = tomli_w.dumps({**told, "settings": choice.settings})
    heading = f"# {system}: the best of {choice.trials} trials, on validation"
    with replacing(choice_file(folder, system)) as temporary:
        temporary.write_text(f"{heading}\n{text}", encoding="utf-8")


def choice_file(folder: Path, system: str) -> Path:
    """Where a system's choice lies."""
    return folder / CHOSEN / f"{system}.toml"

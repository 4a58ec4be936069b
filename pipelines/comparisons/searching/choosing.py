"""Settings that a search chose for a system: frozen in a file before a cell of it is trained."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
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
from pipelines.comparisons.words import listed
from pipelines.overwriting import finished_features
from pipelines.run_config import RunConfig
from pipelines.workspace import RANDOM, SHUFFLED, Workspace
from recommend.sources import LIVE

SEARCHES, CHOSEN = "search.db", "chosen"
# Of a run's settings, those in which something is chosen.
TABLES = ("model", "train")


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
class Search:
    """A search that a grid needs.

    Attributes:
        cell: Whose settings are searched; it need not be in the grid.
        cells: Those that take what is chosen.
    """

    cell: Cell
    cells: list[Cell]


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


def by_search(cells: Sequence[Cell]) -> tuple[list[Search], list[Cell]]:
    """The searches that a grid needs, and the cells whose settings are taken as they are.

    With an encoder in every step a search costs too much, and regimes are to differ in nothing but
    how the encoder takes part: so its systems take what is chosen for the same features frozen,
    also where the grid has no such cells. Those that start from no features have no such settings.

    Args:
        cells: Of a grid, seed by seed.
    """
    searches: dict[str, Search] = {}
    unsearched = []
    for cell in cells:
        if cell.config.feature_source in LIVE and cell.config.features is None:
            unsearched.append(cell)
            continue
        first = _frozen(cell) if cell.config.feature_source in LIVE else cell
        searches.setdefault(first.system, Search(first, [])).cells.append(cell)
    return list(searches.values()), unsearched


def of_encoders(cells: Sequence[Cell], unsearched: Sequence[Cell]) -> Iterator[str]:
    """Lines on where systems with an encoder have their settings from.

    Args:
        cells: Of a grid.
        unsearched: Those of them that `by_search` gave no search.
    """
    without = {cell.system for cell in unsearched}
    live = {cell.system for cell in cells if cell.config.feature_source in LIVE}
    for names, told in (
        (live - without, "the settings are those chosen for the same features frozen"),
        (without, "nothing is searched, as they start from no features of the data set"),
    ):
        if names:
            yield f"{listed(sorted(names))}: {told}"


def _frozen(cell: Cell) -> Cell:
    """The same model on the same features, without the encoder."""
    without = {"feature_source": FROZEN, "encoder": None, "end_to_end": None, "run": None}
    return Cell(cell.config.model_copy(update=without))


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
    """A choice that was made before, in the same way; None where there is none that is whole."""
    try:
        told = tomllib.loads(choice_file(folder, system).read_text(encoding="utf-8"))
        if told["key"] != key:
            return None
        settings = {table: dict(told["settings"][table]) for table in TABLES}
        return Choice(settings, int(told["trials"]), float(told["value"]))
    except (OSError, ValueError, KeyError, TypeError):  # not there, torn, or something else
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

"""From the cells of a grid to finished runs: what is there is kept, the rest goes to a pool."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from extract.errors import UserError
from extract.files import replacing
from pipelines.comparisons.contents import Failure
from pipelines.comparisons.planning.grid import Cell
from pipelines.comparisons.running.cells import (
    Digests,
    TrainCell,
    check_results,
    finished,
    run_folder,
)
from pipelines.comparisons.running.counting import Count, duration
from pipelines.comparisons.running.pool import Outcome, Pool
from pipelines.comparisons.searching.choosing import (
    Choice,
    SearchSystem,
    by_search,
    choice_file,
    key_of,
    of_encoders,
    read_choice,
    with_choice,
)
from pipelines.comparisons.searching.search import SearchOptions
from pipelines.comparisons.words import figure
from pipelines.journal import Journal
from pipelines.progress import Reporter
from pipelines.workspace import Workspace

JOURNAL, TRACEBACKS = "cells.jsonl", "tracebacks"


@dataclass(frozen=True)
class Place:
    """Where a comparison is made.

    Attributes:
        workspace: Where data and runs lie.
        folder: The comparison's own.
        log: Digests of the data set's log.
    """

    workspace: Workspace
    folder: Path
    log: Digests


@dataclass
class Worked:
    """What became of the cells.

    Attributes:
        runs: Folders of finished runs.
        failures: The others.
        searched: Name of a run to how many trials chose its settings.
    """

    runs: list[Path] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    searched: dict[str, int] = field(default_factory=dict)


class Work:
    """The cells of a grid on their way to results.

    Args:
        place: Where.
        pool: Who trains.
        count: Of the cells.
        metric: Which of the test metrics progress tells.
        reporter: Where progress goes.

    Attributes:
        worked: What became of the cells so far.
    """

    def __init__(
        self, place: Place, pool: Pool, count: Count, metric: str, reporter: Reporter
    ) -> None:
        self._place, self._pool, self._count = place, pool, count
        self._metric, self._reporter = metric, reporter
        place.folder.mkdir(parents=True, exist_ok=True)
        self._journal = _journal(place.folder / JOURNAL)
        # Systems whose settings are being searched, to their cells.
        self._searching: dict[str, list[Cell]] = {}
        self._kept = 0
        self.worked = Worked()

    def begin(self, cells: Sequence[Cell], options: SearchOptions | None = None) -> None:
        """Queue cells, after a search for each system's settings if there are options for it."""
        if options is None:
            self._queue(cells)
        else:
            self._begin_searches(cells, options)
        self._tell_kept()

    def _begin_searches(self, cells: Sequence[Cell], options: SearchOptions) -> None:
        searches, unsearched = by_search(cells)
        for line in of_encoders(cells, unsearched):
            self._reporter.say(line)
        for search in searches:
            name = search.cell.system
            key = key_of(search.cell, self._place.workspace, options, self._place.log)
            choice = read_choice(self._place.folder, name, key)
            if choice is not None:
                self._queue_chosen(name, search.cells, choice)
            else:
                self._searching[name] = search.cells
                root, folder = self._place.workspace.root, self._place.folder
                self._pool.add([SearchSystem(search.cell, root, folder, options, key)])
        self._queue(unsearched)

    def finish(self) -> Worked:
        """Have all that is queued done."""
        try:
            for outcome in self._pool.outcomes():
                if isinstance(outcome.task, SearchSystem):
                    self._searched(outcome.task.cell.system, outcome)
                elif isinstance(outcome.task, TrainCell):
                    self._trained(outcome.task, outcome)
        finally:
            self._journal.close()
        return self.worked

    def _queue(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            workspace = self._place.workspace
            metrics = finished(cell.config, workspace, self._place.log)
            if metrics is None:
                self._pool.add([TrainCell(cell.config, workspace.root, self._place.log)])
                self._count.waits(cell)
                continue
            place = self._count.tell()
            try:
                check_results(run_folder(cell.config, workspace), metrics)
            except UserError as error:
                self._fail(cell, str(error), place=place)
                continue
            self._kept += 1
            self._record(cell, "kept", seconds=metrics["seconds"])

    def _tell_kept(self) -> None:
        if self._kept == self._count.total:
            kept = f"all {self._kept} cells are finished already, so nothing is trained"
            self._reporter.say(kept)
        elif self._kept:
            self._reporter.say(f"{self._kept} of {self._count.total} cells are finished and kept")

    def _queue_chosen(self, system: str, cells: Sequence[Cell], choice: Choice) -> None:
        try:
            chosen = [Cell(with_choice(c.config, choice, self._place.workspace)) for c in cells]
        except UserError as error:
            path = choice_file(self._place.folder, system)
            for cell in cells:
                self._count.tell()
                told = f"{path} does not fit ({error}); delete it, and the search is done again"
                self._fail(cell, told)
            return
        self.worked.searched |= {cell.name: choice.trials for cell in chosen}
        self._queue(chosen)

    def _searched(self, system: str, outcome: Outcome) -> None:
        cells = self._searching.pop(system)
        if outcome.error:
            error = f"the search for settings failed: {self._error(system, outcome)}"
            for cell in cells:
                self._count.tell()
                self._fail(cell, error, outcome.seconds, outcome.overhead)
            return
        choice: Choice = outcome.result
        self._reporter.say(
            f"{system}: {choice.trials} trials, validation {figure(choice.value)} "
            f"({duration(outcome.seconds)})"
        )
        self._queue_chosen(system, cells, choice)

    def _trained(self, task: TrainCell, outcome: Outcome) -> None:
        cell = Cell(task.config)
        if outcome.result is not None and outcome.result.status == "busy":
            if not task.again:
                self._reporter.say(f"{cell.name} is being made by another process; it comes later")
            self._pool.add([replace(task, again=True)])
            return
        # A run that another process made says nothing of how long others take.
        telling = not outcome.error and outcome.result.status != "kept"
        place = self._count.tell(cell, outcome.seconds if telling else None)
        if outcome.error:
            error = self._error(cell.name, outcome)
            self._fail(cell, error, outcome.seconds, outcome.overhead, place)
            return
        self._record(cell, outcome.result.status, "", outcome.seconds, outcome.overhead)
        value = figure(outcome.result.metrics["test"][self._metric])
        line = f"{place}: {cell.name} {self._metric} {value} ({duration(outcome.seconds)})"
        left = None if self._searching else self._count.left()
        self._reporter.say(f"{line}, {duration(left)} left" if left is not None else line)

    def _fail(
        self, cell: Cell, error: str, seconds: float = 0, overhead: float = 0, place: str = ""
    ) -> None:
        self._reporter.say(f"{place or 'cell'}: {cell.name} failed: {error}")
        self._record(cell, "failed", error, seconds, overhead)

    def _error(self, name: str, outcome: Outcome) -> str:
        """What to tell; the traceback of a defect is put into a file."""
        if not outcome.traceback:
            return outcome.error
        path = self._place.folder / TRACEBACKS / f"{name}.txt"
        with suppress(OSError), replacing(path) as temporary:
            temporary.write_text(outcome.traceback, encoding="utf-8")
        return f"{outcome.error}; its traceback is in {path}"

    def _record(
        self, cell: Cell, status: str, error: str = "", seconds: float = 0, overhead: float = 0
    ) -> None:
        times = {"seconds": round(seconds, 3), "overhead": round(overhead, 3)}
        line = {"run": cell.name, "status": status, **times, **({"error": error} if error else {})}
        self._journal.write(json.dumps(line))
        if error:
            self.worked.failures.append(Failure(cell=cell.name, error=error))
        else:
            self.worked.runs.append(run_folder(cell.config, self._place.workspace))


def _journal(path: Path) -> Journal:
    """The journal, with what it holds already; a line that was torn by a kill is left out."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = text.splitlines()
    return Journal(path, [line for line in lines if _is_whole(line)])


def _is_whole(line: str) -> bool:
    try:
        told: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(told, Mapping) and "\ufffd" not in line  # as bytes that are no text are read

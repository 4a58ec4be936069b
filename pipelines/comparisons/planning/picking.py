"""Finished runs by name or by pattern."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from extract.errors import UserError, unknown_name
from extract.files import subfolders
from pipelines.comparisons.contents import read_comparison
from pipelines.progress import Reporter
from pipelines.run_config import read_run_config
from pipelines.runs import CONFIG, METRICS
from pipelines.workspace import Workspace


def picked_runs(
    names: Sequence[str], dataset: str | None, workspace: Workspace, reporter: Reporter
) -> tuple[str, list[Path]]:
    """The data set of some runs, and their folders.

    Args:
        names: As for ``mmrec-evaluate``, or patterns with ``*``, ``?`` or ``[...]`` of names or of
            ``DATASET/RUN``.
        dataset: Only this one's; None for any one's.
        workspace: Where they lie.
        reporter: Where to tell what a pattern left out.

    Raises:
        UserError: A name or a pattern fits no finished run, or runs are of several data sets.
    """
    found: dict[Path, None] = {}
    for name in names:
        if is_pattern(name):
            found |= dict.fromkeys(_fitting(name, dataset, workspace, reporter))
        else:
            whole = f"{dataset}/{name}" if dataset and "/" not in name else name
            found[workspace.run(whole)] = None
    of = {path: read_run_config(path / CONFIG).dataset or "" for path in found}
    several = sorted(set(of.values()) | ({dataset} if dataset else set()))
    if len(several) > 1:
        raise UserError(
            f"runs of one data set can be compared, found {' and '.join(several)}; name one with "
            "--dataset, and runs of it"
        )
    return several[0], list(found)


def searched_runs(dataset: str, workspace: Workspace) -> dict[str, int]:
    """Runs whose settings a search chose, to its trials, as comparisons that are there tell.

    Args:
        dataset: Of the runs.
        workspace: Where the comparisons lie.
    """
    folder = workspace.root / "comparisons" / dataset
    trials: dict[str, int] = {}
    for name in subfolders(folder):
        try:
            systems = read_comparison(folder / name).systems
        except UserError:  # it is not judged yet, or of another version
            continue
        for system in systems:
            for run in system.runs if system.searched else ():
                trials[run] = max(system.searched, trials.get(run, 0))
    return trials


def is_pattern(name: str) -> bool:
    """Whether it may stand for several names."""
    return any(letter in name for letter in "*?[")


def _fitting(
    pattern: str, dataset: str | None, workspace: Workspace, reporter: Reporter
) -> list[Path]:
    """Finished runs that a pattern fits."""
    known = [workspace.dataset(dataset).name] if dataset else subfolders(workspace.root / "runs")
    every = {f"{name}/{path.name}": path for name in known for path in workspace.runs(name)}
    fitting = [
        path
        for name, path in every.items()
        if fnmatchcase(name, pattern) or fnmatchcase(path.name, pattern)
    ]
    finished = [path for path in fitting if (path / METRICS).is_file()]
    if not finished:
        raise unknown_name("run", pattern, every, "None that it fits is finished")
    if len(finished) < len(fitting):
        reporter.say(f"{len(fitting) - len(finished)} unfinished runs that fit are left out")
    return finished

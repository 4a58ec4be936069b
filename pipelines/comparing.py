"""``mmrec-compare``: a grid of runs, trained as far as they are missing, and judged."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import UserError
from extract.files import replacing
from extract.locking import locked
from pipelines.cli import common_options
from pipelines.comparisons.contents import COMPARISON, Comparison, write_comparison
from pipelines.comparisons.planning.command_line import command_of
from pipelines.comparisons.planning.compare_config import CompareConfig, JudgeConfig, PickedConfig
from pipelines.comparisons.planning.grid import Cell, cells, left_out, real_features
from pipelines.comparisons.planning.picking import picked_runs, searched_runs
from pipelines.comparisons.running.counting import Count
from pipelines.comparisons.running.pool import Pool, share_of_cores
from pipelines.comparisons.running.sparing import Sparing
from pipelines.comparisons.running.working import Place, Work, Worked
from pipelines.config import options_of, resolve, write_toml
from pipelines.devices import resolve_device
from pipelines.loading import load_log, log_digests
from pipelines.progress import Reporter
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.comparisons.judging import JudgeOptions

CONFIG, DOCUMENT = "config.toml", "comparison.md"
ON_INTERRUPT = "the same mmrec-compare command goes on, and keeps finished runs"


def run(config: CompareConfig, workspace: Workspace, reporter: Reporter) -> Comparison:
    """Train what is missing of a grid, judge it, write the comparison's folder.

    A cell that fails hurts no other, and is told in the comparison.

    Args:
        config: The grid.
        workspace: Where data and runs lie.
        reporter: Where progress goes.

    Raises:
        UserError: Wrong settings, no cell has a result, or another process makes the same
            comparison.
        KeyboardInterrupt: It was interrupted, and tells how to go on.
    """
    grid = cells(config, workspace)
    dataset = workspace.dataset(config.dataset)
    # So that what is told of how to make it again means the same grid later.
    named = {"dataset": dataset.name, "features": config.features or real_features(grid) or None}
    config = config.model_copy(update=named)
    folder = workspace.new_comparison(dataset.name, config.name)
    with locked(folder, "making the comparison"):
        for line in left_out(config):
            reporter.say(line)
        _write_config(folder, config)
        place = Place(workspace, folder, log_digests(load_log(dataset)))
        worked = train_cells(config, grid, place, reporter)
        if not worked.runs:
            _write_failures(worked, config, dataset.name, workspace)
            raise UserError(
                f"none of {len(grid)} cells has a result; the first one, "
                f"{worked.failures[0].cell}: {worked.failures[0].error}"
            )
        return _judge(worked, config, dataset.name, workspace, reporter)


def train_cells(
    config: CompareConfig, grid: Sequence[Cell], place: Place, reporter: Reporter
) -> Worked:
    """Have all cells of a grid done that are not finished yet.

    Args:
        config: The settings of the grid.
        grid: Its cells.
        place: Where.
        reporter: Where progress goes.

    Raises:
        KeyboardInterrupt: It was interrupted, and tells how to go on.
    """
    from pipelines.comparisons.searching.search import SearchOptions

    on_gpu = resolve_device(config.device).type == "cuda"
    processes, threads = share_of_cores(config.processes or (1 if on_gpu else None), len(grid))
    options = SearchOptions(trials=config.trials) if config.trials else None
    count = Count(len(grid), processes)
    try:
        with Pool(processes, threads, Sparing(reporter.say)) as pool:
            work = Work(place, pool, count, config.primary, reporter)
            work.begin(grid, options)
            return work.finish()
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(ON_INTERRUPT) from error


def run_on(
    names: Sequence[str], config: PickedConfig, workspace: Workspace, reporter: Reporter
) -> Comparison:
    """Judge runs that are there, and write the comparison's folder.

    Args:
        names: Of runs, or patterns of names.
        config: How to judge.
        workspace: Where data and runs lie.
        reporter: Where progress goes.

    Raises:
        UserError: A name fits no run, or runs cannot be compared.
    """
    dataset, runs = picked_runs(names, config.dataset, workspace, reporter)
    with locked(workspace.new_comparison(dataset, config.name), "making the comparison"):
        command = command_of(config, names)
        worked = Worked(runs, searched=searched_runs(dataset, workspace))
        return _judge(worked, config, dataset, workspace, reporter, command)


def _judge(
    worked: Worked,
    config: JudgeConfig,
    dataset: str,
    workspace: Workspace,
    reporter: Reporter,
    command: str = "",
) -> Comparison:
    """Judge, and write what came of it."""
    from pipelines.comparisons.judging import judge

    reporter.say(f"judging {len(worked.runs)} runs")
    options = _options(worked, config, command)
    comparison = judge(workspace, dataset, worked.runs, worked.failures, options)
    _write(comparison, workspace)
    return comparison


def _options(worked: Worked, config: JudgeConfig, command: str = "") -> "JudgeOptions":
    from pipelines.comparisons.judging import JudgeOptions

    return JudgeOptions(
        name=config.name,
        primary=config.primary,
        confidence=config.confidence,
        test=config.test,
        command=command or command_of(config),
        searched=worked.searched,
    )


def _write(comparison: Comparison, workspace: Workspace) -> None:
    """The numbers, and the document; a kill in between leaves none that says something else."""
    from pipelines.comparisons.telling.markdown import markdown

    folder = workspace.new_comparison(comparison.dataset, comparison.name)
    text = markdown(comparison)
    (folder / DOCUMENT).unlink(missing_ok=True)
    write_comparison(folder, comparison)
    with replacing(folder / DOCUMENT) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_config(folder: Path, config: CompareConfig) -> None:
    """Take away what was concluded under other settings, and then write the grid's."""
    path = folder / CONFIG
    with replacing(path) as temporary:
        write_toml(temporary, config, f"mmrec-compare --config {path}")
        if not path.is_file() or path.read_bytes() != temporary.read_bytes():
            for name in (COMPARISON, DOCUMENT):
                (folder / name).unlink(missing_ok=True)


def _write_failures(
    worked: Worked, config: CompareConfig, dataset: str, workspace: Workspace
) -> None:
    """A comparison of nothing, so that what failed is not told in the terminal alone."""
    from pipelines.comparisons.judging import of_failures

    options = _options(worked, config)
    _write(of_failures(workspace, dataset, worked.failures, options, config.protocol), workspace)


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@options_of(CompareConfig)
@common_options
def command(
    root: Path,
    quiet: bool,
    runs: tuple[str, ...],
    config_file: Path | None,
    sets: tuple[str, ...],
    **given: Any,
) -> None:
    """Train a grid of runs as far as they are missing, and say which differences are real.

    The grid is features x models x regimes x seeds. Each cell is a run as mmrec-train makes it,
    under the same name: what is finished is kept, what was killed goes on, and a cell that fails
    hurts no other. Random and shuffled features are part of every grid, but for --no-controls.

    \b
    mmrec-compare --dataset toy                          (all features, four models, three seeds)
    mmrec-compare --features offline,clip --models lightgcn,vbpr,freedom --seeds 0,1,2,3,4
    mmrec-compare --models vbpr --regimes frozen,tuned
    mmrec-compare --models vbpr --regimes frozen,end-to-end --encoder pair_ft
    mmrec-compare --set train.max_epochs=50 --set model.embedding_size=32    (in every cell)
    mmrec-compare --trials 30 --name searched            (settings that validation chose)
    mmrec-compare --config comparisons/toy/compare/config.toml    (the same again)
    mmrec-compare 'vbpr-*' freedom-offline-s0 --name mine    (runs that are there, no training)

    With --trials each system's settings are searched first, with the first seed and without the
    test interactions, and frozen in chosen/ before any of its cells is trained. Regimes with an
    encoder in the loop take what was chosen for the same features frozen, which is searched for
    them where the grid has none. An encoder whose own features the grid lacks keeps the settings
    that were given.

    The comparison lies in comparisons/DATASET/NAME: comparison.json, comparison.md, and the outcome
    of every cell in cells.jsonl. mmrec-report makes a page of it. mmrec-train --help lists what
    can be set.
    """
    from pipelines.comparisons.telling.terminal import print_comparison, warn

    workspace, reporter = Workspace(root), Reporter(quiet)
    if runs:
        _check_of_runs(given)
        config = resolve(PickedConfig, given, config_file, sets)
        comparison = run_on(runs, config, workspace, reporter)
    else:
        grid = resolve(CompareConfig, given, config_file, sets)
        comparison = run(grid, workspace, reporter)
    print_comparison(comparison)
    warn(comparison)
    click.echo(workspace.new_comparison(comparison.dataset, comparison.name))


def _check_of_runs(given: dict[str, Any]) -> None:
    """Refuse what is for a grid; what was not given is taken away."""
    for name in [name for name in given if name not in PickedConfig.model_fields]:
        if given.pop(name) is not None:
            option = name.replace("_", "-")
            raise click.UsageError(f"RUN is for runs as they are; leave out --{option}")

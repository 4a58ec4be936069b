"""``mmrec-compare``: a grid of runs, trained as far as they are missing, and judged."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from extract.errors import UserError
from extract.files import replacing
from extract.locking import locked
from pipelines.cli import common_options
from pipelines.comparisons.contents import Comparison, write_comparison
from pipelines.comparisons.planning.compare_config import CompareConfig, JudgeConfig, PickedConfig
from pipelines.comparisons.planning.grid import Cell, cells, left_out, real_features
from pipelines.comparisons.planning.picking import picked_runs
from pipelines.comparisons.running.counting import Count
from pipelines.comparisons.running.pool import Pool, share_of_cores
from pipelines.comparisons.running.working import Place, Work, Worked
from pipelines.config import options_of, resolve, write_toml
from pipelines.devices import resolve_device
from pipelines.loading import load_log, log_digests
from pipelines.progress import Reporter, print_table
from pipelines.workspace import Workspace

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
        write_toml(folder / CONFIG, config, f"mmrec-compare --config {folder / CONFIG}")
        place = Place(workspace, folder, log_digests(load_log(dataset)))
        worked = train_cells(config, grid, place, reporter)
        if not worked.runs:
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
        with Pool(processes, threads) as pool:
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
        return _judge(Worked(runs), config, dataset, workspace, reporter, command)


def command_of(config: JudgeConfig, words: Sequence[str] = ()) -> str:
    """The command that makes a comparison again, with all that is not a default.

    Args:
        config: Its settings.
        words: Further ones, such as names of runs.
    """
    told = ["mmrec-compare", *words]
    usual = type(config)().model_dump(mode="json")
    for name, value in config.model_dump(mode="json").items():
        if value == usual[name]:
            continue
        option = name.replace("_", "-")
        if isinstance(value, dict):
            own = usual[name] or {}
            changed = {key: each for key, each in value.items() if own.get(key) != each}
            told += [f"--set={name}.{key}={_as_toml(each)}" for key, each in changed.items()]
        elif isinstance(value, bool):
            told.append(f"--{'' if value else 'no-'}{option}")
        else:
            shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            told += [f"--{option}", shown]
    return shlex.join(told)


def _as_toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _judge(
    worked: Worked,
    config: JudgeConfig,
    dataset: str,
    workspace: Workspace,
    reporter: Reporter,
    command: str = "",
) -> Comparison:
    """Judge, and write what came of it; the numbers last."""
    from pipelines.comparisons.judging import JudgeOptions, judge
    from pipelines.comparisons.telling.markdown import markdown

    reporter.say(f"judging {len(worked.runs)} runs")
    options = JudgeOptions(
        name=config.name,
        primary=config.primary,
        confidence=config.confidence,
        test=config.test,
        command=command or command_of(config),
        searched=worked.searched,
    )
    comparison = judge(workspace, dataset, worked.runs, worked.failures, options)
    folder = workspace.new_comparison(dataset, config.name)
    with replacing(folder / DOCUMENT) as temporary:
        temporary.write_text(markdown(comparison), encoding="utf-8")
    write_comparison(folder, comparison)
    return comparison


def print_comparison(comparison: Comparison) -> None:
    """Tables and answers, on stdout."""
    from pipelines.comparisons.telling.sheets import contrasts_sheet, published_sheet, systems_sheet

    for make in (systems_sheet, contrasts_sheet, published_sheet):
        sheet = make(comparison)
        if sheet.rows:
            click.echo(f"{sheet.title}:")
            print_table(sheet.table())
            click.echo()
    for answer in comparison.answers:
        click.echo(f"{answer.question} {answer.sentence}")


def _warn(comparison: Comparison) -> None:
    """Tell, also when quiet, which cells are missing."""
    failures = comparison.failures
    if not failures:
        return
    names = ", ".join(failure.cell for failure in failures)
    many = "cells have" if len(failures) > 1 else "cell has"
    click.echo(
        f"warning: {len(failures)} {many} no result: {names}; the first one: "
        f"{failures[0].error}; the same command tries them again, and keeps the others",
        err=True,
    )


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
    test interactions, and frozen in chosen/ before any of its cells is trained.

    The comparison lies in comparisons/DATASET/NAME: comparison.json, comparison.md, and the outcome
    of every cell in cells.jsonl. mmrec-report makes a page of it. mmrec-train --help lists what
    can be set.
    """
    workspace, reporter = Workspace(root), Reporter(quiet)
    if runs:
        _check_of_runs(given)
        config = resolve(PickedConfig, given, config_file, sets)
        comparison = run_on(runs, config, workspace, reporter)
    else:
        grid = resolve(CompareConfig, given, config_file, sets)
        comparison = run(grid, workspace, reporter)
    print_comparison(comparison)
    _warn(comparison)
    click.echo(workspace.new_comparison(comparison.dataset, comparison.name))


def _check_of_runs(given: dict[str, Any]) -> None:
    """Refuse what is for a grid; what was not given is taken away."""
    for name in [name for name in given if name not in PickedConfig.model_fields]:
        if given.pop(name) is not None:
            option = name.replace("_", "-")
            raise click.UsageError(f"RUN is for runs as they are; leave out --{option}")

"""``mmrec-recommend``: lists of items for users, from a finished run."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
import numpy as np
import pyarrow as pa
import torch
from scipy.sparse import csr_array

from extract.errors import UserError
from extract.files import replacing
from pipelines.cli import common_options
from pipelines.devices import resolve_device
from pipelines.evaluating import CPU, open_run
from pipelines.progress import Reporter
from pipelines.roots import AnyPath
from pipelines.run_files import recommendations_table
from pipelines.runs import FinishedRun
from pipelines.workspace import Workspace, write_table
from recommend.evaluate import seen_items
from recommend.interactions import InteractionLog
from recommend.ranking import rank


def run(
    finished: FinishedRun,
    workspace: Workspace,
    user_ids: Sequence[str] | None,
    top: int,
    hide_known: bool,
    device: torch.device = CPU,
) -> pa.Table:
    """The best items for some users.

    Args:
        finished: The run.
        workspace: Where its data set lies.
        user_ids: For whom; None for everyone that has a test item.
        top: Items per user.
        hide_known: Leave out all items that the log knows of the user, test items too.
        device: Where to rank.

    Returns:
        user_id, rank (from 1), item_id, score.

    Raises:
        UserError: The data set has changed since, or a user is unknown.
    """
    log, embeddings = open_run(finished, workspace)
    if user_ids is None:
        rows = np.flatnonzero(log.split.test.user_degrees)
    else:
        remedy = f"the users are in {workspace.dataset(finished.config.dataset).interactions}"
        rows = log.users.rows(user_ids, "user", remedy)
    ranking = rank(embeddings.to(device), rows, _hidden(finished, log, hide_known), top)
    return recommendations_table(ranking, log.users, log.items)


def _hidden(finished: FinishedRun, log: InteractionLog, hide_known: bool) -> csr_array:
    hidden = seen_items(log.split, "test", finished.config.protocol)
    if hide_known:
        hidden = csr_array(hidden + log.split.validation.matrix + log.split.test.matrix)
    return hidden


def _write_tsv(table: pa.Table, file: TextIO) -> None:
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))


def read_user_ids(path: Path) -> list[str]:
    """One user id per line; blank lines are left out.

    Raises:
        UserError: There is no such file, it is not text, or it names nobody.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}; it should hold one user id per line") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8; one user id per line is expected") from error
    user_ids = [line for line in lines if line.strip()]  # an id may begin or end with a blank
    if not user_ids:
        raise UserError(f"{path} names no user; one user id per line is expected")
    return user_ids


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "--users",
    type=AnyPath(),
    help="A file with one user id per line.  [default: every user with a test item]",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="K",
    help="Items per user.",
)
@click.option(
    "--hide-known",
    is_flag=True,
    help="Leave out validation and test items, too: for use in a shop.",
)
@click.option("--device", default="auto", help="auto, cpu or cuda[:n].  [default: auto]")
@click.option(
    "--out",
    type=AnyPath(),
    help="A .parquet or .tsv file to write.  [default: TSV on stdout]",
)
@common_options
def command(
    root: Path,
    quiet: bool,
    run_name: str,
    users: Path | None,
    top: int,
    hide_known: bool,
    device: str,
    out: Path | None,
) -> None:
    """Recommend items to users from a finished run, without training.

    Items that the user took in training (under the strict protocol also in validation) are never
    recommended.

    \b
    mmrec-recommend freedom-offline-s0 --top 5
    mmrec-recommend freedom-offline-s0 --users users.txt --hide-known --out lists.parquet
    """
    workspace = Workspace(root)
    finished = FinishedRun.open(workspace.run(run_name))
    user_ids = read_user_ids(users) if users else None
    table = run(finished, workspace, user_ids, top, hide_known, resolve_device(device))
    if out is None:
        _write_tsv(table, sys.stdout)
        return
    if out.suffix == ".parquet":
        write_table(out, table)
    else:
        with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            _write_tsv(table, file)
    Reporter(quiet).say(f"{table.num_rows:,} rows in {out}")

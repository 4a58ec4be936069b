"""``mmrec-report``: a comparison as one HTML page."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from extract.errors import UserError
from extract.files import subfolders
from pipelines.cli import common_options
from pipelines.comparisons.contents import COMPARISON, read_comparison
from pipelines.progress import Reporter
from pipelines.roots import AnyPath
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.pages.gathering import PageOptions

REPORT = "report.html"


def run(
    workspace: Workspace,
    dataset: str | None,
    name: str,
    out: Path | None,
    options: "PageOptions",
    reporter: Reporter,
) -> Path:
    """Write the page of a comparison.

    Args:
        workspace: Where data set, runs and comparison lie.
        dataset: What was compared on; None for the only one there is.
        name: Of the comparison.
        out: Where to; None for ``report.html`` beside the comparison.
        options: How much to show.
        reporter: Where to tell progress.

    Returns:
        Where the page is.

    Raises:
        UserError: There is no such comparison, what it was made from is gone or has changed, or a
            package of the extra ``report`` is not installed.
    """
    folder = comparison_folder(workspace, workspace.dataset(dataset).name, name)
    comparison = read_comparison(folder)
    _check_installed()
    from pipelines.pages.gathering import gather
    from pipelines.pages.writing import write_page

    page = gather(workspace, comparison, options, reporter)
    path = out or folder / REPORT
    reporter.say(f"writing {len(page.items):,} items and {len(page.users):,} users")
    write_page(path, page)
    return path


def comparison_folder(workspace: Workspace, dataset: str, name: str) -> Path:
    """The folder of a finished comparison.

    Raises:
        UserError: There is none of that name.
    """
    folder = workspace.new_comparison(dataset, name)
    others = subfolders(folder.parent)
    known = [each for each in others if (folder.parent / each / COMPARISON).is_file()]
    if name in known:
        return folder
    found = f"known: {', '.join(known)}" if known else "it has none"
    asked = "" if name == "compare" else f" --name {name}"
    raise UserError(
        f"data set {dataset!r} has no finished comparison {name!r}; {found}. Make it with "
        f"mmrec-compare --dataset {dataset}{asked}"
    )


def _check_installed() -> None:
    """Refuse before anything takes long."""
    missing = [name for name in ("jinja2", "sklearn") if find_spec(name) is None]
    if missing:
        raise UserError(
            f'a page needs {" and ".join(missing)}, not installed here; pip install "mmrec[report]"'
        )


@click.command()
@click.option("--dataset", help="Data set; may be left out where there is one.")
@click.option(
    "--comparison",
    "name",
    default="compare",
    show_default=True,
    metavar="NAME",
    help="The comparison, as mmrec-compare --name called it.",
)
@click.option(
    "--out",
    type=AnyPath(),
    metavar="FILE",
    help="The page.  [default: comparisons/DATASET/NAME/report.html]",
)
@click.option(
    "--items",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Items that can be looked at: those of the users shown, and then the most taken.",
)
@click.option(
    "--users",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    metavar="N",
    help="Test users that can be looked at, drawn from quiet and busy ones alike.",
)
@click.option(
    "--thumbnails/--no-thumbnails",
    default=True,
    show_default=True,
    help="Put small pictures of the items into the page.",
)
@click.option(
    "--anonymous", is_flag=True, help="Number the users instead of showing the ids of the log."
)
@common_options
def command(
    root: Path,
    quiet: bool,
    dataset: str | None,
    name: str,
    out: Path | None,
    items: int,
    users: int,
    thumbnails: bool,
    anonymous: bool,
) -> None:
    """Write a comparison as one HTML page, and print where it is.

    The page is one file that needs no network: what ran on what, the answers, tables with
    intervals, learning curves, maps of the items, and two things to look through: an item with its
    nearest by picture, text and taste, and a user with what they took beside each system's list.

    It shows items and users of the data set: mind their licence, and your users, before you pass
    it on.

    \b
    mmrec-report --dataset toy
    mmrec-report --dataset toy --anonymous --no-thumbnails --out toy.html
    """
    from pipelines.pages.gathering import PageOptions

    options = PageOptions(items, users, thumbnails, anonymous)
    click.echo(str(run(Workspace(root), dataset, name, out, options, Reporter(quiet))))

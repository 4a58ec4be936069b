"""A comparison in the terminal."""

import click

from pipelines.comparisons.contents import Comparison
from pipelines.comparisons.telling.sheets import contrasts_sheet, published_sheet, systems_sheet
from pipelines.progress import print_table


def print_comparison(comparison: Comparison) -> None:
    """Tables and answers, on stdout."""
    for make in (systems_sheet, contrasts_sheet, published_sheet):
        sheet = make(comparison)
        if sheet.rows:
            click.echo(f"{sheet.title}:")
            print_table(sheet.table())
            click.echo()
    for answer in comparison.answers:
        click.echo(f"{answer.question} {answer.sentence}")


def warn(comparison: Comparison) -> None:
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

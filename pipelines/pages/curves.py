"""How each run learned, from its ``history.jsonl``."""

import json
from collections.abc import Mapping
from typing import Any

from extract.errors import UserError
from pipelines.pages.contents import Curve
from pipelines.pages.material import Material
from pipelines.runs import HISTORY, FinishedRun

# Significant digits, more than a curve can show.
DIGITS = 6


def curves(material: Material) -> tuple[Curve, ...]:
    """A curve for each run that was trained, system by system.

    Raises:
        UserError: A history cannot be read.
    """
    return tuple(
        _curve(system, run)
        for system, runs in material.runs.items()
        for run in runs
        if (run.folder / HISTORY).is_file()
    )


def _curve(system: str, run: FinishedRun) -> Curve:
    selection = run.metrics["selection"]
    epochs = _epochs(run)
    try:
        return Curve(
            system=system,
            seed=run.config.seed,
            metric=selection["metric"],
            epochs=tuple(epoch["epoch"] for epoch in epochs),
            loss=tuple(_short(sum(epoch["loss"].values())) for epoch in epochs),
            validation=tuple(_validated(epoch, selection["metric"]) for epoch in epochs),
            best_epoch=selection["epoch"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _unreadable(run, error) from error


def _epochs(run: FinishedRun) -> list[dict[str, Any]]:
    try:
        lines = (run.folder / HISTORY).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:  # of JSON, or of UTF-8
        raise _unreadable(run, error) from error


def _validated(epoch: Mapping[str, Any], metric: str) -> float | None:
    """The metric by which the weights were chosen; None of an epoch that was not validated."""
    return _short(epoch["validation"][metric]) if "validation" in epoch else None


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _unreadable(run: FinishedRun, error: Exception) -> UserError:
    return UserError(
        f"{run.folder / HISTORY} should hold one epoch a line in JSON, and does not "
        f"({type(error).__name__}: {error}); train the run again"
    )

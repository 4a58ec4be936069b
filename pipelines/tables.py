"""Results as tables for people."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from pipelines.progress import plain_table

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "map@20", "mrr@20")
FIGURES = ("users", "epoch", *SHOWN, "seconds")


def metrics_table(runs: Iterable[Mapping[str, Any]]) -> Table:
    """One row per run, test metrics; the protocol stands in every row.

    Args:
        runs: The contents of metrics.json files.
    """
    columns = ("model", "features", "seed", "protocol", *FIGURES)
    return plain_table(columns, map(_row, runs), right=FIGURES)


def _row(metrics: Mapping[str, Any]) -> list[str]:
    return [
        metrics["model"],
        _features(metrics),
        str(metrics["seed"]),
        metrics["protocol"],
        f"{metrics['users']:,}",
        str(metrics["selection"]["epoch"]),
        *(f"{metrics['test'][name]:.4f}" for name in SHOWN),
        f"{metrics['seconds']:.0f}",
    ]


def _features(metrics: Mapping[str, Any]) -> str:
    if not metrics["modalities"]:  # what is given need not be used
        return "-"
    tuned = " (tuned)" if metrics.get("feature_source") == "tuned" else ""
    return f"{metrics['features']}{tuned}"

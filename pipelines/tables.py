"""Results as tables for people."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "map@20", "mrr@20")


def metrics_table(runs: Iterable[Mapping[str, Any]]) -> Table:
    """One row per run, test metrics; the protocol stands in every row.

    Args:
        runs: The contents of metrics.json files.
    """
    table = Table(box=None, pad_edge=False)
    for column in ("model", "features", "seed", "protocol"):
        table.add_column(column)
    for column in ("users", "epoch", *SHOWN, "seconds"):
        table.add_column(column, justify="right")
    for metrics in runs:
        table.add_row(
            metrics["model"],
            metrics["features"] if metrics["modalities"] else "-",  # given is not used
            str(metrics["seed"]),
            metrics["protocol"],
            f"{metrics['users']:,}",
            str(metrics["selection"]["epoch"]),
            *(f"{metrics['test'][name]:.4f}" for name in SHOWN),
            f"{metrics['seconds']:.0f}",
        )
    return table

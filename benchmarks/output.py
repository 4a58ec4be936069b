"""What all benchmarks print and write."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from extract.files import replacing


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: Such as ``lightgcn/baby/recall@20``.
        value: What was measured.
        unit: Of what.
        reference: The same from elsewhere: a published figure, or another implementation.
        speedup: reference / value, where both are times; None elsewhere.
        floor: The physical bound on the same machine, where there is one.
        of_floor: floor / value.
    """

    name: str
    value: float
    unit: str
    reference: float | None = None
    speedup: float | None = None
    floor: float | None = None
    of_floor: float | None = None


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """A table on stdout."""
    table = Table(title=title, box=None, title_justify="left")
    table.add_column("name")
    for column in ("value", "reference", "value / reference"):
        table.add_column(column, justify="right")
    for row in rows:
        ratio = f"{row.value / row.reference:.3f}" if row.reference else ""
        reference = f"{row.reference:.4f}" if row.reference is not None else ""
        table.add_row(row.name, f"{row.value:.4f}", reference, ratio)
    Console(width=120).print(table)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """The rows as JSON, with machine and versions beside them."""
    machine: dict[str, Any] = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    told = [{k: v for k, v in asdict(row).items() if v is not None} | machine for row in rows]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

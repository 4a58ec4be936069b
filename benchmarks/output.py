"""What all benchmarks print and write."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from extract.files import replacing

# Packages whose versions may decide a speed.
MEASURED = ("torch", "numpy", "pillow", "pyarrow", "timm", "open_clip_torch", "transformers")


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        name: Such as ``lightgcn/baby/recall@20``.
        value: What was measured.
        unit: Of what.
        reference: The same from elsewhere: a published figure, or another implementation.
        speedup: How many times faster than the reference; None where that has no meaning.
        floor: The physical bound on the same machine, where there is one.
        of_floor: Which share of the floor was reached.
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
    for name in ("name", "value", "unit", "reference", "speedup", "floor", "of floor"):
        table.add_column(name, justify="left" if name in ("name", "unit") else "right")
    for row in rows:
        numbers = (row.reference, row.speedup, row.floor, row.of_floor)
        table.add_row(row.name, _told(row.value), row.unit, *map(_told, numbers))
    Console(width=120).print(table)


def _processor() -> str:
    """The processor's own name where the system tells it, and what it has for bfloat16."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {key.strip(): value.strip() for key, value in told.items()}
    flags = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in told.get("flags", "").split()]
    return " ".join([told.get("model name", platform.machine()), *flags])


def _told(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def write_rows(path: Path, rows: Sequence[Row], device: str = "cpu") -> None:
    """The rows as JSON, with machine and versions beside them."""
    machine: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "versions": {name: version(name) for name in MEASURED},
    }
    told = [{k: v for k, v in asdict(row).items() if v is not None} | machine for row in rows]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

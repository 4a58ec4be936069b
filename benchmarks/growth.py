"""Time and memory of an extraction by the size of its catalogue, each in a process of its own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.output import Row
from pipelines.cli import run
from pipelines.memory import peak_bytes


def growth(sizes: Sequence[int]) -> list[Row]:
    """The first and the second run over catalogues of growing size.

    Args:
        sizes: Numbers of items; memory per item is counted from the first.
    """
    rows: list[Row] = []
    base = 0.0
    for size in sizes:
        with tempfile.TemporaryDirectory() as root:
            write_texts(Path(root), size)
            first, again = (extraction_apart(Path(root)) for _ in range(2))
        name = f"random-64/{size}"
        rows += [
            Row(f"{name}/first", first["seconds"], "s"),
            Row(
                f"{name}/again",
                again["seconds"],
                "s",
                first["seconds"],
                first["seconds"] / again["seconds"],
            ),
            Row(f"{name}/peak", first["bytes"] / 2**20, "MiB"),
        ]
        if base:
            per_item = (first["bytes"] - base) / (size - sizes[0])
            rows.append(Row(f"{name}/peak_per_item", per_item, "bytes per further item"))
        base = base or first["bytes"]
    return rows


def write_texts(root: Path, n_items: int) -> None:
    """A data set of that many distinct texts."""
    folder = root / "data" / "shop"
    folder.mkdir(parents=True)
    rows = range(n_items)
    table = {
        "item_id": [f"item{row}" for row in rows],
        "text": [f"item number {row}, of such words as the titles of goods have" for row in rows],
    }
    pq.write_table(pa.table(table), folder / "items.parquet")
    (folder / "dataset.json").write_text("{}")


def extraction_apart(root: Path) -> dict[str, float]:
    """The seconds and the peak memory of one extraction in a new process, its start included."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.growth", str(root)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {"seconds": time.perf_counter() - start, **json.loads(told.splitlines()[-1])}


if __name__ == "__main__":
    code = run("extract", ["--root", sys.argv[1], "--encoder", "random:64", "--quiet"])
    print(json.dumps({"bytes": peak_bytes()}))
    sys.exit(code)

"""An extraction that is killed again and again, against one that is not.

python -m benchmarks.kills [--kills 50] [--seed 0] [--json FILE]

An extraction runs in a process of its own, gets SIGKILL at a random moment, and is started again,
until that many kills are done; whenever it comes to its end, its shards are compared byte by byte
with those of an undisturbed run, and it starts anew. What the encoder was asked is counted, so that
work done twice shows. Needs `os.fork`.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from benchmarks.output import Row, print_rows, write_rows
from extract.encoders.random import RandomEncoder
from pipelines.cli import run

N_ITEMS, SHARD_ROWS, DIM = 1_500, 16, 512
FEATURES = Path("data/shop/features/random-512")


@dataclass
class Outcome:
    """What became of a series of kills.

    Attributes:
        kills: Processes that were killed while they ran.
        finished: Runs that came to their end.
        rewritten: Finished shards that a later run wrote again.
        wasted: Items that were encoded more than once, in all.
        most_wasted: The most of them that one kill cost.
        unequal: Files that differ from those of the undisturbed run.
    """

    kills: int = 0
    finished: int = 0
    rewritten: int = 0
    wasted: int = 0
    most_wasted: int = 0
    unequal: list[str] = field(default_factory=list)


def write_catalogue(root: Path, n_items: int = N_ITEMS) -> None:
    """A data set of distinct texts and small distinct pictures, some of them broken or missing."""
    folder = root / "data" / "shop"
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for row in range(n_items):
        path = folder / "images" / f"{row}.png"
        if row % 50 == 7:
            path.write_bytes(b"broken")
        elif row % 50 != 8:
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    rows = range(n_items)
    table = {
        "item_id": [f"i{row}" for row in rows],
        "text": [f"the text of item {row}" if row % 50 != 9 else None for row in rows],
        "image": [f"{row}.png" for row in rows],
    }
    pq.write_table(pa.table(table), folder / "items.parquet")
    (folder / "dataset.json").write_text("{}")


def extraction(root: Path, log: Path, arguments: Sequence[str] = ()) -> int:
    """Start an extraction in a process of its own; gives its process id.

    Every text that its encoder is asked for adds a byte to `log`.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        told = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        encode = RandomEncoder.encode_text

        def encode_text(self: RandomEncoder, tokens: dict[str, Tensor]) -> Tensor:
            os.write(told, b"." * len(tokens["input_ids"]))
            return encode(self, tokens)

        RandomEncoder.encode_text = encode_text  # type: ignore[method-assign, assignment]
        words = ["--root", str(root), "--encoder", f"random:{DIM}", "--quiet"]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = run("extract", [*words, "--shard-rows", str(SHARD_ROWS), *arguments])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
    raise AssertionError


def digests(folder: Path) -> dict[str, bytes]:
    """The content of every file of a finished feature folder but the manifest."""
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def killed_runs(root: Path, kills: int, seed: int) -> Outcome:
    """Kill extractions at random moments until `kills` are done, and the last run has finished.

    Args:
        root: A workspace with the data set of `write_catalogue`.
        kills: How many.
        seed: Of the moments.
    """
    log, folder = root / "log", root / FEATURES
    before = _inside(folder)
    seconds = _undisturbed(root, log)
    expected, needed = digests(folder), log.stat().st_size
    moments, outcome = random.Random(seed), Outcome()
    _restore(folder, before)
    log.unlink()
    old = set(_shards(folder).values())
    while True:
        last = outcome.kills >= kills
        then, asked = _shards(folder), _size(log)
        child = extraction(root, log)
        if not last:
            if moments.random() < 0.7:  # else it is likely to die before the first shard
                _wait_for_more(log, asked, seconds)
            time.sleep(moments.uniform(0, 0.3 * seconds))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        now = _shards(folder)
        outcome.rewritten += sum(
            now.get(name, at) != at for name, at in then.items() if at not in old
        )
        if os.WIFSIGNALED(status):
            outcome.kills += 1
            useful = sum(_texts(folder / n) for n in now if then.get(n) != now[n])
            wasted = _size(log) - asked - useful
            outcome.most_wasted = max(outcome.most_wasted, wasted)
            continue
        if os.WEXITSTATUS(status):
            raise RuntimeError(f"an extraction ended with code {os.WEXITSTATUS(status)}")
        outcome.finished += 1
        outcome.wasted += _size(log) - needed
        found = digests(folder)
        outcome.unequal += [n for n in expected if found.get(n) != expected[n]]
        outcome.unequal += sorted(found.keys() - expected.keys())
        _restore(folder, before)
        log.unlink()
        old = set(_shards(folder).values())
        if last:
            return outcome


def _undisturbed(root: Path, log: Path) -> float:
    start = time.monotonic()
    status = os.waitpid(extraction(root, log), 0)[1]
    if status:
        raise RuntimeError(f"the undisturbed extraction ended with status {status}")
    return time.monotonic() - start


def _wait_for_more(log: Path, size: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while _size(log) <= size and time.monotonic() < end:
        time.sleep(0.002)


def _inside(folder: Path) -> dict[str, bytes]:
    """The files of a folder, for `_restore`."""
    return {path.name: path.read_bytes() for path in folder.glob("*")} if folder.is_dir() else {}


def _restore(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder)
    for name, data in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _shards(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file stands under the name of each shard."""
    found = {path.name: path.stat() for path in folder.glob("part-*.parquet")}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def _texts(shard: Path) -> int:
    column = pq.read_table(shard, columns=["text"])["text"]
    return len(column) - column.null_count


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


@click.command(help=__doc__)
@click.option("--kills", default=50, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the table.")
def main(kills: int, seed: int, file: Path | None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        write_catalogue(Path(folder))
        outcome = killed_runs(Path(folder), kills, seed)
    rows = [
        Row("kills/kills", outcome.kills, "processes"),
        Row("kills/finished", outcome.finished, "runs"),
        Row("kills/unequal_files", len(outcome.unequal), "files", reference=0),
        Row("kills/rewritten_shards", outcome.rewritten, "shards", reference=0),
        Row("kills/most_wasted_by_one", outcome.most_wasted, "items", reference=SHARD_ROWS),
        Row("kills/wasted", outcome.wasted, "items", reference=SHARD_ROWS * outcome.kills),
    ]
    print_rows("Killed at random moments and resumed", rows)
    if file:
        write_rows(file, rows)
    if outcome.unequal or outcome.rewritten or outcome.wasted > SHARD_ROWS * outcome.kills:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""How fast files of reviews and of loose metadata are read, beside the standard library.

python -m benchmarks.reviews [--quick] [--json FILE]

The files are simulated, in the form of the Amazon releases of 2014 (a million reviews of about 750
bytes, gzipped; metadata as Python wrote its dictionaries). Reviews: from the compressed file to the
log, beside `json.loads` of each line of the file when it is decompressed already; the floor is
decompressing alone. The peak memory is that of a fresh process. Odd: one line in a thousand is not
strict JSON, so that all are read line by line. Metadata: `parse_record` of each line, and of the
lines of wanted items only, one in 28, beside `ast.literal_eval` of each line.
"""

import ast
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
import pyarrow as pa

from benchmarks.output import Row, print_rows, write_rows
from pipelines.cli import keep_freed_memory
from pipelines.progress import Reporter
from pipelines.sources.lines import CHUNK, read_blocks, read_lines
from pipelines.sources.loose import leading_id, parse_record
from pipelines.sources.reviews import ReviewFields, read_reviews

FIELDS = ReviewFields("reviewerID", "asin", "overall", "unixReviewTime")
ROUNDS = 3
# Of the lines of metadata, in the largest categories.
ONE_IN = 28
# Its own, without what this file imports; not getrusage, which counts the parent's memory, too.
ALONE = """
import json, sys, time
from pathlib import Path
import pyarrow as pa
from pipelines.cli import keep_freed_memory
from pipelines.progress import Reporter
from pipelines.sources.reviews import ReviewFields, read_reviews
keep_freed_memory()
pa.array([0])  # loads pandas, once in a process
start = time.perf_counter()
read_reviews(Path(sys.argv[1]), ReviewFields(*sys.argv[2:]), Reporter(quiet=True))
seconds = time.perf_counter() - start
status = Path("/proc/self/status").read_text()
print(json.dumps({"seconds": seconds, "kib": int(status.split("VmHWM:")[1].split()[0])}))
"""


class Words:
    """Sentences of invented words, the same ones in every run."""

    def __init__(self) -> None:
        self.random = random.Random(0)
        letters = "etaoinshrdlu"
        self._words = [
            "".join(self.random.choices(letters, k=self.random.randint(2, 9))) for _ in range(2000)
        ]
        self._texts = [
            self._sentence(10 + int(self.random.expovariate(1 / 75))) for _ in range(3000)
        ]

    def text(self) -> str:
        """A text as long as reviews are, 85 words on average."""
        return self.random.choice(self._texts)

    def title(self) -> str:
        """A few words; in one of three an apostrophe, which changes how Python quotes."""
        title = self._sentence(6)
        return title.replace(" ", "'s ", 1) if self.random.random() < 1 / 3 else title

    def _sentence(self, words: int) -> str:
        return " ".join(self.random.choices(self._words, k=words))


def reviews(count: int) -> Iterator[dict[str, Any]]:
    """Reviews in the form of 2014."""
    words = Words()
    draw = words.random
    for _ in range(count):
        yield {
            "reviewerID": f"A{draw.randrange(count // 8 + 1):013X}",
            "asin": f"B{draw.randrange(count // 30 + 1):09}",
            "reviewerName": 'J. "Jim" Doe',
            "helpful": [draw.randrange(3), 3],
            "reviewText": words.text(),
            "overall": float(draw.randint(1, 5)),
            "summary": f"{words.title()}\u2026",
            "unixReviewTime": 1252800000 + 86400 * draw.randrange(1500),
            "reviewTime": "09 13, 2009",
        }


def products(count: int) -> Iterator[dict[str, Any]]:
    """Metadata in the form of 2014; item n is B and nine digits."""
    words = Words()
    draw = words.random
    for number in range(count):
        related = [f"B{draw.randrange(10**6):09}" for _ in range(draw.randrange(80))]
        yield {
            "asin": f"B{number:09}",
            "title": words.title(),
            "price": draw.randrange(10_000) / 100,
            "imUrl": f"http://pictures.example/I/{number}.jpg",
            "related": {"also_bought": related[::2], "also_viewed": related[1::2]},
            "salesRank": {"Toys & Games": draw.randrange(10**6)},
            "brand": words.title(),
            "categories": [["Sports & Outdoors", "Other Sports", "Dance"]],
            "description": words.text(),
        }


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """A gzip file of lines."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        file.writelines(f"{line}\n" for line in lines)


def seconds(step: Callable[[], object]) -> float:
    """How long a step takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def decompress(path: Path) -> None:
    """Nothing but that."""
    with pa.OSFile(str(path)) as source, pa.CompressedInputStream(source, "gzip") as file:
        while file.read(CHUNK):
            pass


def loads_each(path: Path) -> None:
    """The plain loop over a decompressed file."""
    with path.open("rb") as file:
        for line in file:
            json.loads(line)


def read_alone(path: Path) -> dict[str, float]:
    """The seconds and the peak memory of a fresh process that reads reviews."""
    names = [FIELDS.user, FIELDS.item, FIELDS.rating, FIELDS.timestamp]
    command = [sys.executable, "-c", ALONE, str(path), *names]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def review_rows(folder: Path, count: int) -> list[Row]:
    """Rates and memory of reading reviews, the three ways by turns."""
    path, plain, odd = folder / "reviews.json.gz", folder / "reviews.json", folder / "odd.json.gz"
    write_lines(path, map(json.dumps, reviews(count)))
    with plain.open("wb") as file:
        file.writelines(block + b"\n" for block in read_blocks(path))
    check(plain)
    found: dict[str, list[float]] = {"read": [], "loads": [], "floor": [], "kib": []}
    for _ in range(ROUNDS):
        alone = read_alone(path)
        found["read"].append(alone["seconds"])
        found["kib"].append(alone["kib"])
        found["loads"].append(seconds(lambda: loads_each(plain)))
        found["floor"].append(seconds(lambda: decompress(path)))
    read, loads, floor = (count / median(found[name]) for name in ("read", "loads", "floor"))
    some = count // 10
    write_lines(
        odd,
        (
            json.dumps(review) if number % 1000 else repr(review)
            for number, review in enumerate(reviews(some))
        ),
    )
    slow = some / median(read_alone(odd)["seconds"] for _ in range(ROUNDS))
    return [
        Row("reviews/read", read, "lines/s", loads, read / loads, floor, read / floor),
        Row("reviews/odd", slow, "lines/s", loads, slow / loads, floor, slow / floor),
        Row("reviews/peak", max(found["kib"]) / 2**10, "MiB"),
    ]


def check(plain: Path, count: int = 10_000) -> None:
    """The first reviews are read as `json.loads` reads them."""
    with plain.open("rb") as file:
        lines = [line for line, _ in zip(file, range(count), strict=False)]
    records = [json.loads(line) for line in lines]
    some = plain.with_name("some.json")
    some.write_bytes(b"".join(lines))
    log = read_reviews(some, FIELDS, Reporter(quiet=True)).log
    names = (FIELDS.user, FIELDS.item, FIELDS.rating, FIELDS.timestamp)
    if [tuple(row.values()) for row in log.to_pylist()] != [
        tuple(record[name] for name in names) for record in records
    ]:
        raise RuntimeError("the log is not what json.loads finds in the file")


def product_rows(folder: Path, count: int) -> list[Row]:
    """Rates of reading loose metadata, the three ways by turns."""
    path = folder / "metadata.json.gz"
    write_lines(path, map(repr, products(count)))
    lines = [line for line in read_lines(path) if line is not None]
    # None for the lines of which only parsing could tell.
    wanted = {None, *(f"B{number:09}" for number in range(0, count, ONE_IN))}

    def wanted_only() -> list[Any]:
        return [parse_record(line) for line in lines if leading_id(line, "asin") in wanted]

    if wanted_only() != [ast.literal_eval(line.decode()) for line in lines[::ONE_IN]]:
        raise RuntimeError("the records are not what ast.literal_eval finds in the lines")
    found: dict[str, list[float]] = {"parse": [], "literal": [], "wanted": []}
    for _ in range(ROUNDS):
        found["parse"].append(seconds(lambda: [parse_record(line) for line in lines]))
        found["literal"].append(
            seconds(lambda: [ast.literal_eval(line.decode()) for line in lines])
        )
        found["wanted"].append(seconds(wanted_only))
    parse, literal, passed = (count / median(each) for each in found.values())
    return [
        Row("metadata/parse", parse, "lines/s", literal, parse / literal),
        Row("metadata/wanted", passed, "lines/s", literal, passed / literal),
    ]


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A tenth of the lines, in less than a minute.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the table.")
def main(quick: bool, file: Path | None) -> None:
    """Measure and print."""
    keep_freed_memory()
    count = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        rows = review_rows(Path(folder), count)
        rows += product_rows(Path(folder), count // 20)
    print_rows(f"{count:,} reviews, {count // 20:,} lines of metadata, simulated", rows)
    if file:
        write_rows(file, rows)


if __name__ == "__main__":
    main()

"""How fast extraction is, beside what the machine can do.

python -m benchmarks.extract [--data DIR] [--quick] [--json FILE] [--device ...]

Pictures: end to end, beside the forward pass on ready tensors and beside decoding alone, each at
its best setting. Where both share the cores the floor of a picture's time is the sum of the two;
where a GPU computes, the slower one. Texts: by length, beside the order of the file. Precision:
the cosine of each vector in bfloat16 with that in float32, and how many of the ten nearest
neighbours agree. Memory and time of catalogues of growing size. The weights of the ViTs are random
(they cannot be had offline), which decides no speed, but may decide a cosine.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.growth import growth
from benchmarks.material import DEFAULT_DATA, ENCODERS, pictures, texts
from benchmarks.output import Row, print_rows, write_rows
from extract.catalog import Catalog
from extract.embed import embed
from extract.encoders.base import Encoder, to_device
from extract.loader import default_workers, prepared_batches
from extract.precision import set_precision
from pipelines.cli import keep_freed_memory
from pipelines.devices import resolve_device

BATCHES = {"cpu": (8, 16, 32), "cuda": (128, 256, 512)}
TEXT_BATCH = 16
ROUNDS = 5

Step = Callable[[], int]


@dataclass(frozen=True)
class Machine:
    """Where it is measured, and how long.

    Attributes:
        device: Of the encoders.
        seconds: For which each forward pass and each decoding is repeated.
    """

    device: torch.device
    seconds: float

    def rate(self, step: Callable[[], int], seconds: float | None = None) -> float:
        """How many a second `step` does, of which each call does as many as it says."""
        step()
        self.wait()
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < (seconds or self.seconds):
            done += step()
        self.wait()
        return done / (time.perf_counter() - start)

    def wait(self) -> None:
        """Until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def forward_steps(machine: Machine, encoder: Encoder, catalog: Catalog) -> list[Step]:
    """The forward pass alone, on ready tensors; one for each batch size."""

    def at(size: int) -> Step:
        rows = list(islice(cycle(range(len(catalog))), size))
        (batch,) = prepared_batches(encoder, catalog, ["image"], [rows], 0, machine.device)
        images = to_device(batch.images, machine.device, encoder.dtypes["image"])

        def step() -> int:
            with torch.inference_mode():
                encoder.encode({"image": images})
            return size

        return step

    return [at(size) for size in BATCHES[machine.device.type]]


def decode_steps(machine: Machine, encoder: Encoder, catalog: Catalog) -> list[Step]:
    """Reading and preparing alone; one for each number of threads."""
    cores = default_workers(machine.device)

    def at(workers: int) -> Step:
        rows = cycle(range(len(catalog)))
        batches = (list(islice(rows, 32)) for _ in cycle([0]))
        ready = prepared_batches(encoder, catalog, ["image"], batches, workers, machine.device)
        return lambda: len(next(ready).contents)

    return [at(workers) for workers in sorted({0, cores, 2 * cores})]


def picture_rows(
    machine: Machine, name: str, encoder: Encoder, catalog: Catalog
) -> tuple[list[Row], np.ndarray]:
    """The rates of one encoder, and its vectors.

    The three are measured by turns, in `ROUNDS` rounds over the catalogue, because the speed of a
    machine that others share drifts by more than what is to be measured.
    """

    def best(steps: list[Step]) -> Step:
        return max(steps, key=lambda step: machine.rate(step, machine.seconds / 2))

    forward = best(forward_steps(machine, encoder, catalog))
    decode = best(decode_steps(machine, encoder, catalog))
    rates: dict[str, list[float]] = {"forward": [], "decode": [], "end_to_end": []}
    found = []
    for chunk in np.array_split(np.arange(len(catalog)), ROUNDS):
        rates["forward"].append(machine.rate(forward))
        rates["decode"].append(machine.rate(decode))
        start = time.perf_counter()
        (batch,) = embed(encoder, catalog, device=machine.device, chunks=[chunk])
        rates["end_to_end"].append(len(chunk) / (time.perf_counter() - start))
        found.append(batch.vectors["image"])
    # Of rates over equal work the harmonic mean is the rate over all of it.
    forwards, decodes, reached = (len(each) / sum(1 / r for r in each) for each in rates.values())
    slow, fast = sorted((forwards, decodes))
    floor = slow if machine.device.type == "cuda" else 1 / (1 / slow + 1 / fast)
    rows = [
        Row(f"{name}/forward", forwards, "pictures/s"),
        Row(f"{name}/decode", decodes, "pictures/s"),
        Row(f"{name}/end_to_end", reached, "pictures/s", floor=floor, of_floor=reached / floor),
    ]
    return rows, np.concatenate(found)


def precision_rows(name: str, exact: np.ndarray, half: np.ndarray) -> list[Row]:
    """How far bfloat16 moves vectors: cosines, and the agreement of the ten nearest neighbours."""
    unit, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (exact, half))
    cosines = (unit * other).sum(axis=1)
    agreement = [
        len(np.intersect1d(*both)) / 10
        for both in zip(_nearest(unit), _nearest(other), strict=True)
    ]
    return [
        Row(f"{name}/bf16/cosine_min", float(cosines.min()), "cosine"),
        Row(f"{name}/bf16/cosine_median", float(np.median(cosines)), "cosine"),
        Row(f"{name}/bf16/top10_agreement", float(np.mean(agreement)), "share"),
    ]


def text_rows(machine: Machine, encoder: Encoder, catalog: Catalog) -> list[Row]:
    """MiniLM on texts sorted by length, beside the file's order; and in bfloat16."""

    def embedded() -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        found = [batch.vectors["text"] for batch in embed(encoder, catalog, device=machine.device)]
        return len(catalog) / (time.perf_counter() - start), np.concatenate(found)

    plain, in_order = _in_file_order(machine, encoder, catalog)
    by_length, exact = embedded()
    if not np.allclose(in_order, exact, atol=1e-4):
        raise RuntimeError("the vectors by length are not those in the file's order")
    set_precision(encoder, "bf16")
    half_rate, half = embedded()
    return [
        Row("minilm/file_order", plain, "texts/s"),
        Row("minilm/end_to_end", by_length, "texts/s", plain, by_length / plain),
        Row("minilm-bf16/end_to_end", half_rate, "texts/s", by_length, half_rate / by_length),
        *precision_rows("minilm", exact, half),
    ]


def _in_file_order(
    machine: Machine, encoder: Encoder, catalog: Catalog
) -> tuple[float, np.ndarray]:
    """The plain loop: texts as they stand, a batch at a time."""
    start, found = time.perf_counter(), []
    with torch.inference_mode():
        for first in range(0, len(catalog), TEXT_BATCH):
            column = catalog.texts[first : first + TEXT_BATCH].to_pylist()
            inputs = encoder.collate({"text": [encoder.prepare_text(text) for text in column]})
            found.append(encoder.encode(to_device(inputs, machine.device))["text"].cpu().numpy())
    return len(catalog) / (time.perf_counter() - start), np.concatenate(found)


def _nearest(unit: np.ndarray) -> np.ndarray:
    """The ten nearest other rows of each row, (n, 10)."""
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    return np.argpartition(-similar, 10, axis=1)[:, :10]


def measure(machine: Machine, data: Path, quick: bool) -> Iterator[tuple[str, list[Row]]]:
    """All tables, one after the other."""
    count = 160 if quick else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        posters, told = pictures(data, Path(scratch), count)
        for name in ("offline", "vit-b-32") if quick else ENCODERS:
            encoder = ENCODERS[name]().to(machine.device)
            rows, exact = picture_rows(machine, name, encoder, posters)
            set_precision(encoder, "bf16", convolutions=True)
            half_rows, half = picture_rows(machine, f"{name}-bf16", encoder, posters)
            reached, before = half_rows[-1].value, rows[-1].value
            gain = Row(f"{name}-bf16/gain", reached / before, "times fp32")
            yield told, [*rows, *half_rows, gain, *precision_rows(name, exact, half)]
        overviews, told = texts(data, count)
        yield told, text_rows(machine, ENCODERS["offline"]().to(machine.device), overviews)
    sizes = (20_000, 60_000) if quick else (100_000, 300_000, 1_000_000)
    yield "catalogues of texts, random:64", growth(sizes)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default=True)
@click.option("--quick", is_flag=True, help="Few pictures, in less than five minutes.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the tables.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def main(data: Path, quick: bool, file: Path | None, device: str) -> None:
    """Measure and print."""
    keep_freed_memory()
    machine = Machine(resolve_device(device), 1.5 if quick else 6.0)
    every: list[Row] = []
    for told, rows in measure(machine, data, quick):
        print_rows(told, rows)
        every += rows
        if file:
            write_rows(file, every, machine.device.type)


if __name__ == "__main__":
    main()

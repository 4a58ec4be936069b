"""The memory of one end-to-end step by its chunks, each in a process of its own.

python -m benchmarks.end_to_end_memory --items N --chunk N [--encoder NAME] [--modalities NAMES]

A chunk of all keeps the activations of every item until the backward pass; small chunks encode
twice and keep those of a chunk. Both give the same gradients, as is measured beside. There is no
optimizer, whose moments take the same in both. The last line printed is a JSON object.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import psutil
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.live_step import LiveStep, gradients_by_name, made_up_inputs
from benchmarks.material import ENCODERS
from benchmarks.output import Row
from extract.encoders import create_encoder
from extract.precision import DTYPES
from pipelines.cli import keep_freed_memory
from pipelines.devices import resolve_device
from pipelines.memory import peak_bytes

CHUNK, ITEMS, QUICK_ITEMS = 8, 512, 64
MEGABYTE = 2**20


def memory_rows(
    device: str, quick: bool, modalities: str, precision: str, encoder: str = "vit-b-32"
) -> Iterator[Row]:
    """Peak memory and its growth in a step, of small chunks and of one chunk of all.

    Args:
        device: Where to compute.
        quick: With few items.
        modalities: Those of image and text that are encoded, between commas.
        precision: Of the encoder's arithmetic.
        encoder: As `measure` has it.
    """
    items = QUICK_ITEMS if quick else ITEMS
    name, what = f"memory/{encoder}", f"{items} items' {modalities} in {precision}"
    common = ["--encoder", encoder, "--items", str(items), "--modalities", modalities]
    common += ["--precision", precision, "--device", device]
    with tempfile.TemporaryDirectory() as folder:
        files = {chunk: Path(folder) / f"{chunk}.safetensors" for chunk in (CHUNK, 0)}
        told = {
            chunk: apart(*common, "--chunk", str(chunk), "--gradients", str(file))
            for chunk, file in files.items()
        }
        difference = largest_difference(*files.values())
    for kind in ("peak", "growth"):
        whole, label = told[0][kind], "" if kind == "peak" else f"/{kind}"
        for chunk in (CHUNK, 0):
            held = told[chunk][kind]
            row = f"{name}/chunk-{chunk or 'all'}{label}"
            yield Row(row, held / MEGABYTE, f"MB, {what}", whole / MEGABYTE)
        yield Row(f"{name}/ratio{label}", told[CHUNK][kind] / whole, "of a chunk of all")
    yield Row(f"{name}/difference", difference, "of a gradient's norm, the largest")


def largest_difference(first: Path, second: Path) -> float:
    """The largest norm of a difference of two gradients, in relation to that of the second."""
    with safe_open(first, "pt") as some, safe_open(second, "pt") as others:
        names = set(some.keys())
        if names != set(others.keys()):
            raise ValueError("not the same weights have a gradient")
        return max(_difference(some.get_tensor(each), others.get_tensor(each)) for each in names)


def apart(*arguments: str) -> dict[str, float]:
    """What this file finds in a new process."""
    command = [sys.executable, "-m", "benchmarks.end_to_end_memory", *arguments]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.double(), other.double()
    norm = float(other.norm())
    return float((one - other).norm()) / norm if norm else float(one.norm())


def _held(device: torch.device) -> int:
    """Bytes that are held now, where `peak_bytes` tells the most so far."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    held: int = psutil.Process().memory_info().rss
    return held


@click.command(help=__doc__)
@click.option("--encoder", "name", default="vit-b-32", help=f"{', '.join(ENCODERS)}, or a spec.")
@click.option("--items", type=int, default=ITEMS, show_default=True)
@click.option("--chunk", type=int, default=CHUNK, show_default=True, help="0 for all.")
@click.option("--modalities", default="image,text", show_default=True)
@click.option("--precision", type=click.Choice(list(DTYPES)), default="fp32", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--gradients", type=click.Path(path_type=Path), help="Where to write them.")
def main(
    name: str,
    items: int,
    chunk: int,
    modalities: str,
    precision: str,
    device: str,
    gradients: Path | None,
) -> None:
    """Make one step and print what it took."""
    keep_freed_memory()  # as mmrec-train does
    place = resolve_device(device)
    encoder = ENCODERS[name]() if name in ENCODERS else create_encoder(name)
    inputs = made_up_inputs(encoder.to(place), items, place, modalities.split(","))
    step = LiveStep(inputs, chunk, precision)
    base = _held(place)
    step.gradients()
    peak = peak_bytes(place)
    if gradients:
        save_file(gradients_by_name(encoder), gradients)
    print(json.dumps({"peak": peak, "growth": peak - base}))


if __name__ == "__main__":
    main()

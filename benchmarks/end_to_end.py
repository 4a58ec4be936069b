"""What it costs and gains that the ranking loss reaches the encoder.

python -m benchmarks.end_to_end [--only NAME] [--workspace DIR] [--quick] [--json FILE]

``memory``: the peak of one step over 512 distinct items of ViT-B-32 in chunks of 8 and in one of
all, and how far the gradients differ. ``speed``: items a second of an end-to-end step beside the
same encoder's training on ready tensors, and the matrix rate of the machine. In both the weights
are random. ``films``: the regimes frozen, tuned, refresh and end-to-end on MovieLens-100K with
posters and overviews, three seeds each, equal epochs; the data are no part of the project, and
where they are absent the part is left out. With ``--workspace`` finished runs are not made again,
and several processes may share them by ``--model`` and ``--seed``.
"""

import tempfile
from contextlib import nullcontext
from pathlib import Path

import click

from benchmarks.end_to_end_films import MODELS, SEEDS, films
from benchmarks.end_to_end_memory import memory_rows
from benchmarks.end_to_end_speed import speed
from benchmarks.films import prepare_films
from benchmarks.material import DEFAULT_DATA
from benchmarks.output import Row, print_rows, write_rows
from pipelines.cli import keep_freed_memory
from pipelines.devices import resolve_device
from pipelines.progress import Reporter
from pipelines.workspace import Workspace


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA, show_default=True)
@click.option("--only", type=click.Choice(["memory", "speed", "films"]), help="One part.")
@click.option(
    "--modalities",
    help="Of the part memory: image,text, image or text.  [default: both on a GPU, image on a CPU, "
    "whose memory they seldom fit]",
)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", help="Likewise.")
@click.option("--model", "models", type=click.Choice(MODELS), multiple=True, help="Of films.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Of films.")
@click.option("--workspace", "folder", type=click.Path(path_type=Path), help="Keep the films here.")
@click.option("--quick", is_flag=True, help="Memory of 64 items, and speed; no films.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write it.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def main(
    data: Path,
    only: str | None,
    modalities: str | None,
    precision: str,
    models: tuple[str, ...],
    seeds: tuple[int, ...],
    folder: Path | None,
    quick: bool,
    json_file: Path | None,
    device: str,
) -> None:
    """Measure what is there."""
    keep_freed_memory()
    reporter, place = Reporter(), resolve_device(device)
    rows: list[Row] = []
    if only in (None, "memory"):
        usual = "image,text" if place.type == "cuda" else "image"
        rows += memory_rows(device, quick, modalities or usual, precision)
    if only in (None, "speed"):
        rows += speed(place, quick)
    if only == "films" or (only is None and not quick):
        rows += _films(data, folder, device, reporter, models or MODELS, seeds or SEEDS)
    print_rows("End to end", rows)
    if json_file:
        write_rows(json_file, rows, place.type)


def _films(
    data: Path,
    folder: Path | None,
    device: str,
    reporter: Reporter,
    models: tuple[str, ...],
    seeds: tuple[int, ...],
) -> list[Row]:
    if not (data / "ml100k").is_dir():
        reporter.say(f"ml100k is left out: not under {data}")
        return []
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        prepare_films(data, workspace, reporter)
        return list(films(workspace, device, reporter, models, seeds))


if __name__ == "__main__":
    main()

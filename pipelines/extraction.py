"""``mmrec-extract``: a data set's pictures and texts become a feature set."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import torch
from pydantic import Field
from rich.table import Table

from extract.catalog import Catalog
from extract.embed import EmbedOptions, Plan, Progress, embed, plan
from extract.encoders import ENCODERS, create_encoder, family_of
from extract.errors import UserError
from extract.shards import (
    MANIFEST,
    Manifest,
    ShardWriter,
    file_sha256,
    items_digest,
    read_ledger,
)
from pipelines.cli import common_options
from pipelines.config import Config, options_of, resolve
from pipelines.devices import resolve_device
from pipelines.progress import Reporter, print_table
from pipelines.workspace import RANDOM, Workspace, read_table

FORMS = "; ".join(family.form for family in ENCODERS.values())


class ExtractionConfig(EmbedOptions, Config):
    """What is encoded by what, and under what circumstances."""

    encoder: str = Field(description=f"The encoder: {FORMS}.")
    dataset: str | None = Field(
        default=None, description="The data set; may be left out where there is just one."
    )
    features: str | None = Field(
        default=None,
        description="Name of the feature set.  [default: the encoder's family, or random-DIM]",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    seed: int = Field(default=0, description="Seed of PyTorch, for an encoder with chance in it.")


def run(config: ExtractionConfig, workspace: Workspace, reporter: Reporter) -> Manifest:
    """Encode a data set's catalogue into a feature folder; do nothing where that is done already.

    Args:
        config: The settings.
        workspace: Where the data set lies.
        reporter: Where to tell progress.

    Raises:
        UserError: The data set, the encoder or the device cannot be had, or do not fit.
    """
    folder = feature_folder(config, workspace)
    device = resolve_device(config.device)
    torch.manual_seed(config.seed)
    dataset = workspace.dataset(config.dataset)
    catalog = Catalog.from_table(read_table(dataset.items, ["item_id"]), dataset.images)
    encoder = create_encoder(config.encoder).to(device)
    what = plan(encoder, catalog, config)
    identity = {
        "spec": encoder.spec,
        "fingerprint": encoder.fingerprint(),
        "precision": config.precision,
    }
    finished = find_finished(folder, identity, what, config.dtype, catalog)
    if finished:
        reporter.say(f"{folder} is up to date, nothing is to be done")
        return finished
    reporter.say(f"{len(catalog):,} items, encoder {encoder.spec}, {device} -> {folder}")
    start = time.monotonic()
    writer = ShardWriter(folder, what.dims, config.dtype)
    with _bars(reporter, what, len(catalog)) as progress:
        for batch in embed(encoder, catalog, config, device, progress):
            writer.write(batch)
    return writer.finish(
        encoder=identity,
        normalized=what.normalized,
        fusion=what.fusion,
        items_digest=items_digest(catalog.item_ids),
        seconds=time.monotonic() - start,
    )


def feature_folder(config: ExtractionConfig, workspace: Workspace) -> Path:
    """Where the features go.

    Raises:
        UserError: The name is not one of a folder, or is that of a control.
    """
    name = config.features or family_of(config.encoder)
    if config.features is None and name == RANDOM:
        name = config.encoder.replace(":", "-")  # `random` itself is a control of training
    return workspace.dataset(config.dataset).features(name)


def find_finished(
    folder: Path, identity: dict[str, str], what: Plan, dtype: str, catalog: Catalog
) -> Manifest | None:
    """The manifest of a folder that already holds exactly what would be written, else None.

    Everything is compared by content: encoder, items, each item's text and picture, the shards.
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = Manifest.read(folder)
    except UserError:  # of another format, or torn: it is going to be replaced
        return None
    # The spec only says where the weights were found.
    same = all(manifest.encoder.get(key) == identity[key] for key in ("fingerprint", "precision"))
    same = same and (manifest.dims, manifest.fusion, manifest.dtype) == (
        what.dims,
        what.fusion,
        dtype,
    )
    same = same and manifest.items_digest == items_digest(catalog.item_ids)
    return manifest if same and _same_content(folder, manifest, catalog) else None


def _same_content(folder: Path, manifest: Manifest, catalog: Catalog) -> bool:
    contents: list[str] = []
    for shard in manifest.shards:
        path = folder / shard.file
        if not path.is_file() or file_sha256(path) != shard.sha256:
            return False
        contents.extend(pq.read_table(path, columns=["content"])["content"].to_pylist())
    return len(contents) == len(catalog) and all(
        catalog.content(row) == content for row, content in enumerate(contents)
    )


class _Stopwatch:
    """Seconds per modality: the time up to each report belongs to the modality reported."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._last = time.monotonic()

    def lap(self, modality: str) -> None:
        now = time.monotonic()
        self.seconds[modality] += now - self._last  # type: ignore[assignment]
        self._last = now


@contextmanager
def _bars(reporter: Reporter, what: Plan, total: int) -> Iterator[Progress]:
    watch = _Stopwatch()
    with ExitStack() as stack:
        bars = {
            name: stack.enter_context(
                reporter.bar(name, total, clock=lambda name=name: watch.seconds[name])  # type: ignore[misc]
            )
            for name in what.encoded
        }

        def progress(modality: str, count: int) -> None:
            watch.lap(modality)
            bars[modality](count)

        yield progress


def report(manifest: Manifest, folder: Path) -> None:
    """Print what a feature folder holds: a table and one line."""
    problems = Counter((problem.modality, problem.problem) for problem in read_ledger(folder))
    table = Table("modality", "size", "items", "absent", box=None, pad_edge=False)
    for name, dim in manifest.dims.items():
        absent = [
            f"{count:,} {kind}" for (of, kind), count in sorted(problems.items()) if of == name
        ]
        table.add_row(name, str(dim), f"{manifest.present[name]:,}", ", ".join(absent) or "-")
    print_table(table)
    click.echo(
        f"{manifest.rows:,} items, {manifest.items_per_second:,.1f} items/s, "
        f"encoder {manifest.encoder['spec']}, fusion {manifest.fusion or 'none'}: {folder}"
    )


@click.command("extract")
@options_of(ExtractionConfig)
@common_options
def command(
    root: Path, quiet: bool, config_file: Path | None, sets: tuple[str, ...], **given: Any
) -> None:
    """Encode a data set's pictures and texts into shards."""
    config = resolve(ExtractionConfig, given, config_file, sets)
    workspace = Workspace(root)
    manifest = run(config, workspace, Reporter(quiet))
    report(manifest, feature_folder(config, workspace))

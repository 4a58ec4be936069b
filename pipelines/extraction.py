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

from extract.catalog import Catalog
from extract.embed import EmbedOptions, Plan, Progress, embed, plan
from extract.encoders import ENCODERS, create_encoder, family_of
from extract.files import file_sha256
from extract.manifest import Manifest
from extract.shards import ShardWriter, read_ledger
from pipelines.cli import common_options
from pipelines.config import Seed, options_of, resolve
from pipelines.devices import resolve_device
from pipelines.overwriting import Overwriting, check_same_encoder, finished_features
from pipelines.progress import Reporter, plain_table, print_table
from pipelines.workspace import RANDOM, Workspace, catalogue_digest, read_table

ENCODER_FORMS = "\n".join(f"  {each.form}\n      {each.meaning}" for each in ENCODERS.values())


class ExtractionConfig(EmbedOptions, Overwriting):
    """What is encoded by what, and under what circumstances."""

    encoder: str = Field(description="The encoder, in one of the forms above.")
    dataset: str | None = Field(
        default=None, description="The data set; may be left out where there is just one."
    )
    features: str | None = Field(
        default=None,
        description="Name of the feature set.  [default: the encoder's family, or random-DIM]",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    seed: Seed = Field(default=0, description="Seed of PyTorch, for an encoder with chance in it.")


def run(config: ExtractionConfig, workspace: Workspace, reporter: Reporter) -> Manifest:
    """Encode a data set's catalogue into a feature folder; do nothing where that is done already.

    Args:
        config: The settings.
        workspace: Where the data set lies.
        reporter: Where to tell progress.

    Raises:
        UserError: The data set, the encoder or the device cannot be had, or do not fit; or the
            folder holds another encoder's features.
    """
    folder = feature_folder(config, workspace)
    device = resolve_device(config.device)
    torch.manual_seed(config.seed)
    dataset = workspace.dataset(config.dataset)
    dataset.require_prepared()
    items = read_table(dataset.items, ["item_id"])
    catalog, items_digest = Catalog.from_table(items, dataset.images), catalogue_digest(items)
    encoder = create_encoder(config.encoder).to(device)
    what = plan(encoder, catalog, config)
    identity = {
        "spec": encoder.spec,
        "fingerprint": encoder.fingerprint(),
        "precision": config.precision,
    }
    check_same_encoder(folder, identity, config.overwrite)
    finished = find_finished(folder, identity, what, config.dtype, items_digest)
    if finished and _same_content(folder, finished, catalog):
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
        items_digest=items_digest,
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
    folder: Path, identity: dict[str, str], what: Plan, dtype: str, items_digest: str
) -> Manifest | None:
    """The manifest of a folder whose features were made just as is asked for, else None."""
    manifest = finished_features(folder)
    if manifest is None:
        return None
    # The spec only says where the weights were found.
    same = all(manifest.encoder.get(key) == identity[key] for key in ("fingerprint", "precision"))
    same = same and (manifest.dims, manifest.fusion, manifest.dtype) == (
        what.dims,
        what.fusion,
        dtype,
    )
    return manifest if same and manifest.items_digest == items_digest else None


def _same_content(folder: Path, manifest: Manifest, catalog: Catalog) -> bool:
    """Whether every shard is whole, and every item's text and picture is what was encoded."""
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
    rows = []
    for name, dim in manifest.dims.items():
        absent = [
            f"{count:,} {kind}" for (of, kind), count in sorted(problems.items()) if of == name
        ]
        rows.append((name, str(dim), f"{manifest.present[name]:,}", ", ".join(absent) or "-"))
    print_table(plain_table(("modality", "size", "items", "absent"), rows, ("size", "items")))
    click.echo(
        f"{manifest.rows:,} items, {manifest.items_per_second:,.1f} items/s, "
        f"encoder {manifest.encoder['spec']}, fusion {manifest.fusion or 'none'}: {folder}"
    )


HELP = f"""Encode a data set's pictures and texts into shards.

\b
mmrec-extract --encoder offline
mmrec-extract --dataset sports --encoder clip --precision bf16 --batch-size 256
mmrec-extract --encoder hf:google/siglip-base-patch16-224 --features siglip

Broken and missing pictures and empty texts are recorded and told, never skipped in silence. What
is done already is not done again; after a change of the catalogue the same command does it anew.

\b
Encoders:
{ENCODER_FORMS}
"""


@click.command("extract", help=HELP)
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

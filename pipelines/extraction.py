"""``mmrec-extract``: a data set's pictures and texts become a feature set."""

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import click
import torch
from pydantic import Field

from extract.embed_tokens import SHARD_ROWS, token_plan
from extract.encoders import create_encoder
from extract.errors import UserError
from extract.ledger import count_problems
from extract.locking import locked
from extract.manifest import Manifest
from extract.planning import EmbedOptions, plan
from extract.precision import set_precision
from extract.ray_cluster import CPUS_PER_WORKER, Cluster
from extract.token_shards import FOLDER, TokenManifest
from pipelines.catalogue import read_catalogue
from pipelines.cli import common_options
from pipelines.config import Seed, options_of, resolve
from pipelines.devices import resolve_device
from pipelines.encoder_specs import ENCODER_FORMS, default_features, encoder_spec
from pipelines.encoding import Extraction, extract
from pipelines.overwriting import Overwriting, check_same_encoder
from pipelines.progress import Reporter, plain_table, print_table
from pipelines.token_encoding import extract_tokens, report_tokens, warn_of_old_tokens
from pipelines.workspace import RANDOM, Workspace


class ExtractionConfig(EmbedOptions, Overwriting):
    """What is encoded by what, and under what circumstances."""

    encoder: str = Field(description="The encoder, in one of the forms above.")
    dataset: str | None = Field(
        default=None, description="The data set; may be left out where there is just one."
    )
    features: str | None = Field(
        default=None,
        description="Name of the feature set.  [default: the encoder's family, random-DIM, or the "
        "name of a tuned encoder]",
    )
    tokens: bool = Field(
        default=False,
        description="Also store the vectors of each picture's patches and each text's words, in "
        f"tokens/ inside of the feature folder, at most {SHARD_ROWS} items per shard.",
    )
    token_dtype: Literal["float16", "float32"] = Field(
        default="float16", description="How the vectors of --tokens are stored."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    seed: Seed = Field(default=0, description="Seed of PyTorch, for an encoder with chance in it.")
    max_bad: str | None = Field(
        default=None,
        pattern=r"^[0-9]+(\.[0-9]+)?%$|^[0-9]+$",
        description="How many items, or which share of them such as 1%, may have a picture or a "
        "text that cannot be used; more is an error.  [default: any, with a warning]",
    )
    engine: Literal["local", "ray"] = Field(
        default="local",
        description="Who encodes: this process, or workers of Ray on many GPUs or machines.",
    )
    ray_workers: int | None = Field(
        default=None,
        ge=1,
        description="Processes that encode with --engine ray.  [default: one per GPU, else per "
        f"{CPUS_PER_WORKER} CPU cores]",
    )
    ray_address: str | None = Field(
        default=None,
        description="A running Ray cluster, such as HOST:6379 or auto.  [default: RAY_ADDRESS, "
        "else one of this machine alone]",
    )

    @property
    def cluster(self) -> Cluster | None:
        """Where `engine` encodes; None for this process."""
        if self.engine == "local":
            return None
        return Cluster(self.ray_workers, self.ray_address, self.device, self.seed)

    def allowed_bad(self, n_items: int) -> int | None:
        """`max_bad` as a number of items."""
        if self.max_bad is None:
            return None
        if self.max_bad.endswith("%"):
            return int(Decimal(self.max_bad[:-1]) * n_items / 100)
        return int(self.max_bad)


def run(config: ExtractionConfig, workspace: Workspace, reporter: Reporter) -> Manifest:
    """Encode a data set's catalogue into a feature folder, whatever of it is not there yet.

    Args:
        config: The settings.
        workspace: Where the data set lies.
        reporter: Where to tell progress.

    Raises:
        UserError: The data set, the encoder or the device cannot be had, or do not fit; the folder
            holds another encoder's features, or another process writes it; too much is bad; tokens
            are wanted of an encoder that has none, or of a cluster.
        KeyboardInterrupt: It was interrupted, and tells how far it came.
    """
    folder = feature_folder(config, workspace)
    cluster = config.cluster
    if cluster is None and (config.ray_workers or config.ray_address):
        raise UserError("--ray-workers and --ray-address mean nothing without --engine ray")
    if cluster and config.tokens:
        raise UserError(
            "--tokens needs --engine local; with --engine ray make the other vectors first, and "
            "then run again without it"
        )
    # Of a cluster this process only collects, and leaves the GPUs to the workers.
    device = resolve_device("cpu" if cluster else config.device)
    torch.manual_seed(config.seed)
    dataset = workspace.dataset(config.dataset)
    dataset.require_prepared()
    catalog, items_digest = read_catalogue(dataset)
    encoder = create_encoder(encoder_spec(config.encoder, dataset))
    if config.tokens:
        token_plan(encoder, catalog)  # refuses before any work what has none
    identity = {"spec": encoder.spec, "model": encoder.fingerprint()}
    identity["precision"] = set_precision(encoder, config.precision, config.half_convolutions)
    job = Extraction(
        folder=folder,
        catalog=catalog,
        items_digest=items_digest,
        encoder=encoder.to(device),
        identity=identity,
        what=plan(encoder, catalog, config),
        options=config,
        device=device,
        max_bad=config.allowed_bad(len(catalog)),
        cluster=cluster,
    )
    with locked(folder, "extracting features to"):
        check_same_encoder(folder, identity, config.overwrite)
        manifest = extract(job, reporter)
        if config.tokens:
            extract_tokens(job, manifest, config.token_dtype, reporter)
        else:
            warn_of_old_tokens(folder, manifest, reporter)
        return manifest


def feature_folder(config: ExtractionConfig, workspace: Workspace) -> Path:
    """Where the features go.

    Raises:
        UserError: The name is not one of a folder, or is that of a control.
    """
    name = config.features or default_features(config.encoder)
    if config.features is None and name == RANDOM:
        name = config.encoder.replace(":", "-")  # `random` itself is a control of training
    return workspace.dataset(config.dataset).features(name)


def report(manifest: Manifest, folder: Path) -> None:
    """Print what a feature folder holds: a table and one line."""
    problems = count_problems(folder)
    rows = []
    for name, dim in manifest.dims.items():
        absent = [
            f"{count:,} {kind}" for (of, kind), count in sorted(problems.items()) if of == name
        ]
        rows.append((name, str(dim), f"{manifest.present[name]:,}", ", ".join(absent) or "-"))
    print_table(plain_table(("modality", "size", "items", "absent"), rows, ("size", "items")))
    click.echo(
        f"{manifest.rows:,} items, {manifest.rows - manifest.reused:,} of them encoded at "
        f"{manifest.items_per_second:,.1f} items/s, "
        f"encoder {manifest.encoder['spec']}, fusion {manifest.fusion or 'none'}: {folder}"
    )


HELP = f"""Encode a data set's pictures and texts into shards.

\b
mmrec-extract --encoder offline
mmrec-extract --dataset sports --encoder clip --precision bf16 --batch-size 256
mmrec-extract --encoder hf:google/siglip-base-patch16-224 --features siglip
mmrec-extract --encoder offline --tokens

Broken and missing pictures and empty texts are recorded and told, never skipped in silence. What
is done already is not done again: after a change of the catalogue, an interruption or a crash the
same command encodes what is missing.

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
    folder = feature_folder(config, workspace)
    report(manifest, folder)
    if config.tokens:
        report_tokens(TokenManifest.read(folder / FOLDER), folder / FOLDER)

"""The token vectors of one extraction: from what is there already to a finished token folder.

Work is kept shard by shard: one whose items and contents are unchanged stays as it is, any other is
encoded whole. What the items contain is read from the feature shards, which were just brought up to
date.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from extract.embed_tokens import SHARD_ROWS, embed_tokens, token_plan
from extract.errors import UserError
from extract.files import digest, file_sha256, read_parquet, sweep
from extract.loader import DECODING
from extract.manifest import Manifest
from extract.parts import part_path
from extract.planning import Rows, split
from extract.scan import pack_digests
from extract.sources import read_part
from extract.token_shards import FOLDER, FORMAT, TokenManifest, TokenWriter
from pipelines.bars import modality_bars
from pipelines.encoding import Extraction, going_on
from pipelines.progress import Reporter, plain_table, print_table


def extract_tokens(
    job: Extraction, features: Manifest, dtype: str, reporter: Reporter
) -> TokenManifest:
    """Bring the token folder of a feature folder up to date.

    Args:
        job: The extraction that `features` has come of.
        features: The manifest of the finished feature folder.
        dtype: How token vectors are stored, ``float16`` or ``float32``.
        reporter: Where to tell progress.

    Raises:
        UserError: The encoder has no token vectors, or one is not finite.
        KeyboardInterrupt: It was interrupted, and tells how far it came.
    """
    start = time.monotonic()
    folder, dims = job.folder / FOLDER, token_plan(job.encoder, job.catalog)
    stamp = _stamp(job, dims, dtype)
    chunks = split(range(len(job.catalog)), min(job.options.shard_rows, SHARD_ROWS))
    sweep(folder)
    finished = finished_tokens(job.folder)
    wanted = _wanted(job, features, stamp, chunks, finished)
    if finished and len(wanted) == len(chunks) and _is_of(finished, job):
        reporter.say(f"{folder} is up to date, nothing is to be done")
        return finished
    writer = TokenWriter(folder, dims, dtype, stamp)
    left = [
        index for index in range(len(chunks)) if index not in wanted or not _adopt(writer, index)
    ]
    reused = writer.rows
    reporter.say(
        f"tokens of {len(job.catalog):,} items ({reused:,} reused, "
        f"{len(job.catalog) - reused:,} to encode), {dtype} -> {folder}"
    )
    with going_on(job, lambda: writer.rows):
        _write(job, writer, {index: chunks[index] for index in left}, reporter)
    return writer.finish(
        encoder=job.maker,
        items_digest=job.items_digest,
        seconds=time.monotonic() - start,
        reused=reused,
    )


def finished_tokens(features: Path) -> TokenManifest | None:
    """The manifest of a feature folder's tokens; None where they are unfinished or none."""
    try:
        return TokenManifest.read(features / FOLDER)
    except UserError:  # of another format, or torn
        return None


def warn_of_old_tokens(folder: Path, features: Manifest, reporter: Reporter) -> None:
    """Tell where a feature folder has token vectors that are not of the same items and encoder."""
    tokens = finished_tokens(folder)
    if tokens and (
        tokens.items_digest != features.items_digest
        or tokens.encoder.get("model") != features.encoder.get("model")
    ):
        reporter.say(
            f"warning: {folder / FOLDER} was made of other items or by another encoder; run again "
            "with --tokens, or delete it"
        )


def report_tokens(manifest: TokenManifest, folder: Path) -> None:
    """Print what a token folder holds: a table and one line."""
    rows = [
        (name, str(dim), f"{manifest.present[name]:,}", f"{manifest.lengths[name]:,}")
        for name, dim in manifest.dims.items()
    ]
    columns = ("tokens", "size", "items", "longest")
    print_table(plain_table(columns, rows, columns[1:]))
    click.echo(
        f"{manifest.rows:,} items, {manifest.rows - manifest.reused:,} of them encoded, "
        f"{manifest.dtype}: {folder}"
    )


def _stamp(job: Extraction, dims: dict[str, int], dtype: str) -> str:
    """A digest of all but the contents that decides the shards."""
    maker = [FORMAT, job.identity["model"], job.identity["precision"], DECODING]
    return digest([*maker, dtype, *(f"{modality} {dim}" for modality, dim in dims.items())])


def _wanted(
    job: Extraction,
    features: Manifest,
    stamp: str,
    chunks: Sequence[Rows],
    finished: TokenManifest | None,
) -> set[int]:
    """The places where a shard of the same maker stands that has just the items it needs."""
    hashes = {shard.file: shard.sha256 for shard in finished.shards} if finished else {}
    contents = [read_parquet(job.folder / shard.file, ["content"]) for shard in features.shards]
    digests = pack_digests(pa.concat_tables(contents)["content"])
    wanted = set()
    for index, rows in enumerate(chunks):
        path, span = part_path(job.folder / FOLDER, index), slice(rows[0], rows[-1] + 1)
        part = read_part(path, stamp, whole=True)
        if (
            part is not None
            and part.ids.equals(job.catalog.item_ids[span])
            and np.array_equal(part.contents, digests[span])
            and hashes.get(path.name) in (None, file_sha256(path))
        ):
            wanted.add(index)
    return wanted


def _is_of(finished: TokenManifest, job: Extraction) -> bool:
    """Whether a finished token folder says that it is of this very extraction."""
    return (
        finished.items_digest == job.items_digest
        and finished.encoder.get("fingerprint") == job.maker["fingerprint"]
    )


def _adopt(writer: TokenWriter, index: int) -> bool:
    """Take over a shard; False where not all of it can be read."""
    try:
        writer.adopt(index)
    except (pa.ArrowException, OSError):
        return False
    return True


def _write(
    job: Extraction, writer: TokenWriter, chunks: dict[int, Rows], reporter: Reporter
) -> None:
    total, broken = sum(map(len, chunks.values())), 0
    with modality_bars(reporter, list(writer.dims), total, by_turns=True) as progress:
        batches = embed_tokens(
            job.encoder,
            job.catalog,
            list(chunks.values()),
            job.options,
            writer.dtype.name,
            job.device,
            progress,
        )
        with closing(batches) as encoded:
            for index, batch in zip(chunks, encoded, strict=True):
                writer.write(batch, index)
                broken += len(batch.problems)
    if broken:
        reporter.say(
            f"warning: {broken:,} pictures or texts have token vectors that are not finite, which "
            "are left out"
        )

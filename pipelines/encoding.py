"""One extraction: from what is there already to a finished feature folder."""

import shlex
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from extract.batches import EmbeddingBatch
from extract.catalog import Catalog
from extract.chunks import Progress
from extract.compiling import compile_images
from extract.embed import embed
from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.files import digest
from extract.ledger import LEDGER
from extract.loader import DECODING
from extract.manifest import Manifest
from extract.planning import EmbedOptions, Plan, Rows, picture_batch
from extract.ray_cluster import Cluster
from extract.ray_engine import embed_on_cluster
from extract.reuse import Survey, Task
from extract.shards import ShardWriter
from pipelines.bars import modality_bars
from pipelines.overwriting import finished_features
from pipelines.progress import Reporter


@dataclass(frozen=True)
class Extraction:
    """What is to be extracted, by what, to where.

    Attributes:
        folder: The feature folder.
        catalog: The items.
        items_digest: Of the catalogue.
        encoder: On `device`, its precision set.
        identity: Its ``spec``, ``model`` and ``precision``.
        what: What it gives.
        options: The circumstances.
        device: Where it computes.
        max_bad: How many items may have a picture or text that cannot be used; None for any.
        cluster: Whose workers compute in its place, each with an encoder of its own; None for this
            process.
    """

    folder: Path
    catalog: Catalog
    items_digest: str
    encoder: Encoder
    identity: dict[str, str]
    what: Plan
    options: EmbedOptions
    device: torch.device
    max_bad: int | None = None
    cluster: Cluster | None = None

    @property
    def maker(self) -> dict[str, str]:
        """`identity` with the ``fingerprint`` of all but the contents that decides the vectors."""
        parts = [
            self.identity["model"],
            self.identity["precision"],
            self.what.fusion or "",
            DECODING,
        ]
        return self.identity | {"fingerprint": digest(parts), "options": self._options}

    @property
    def _options(self) -> str:
        """What of a command decides the shards, as far as it is not the default."""
        told = {"encoder": self.identity["spec"]} | {
            name: value
            for name in ("precision", "half_convolutions", "fusion", "dtype", "shard_rows")
            if (value := getattr(self.options, name)) != EmbedOptions.model_fields[name].default
        }
        return " ".join(
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
            for name, value in told.items()
        )

    @property
    def stamp(self) -> str:
        """A digest of all but the contents that decides the shards."""
        dims = [f"{modality} {dim}" for modality, dim in self.what.dims.items()]
        return digest([self.maker["fingerprint"], self.options.dtype, *dims])


def extract(job: Extraction, reporter: Reporter) -> Manifest:
    """Bring a feature folder up to date; encode only what was not encoded before.

    Args:
        job: What is to be extracted.
        reporter: Where to tell progress.

    Raises:
        UserError: More items are bad than may be, or a vector is not finite.
        KeyboardInterrupt: It was interrupted, and tells how far it came.
    """
    start = time.monotonic()
    finished = finished_features(job.folder)
    with reporter.bar("compare", len(job.catalog)) as advance:
        survey = Survey(
            job.folder,
            job.stamp,
            job.what.dims,
            job.catalog,
            job.options.shard_rows,
            advance,
            {shard.file: shard.sha256 for shard in finished.shards} if finished else {},
        )
    if finished and _is_up_to_date(job, survey, finished):
        survey.finish()
        _check_bad(job, finished.bad, finished.rows)
        reporter.say(f"{job.folder} is up to date, nothing is to be done")
        return finished
    counts = survey.counts()
    _announce(job, counts, reporter)
    # Opening it removes the manifest, so that no reader takes for finished what now changes.
    writer = ShardWriter(job.folder, job.what.dims, job.options.dtype, job.stamp, job.maker)
    survey.settle()
    _write(job, survey, writer, reporter)
    manifest = writer.finish(
        encoder=job.maker,
        normalized=job.what.normalized,
        fusion=job.what.fusion,
        items_digest=job.items_digest,
        seconds=time.monotonic() - start,
        reused=counts["reused"],
    )
    survey.finish()
    if writer.bad:
        reporter.say(
            f"warning: {writer.bad:,} items have a picture or a text that cannot be used; "
            f"{job.folder / LEDGER} tells why"
        )
    return manifest


@contextmanager
def going_on(job: Extraction, rows: Callable[[], int]) -> Iterator[None]:
    """Tell what is kept where the memory does not suffice, or the user interrupts.

    Args:
        job: What is being extracted.
        rows: How many items are done.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the memory of {job.device} does not suffice ({str(error).splitlines()[0]}); give a "
            "smaller --batch-size; what is encoded is kept"
        ) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{rows():,} of {len(job.catalog):,} items are done and kept; the same command goes on "
            "from there"
        ) from None


def _write(job: Extraction, survey: Survey, writer: ShardWriter, reporter: Reporter) -> None:
    with going_on(job, lambda: writer.rows):
        for index in sorted(survey.kept):
            writer.adopt(index)
        _check_written(job, writer)
        # Closed also where writing fails, so that no worker of a cluster works on.
        with closing(_batches(job, survey, reporter)) as batches:
            for task, batch in batches:
                writer.write(batch, task.index)
                _check_written(job, writer)


def _check_written(job: Extraction, writer: ShardWriter) -> None:
    try:
        _check_bad(job, writer.bad, writer.rows)
    except UserError:
        writer.write_ledger()
        raise


def _check_bad(job: Extraction, bad: int, rows: int) -> None:
    if job.max_bad is not None and bad > job.max_bad:
        raise UserError(
            f"{bad:,} of the {rows:,} items so far have a picture or a text that cannot be used, "
            f"and --max-bad lets no more than {job.max_bad:,} pass; {job.folder / LEDGER} tells "
            "which and why: mend them, or allow more; what is encoded is kept"
        )


def _is_up_to_date(job: Extraction, survey: Survey, manifest: Manifest) -> bool:
    """Whether nothing is to be done in a finished folder."""
    return (
        not survey.tasks
        and manifest.items_digest == job.items_digest
        and manifest.encoder.get("fingerprint") == job.maker["fingerprint"]
        and {shard.file for shard in manifest.shards} == survey.whole
    )


def _announce(job: Extraction, counts: dict[str, int], reporter: Reporter) -> None:
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    where = job.cluster or job.device
    reporter.say(
        f"{len(job.catalog):,} items ({told}), encoder {job.encoder.spec}, {where}, "
        f"{job.identity['precision']} -> {job.folder}"
    )


def _batches(
    job: Extraction, survey: Survey, reporter: Reporter
) -> Generator[tuple[Task, EmbeddingBatch]]:
    """The tasks with their whole batches: first those that need no encoder."""
    to_encode = [task for task in survey.tasks if len(task.missing)]
    for task in survey.tasks:
        if not len(task.missing):
            yield task, survey.complete(task, None)
    chunks = [task.missing for task in to_encode]
    # Workers give a chunk with all of its modalities at once, which then share the time.
    by_turns = job.cluster is None
    with modality_bars(reporter, job.what.encoded, sum(map(len, chunks)), by_turns) as progress:
        for index, fresh in _encoded(job, chunks, progress, reporter):
            yield to_encode[index], survey.complete(to_encode[index], fresh)


def _encoded(
    job: Extraction, chunks: Sequence[Rows], progress: Progress, reporter: Reporter
) -> Iterator[tuple[int, EmbeddingBatch]]:
    """The chunks' batches, each with its number, in any order."""
    if job.cluster is None:
        if job.options.compile_images and chunks and "image" in job.what.dims:
            reporter.say("compiling the picture encoder")
            compile_images(job.encoder, picture_batch(job.options, job.device), job.device)
        batches = embed(job.encoder, job.catalog, job.options, job.device, progress, chunks)
        return enumerate(batches)
    return embed_on_cluster(
        job.cluster,
        job.identity,
        job.catalog,
        job.options,
        chunks,
        progress,
        job.what.encoded,
        reporter.say,
    )

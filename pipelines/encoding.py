"""One extraction: from what is there already to a finished feature folder."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from extract.batches import EmbeddingBatch
from extract.catalog import Catalog
from extract.embed import EmbedOptions, Plan, Progress, embed
from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.files import digest, file_sha256
from extract.ledger import LEDGER
from extract.loader import DECODING
from extract.manifest import Manifest
from extract.planning import Rows
from extract.reuse import Survey, Task
from extract.shards import ShardWriter
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

    @property
    def maker(self) -> dict[str, str]:
        """`identity` with the ``fingerprint`` of all but the contents that decides the vectors."""
        parts = [
            self.identity["model"],
            self.identity["precision"],
            self.what.fusion or "",
            DECODING,
        ]
        return self.identity | {"fingerprint": digest(parts)}

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
    with reporter.bar("compare", len(job.catalog)) as advance:
        survey = Survey(
            job.folder, job.stamp, job.what.dims, job.catalog, job.options.shard_rows, advance
        )
    finished = _finished(job, survey)
    if finished:
        survey.finish()
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


def _write(job: Extraction, survey: Survey, writer: ShardWriter, reporter: Reporter) -> None:
    try:
        for index in survey.kept:
            writer.adopt(index)
        _check_bad(job, writer)
        for task, batch in _batches(job, survey, reporter):
            writer.write(batch, task.index)
            _check_bad(job, writer)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{writer.rows:,} of {len(job.catalog):,} items are done and kept; the same command "
            "goes on from there"
        ) from None


def _check_bad(job: Extraction, writer: ShardWriter) -> None:
    if job.max_bad is None or writer.bad <= job.max_bad:
        return
    writer.write_ledger()
    raise UserError(
        f"{writer.bad:,} of the {writer.rows:,} items so far have a picture or a text that cannot "
        f"be used, and --max-bad lets no more than {job.max_bad:,} pass; {job.folder / LEDGER} "
        "tells which and why: mend them, or allow more; what is encoded is kept"
    )


def _finished(job: Extraction, survey: Survey) -> Manifest | None:
    """The manifest of a folder where nothing is to be done."""
    manifest = finished_features(job.folder)
    if manifest is None or survey.tasks or manifest.items_digest != job.items_digest:
        return None
    same = manifest.encoder.get("fingerprint") == job.maker["fingerprint"]
    whole = len(manifest.shards) == len(survey.kept) and all(
        file_sha256(job.folder / shard.file) == shard.sha256 for shard in manifest.shards
    )
    return manifest if same and whole else None


def _announce(job: Extraction, counts: dict[str, int], reporter: Reporter) -> None:
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    reporter.say(
        f"{len(job.catalog):,} items ({told}), encoder {job.encoder.spec}, {job.device}, "
        f"{job.identity['precision']} -> {job.folder}"
    )


def _batches(
    job: Extraction, survey: Survey, reporter: Reporter
) -> Iterator[tuple[Task, EmbeddingBatch]]:
    """The tasks with their whole batches: first those that need no encoder."""
    to_encode = [task for task in survey.tasks if len(task.missing)]
    for task in survey.tasks:
        if not len(task.missing):
            yield task, survey.whole(task, None)
    chunks = [task.missing for task in to_encode]
    with _bars(reporter, job.what, sum(map(len, chunks))) as progress:
        for index, fresh in _encoded(job, chunks, progress):
            yield to_encode[index], survey.whole(to_encode[index], fresh)


def _encoded(
    job: Extraction, chunks: Sequence[Rows], progress: Progress
) -> Iterator[tuple[int, EmbeddingBatch]]:
    """The chunks' batches, each with its number, in any order."""
    yield from enumerate(embed(job.encoder, job.catalog, job.options, job.device, progress, chunks))


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

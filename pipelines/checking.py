"""``mmrec-check``: the data contract, checked line by line, as one readable report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import pyarrow as pa
from rich.text import Text

from extract.catalog import Catalog, content_digest
from extract.errors import UserError
from extract.files import file_sha256
from extract.manifest import Manifest, items_digest
from extract.pictures import PictureProblem, open_picture
from extract.shards import ShardReader
from pipelines.checks import DATA_CHECKS, FEATURE_CHECKS, Finding, judge
from pipelines.cli import common_options
from pipelines.data_checks import DataEvidence, empty_texts, with_reasons
from pipelines.duplicates import (
    HASHED_SIDE,
    Groups,
    PictureHashes,
    file_digest,
    near_texts,
    perceptual_hash,
)
from pipelines.feature_checks import FeatureEvidence
from pipelines.progress import Reporter, counts_table, plain_table, print_table
from pipelines.sources.writing import table_digest
from pipelines.workspace import SPLITS, Dataset, Workspace, catalogue_digest, read_json, read_table

SHOWN = 3
# Rows that wait for a thread at a time: a million of them would take a gigabyte.
SUBMITTED = 4096
COLOURS = {"ok": "green", "warn": "yellow", "error": "bold red"}


class Report(NamedTuple):
    """What was counted and what was found."""

    counts: Mapping[str, int]
    findings: Sequence[Finding]

    @property
    def errors(self) -> list[Finding]:
        """The findings that make a data set unusable."""
        return [finding for finding in self.findings if finding.level == "error"]


def run(dataset: Dataset, features: str | None, reporter: Reporter) -> Report:
    """Check a data set, and one of its feature sets where one is named.

    Args:
        dataset: The data set.
        features: The feature set, or None.
        reporter: Where to tell progress.

    Raises:
        UserError: A table cannot be read at all, or there is no such feature set.
    """
    folder = dataset.require_features(features) if features else None
    items = read_table(dataset.items, ["item_id"])
    log = read_table(dataset.interactions, ["user_id", "item_id", "split"])
    item_ids = _words(items["item_id"])
    catalog = _numbered_catalog(items, dataset.images)
    pictures = _look_at_pictures(catalog, reporter)
    texts = catalog.texts.to_pylist()
    evidence = DataEvidence(
        item_ids=item_ids,
        texts=texts,
        users=_words(log["user_id"]),
        items=_words(log["item_id"]),
        splits=_words(log["split"]),
        pictures=with_reasons(pictures.problems, item_ids, dataset.folder),
        alike_pictures=pictures.alike,
        alike_texts=near_texts(texts),
        changed=_changed(dataset, items, log),
        unfinished=[] if dataset.description.is_file() else [f"no {dataset.description.name}"],
    )
    counts = _counts(evidence)
    findings = judge(DATA_CHECKS, evidence)
    if folder:
        more_counts, more_findings = _check_features(
            folder, item_ids, pictures.content, catalogue_digest(items)
        )
        counts |= more_counts
        findings += more_findings
    return Report(counts, findings)


def print_report(report: Report) -> None:
    """The counts and the findings, a table each, on stdout."""
    print_table(counts_table(report.counts))
    click.echo()
    rows = [
        (
            finding.offence,
            Text(finding.level, style=COLOURS[finding.level]),
            f"{len(finding.offenders):,}",
            "; ".join(finding.offenders[:SHOWN]),
        )
        for finding in report.findings
    ]
    print_table(plain_table(("check", "result", "count", "examples"), rows, right=("count",)))


@click.command()
@click.option("--dataset", help="The data set; may be left out where only one exists.")
@click.option("--features", help="A feature set to check against the catalogue.")
@common_options
def command(root: Path, quiet: bool, dataset: str | None, features: str | None) -> None:
    """Check a data set, and features, against the data contract.

    \b
    mmrec-check
    mmrec-check --dataset shop --features offline

    Each line of the report is a rule, with the number of those that break it and a few of them. A
    warning is worth a look; an error makes the data set unusable, and the exit code 1.

    Near-duplicates are groups such as "i3 = i17 = i20". Pictures are so when their files are equal
    or their perceptual hashes (pHash, 256 bits) differ in at most 10 bits: copies that were scaled,
    compressed again or made a little brighter. Texts are so when they share nine tenths of their
    words. Variants of one thing are often meant to be alike; in a log that was split at random, a
    copy of a training item in the test is an answer given away.
    """
    checked = Workspace(root).dataset(dataset)
    report = run(checked, features, Reporter(quiet))
    print_report(report)
    if report.errors:
        told = ", ".join(f"{len(each.offenders):,} {each.offence}" for each in report.errors)
        raise UserError(
            f"the data set {checked.name!r} breaks the data contract: {told}; mend the source and "
            "prepare or extract again"
        )


def _words(column: pa.ChunkedArray) -> list[str]:
    """A column as text; what is absent is empty."""
    return [word or "" for word in column.cast(pa.string()).to_pylist()]


def _numbered_catalog(items: pa.Table, images: Path) -> Catalog:
    """The catalogue as extraction sees it, under row numbers, as the ids are yet to be checked."""
    columns = {"item_id": [str(row) for row in range(items.num_rows)]}
    columns |= {name: items[name] for name in ("text", "image") if name in items.column_names}
    return Catalog.from_table(pa.table(columns), images)


class _Looked(NamedTuple):
    """What a look at an item's picture found; the hashes only of one that can be used."""

    content: str
    problem: tuple[str, str] | None
    file: bytes = b""
    pixels: bytes | None = None


class _Pictures(NamedTuple):
    """What is wrong with pictures by row, each row's digest of content, and groups of rows."""

    problems: dict[int, tuple[str, str]]
    content: list[str]
    alike: Groups


def _look_at_pictures(catalog: Catalog, reporter: Reporter) -> _Pictures:
    hashes = PictureHashes(len(catalog))
    problems: dict[int, tuple[str, str]] = {}
    content = []
    with ThreadPoolExecutor() as pool, reporter.bar("pictures", len(catalog)) as advance:
        for start in range(0, len(catalog), SUBMITTED):
            rows = range(start, min(start + SUBMITTED, len(catalog)))
            for row, looked in zip(rows, pool.map(partial(_look, catalog), rows), strict=True):
                if looked.problem:
                    problems[row] = looked.problem
                else:
                    hashes.add(row, looked.file, looked.pixels)
                content.append(looked.content)
                advance()
    return _Pictures(problems, content, hashes.groups())


def _look(catalog: Catalog, row: int) -> _Looked:
    """Read and decode a picture, no larger than is needed to see whether it can be."""
    data = None
    try:
        data = catalog.picture_bytes(row)
        pixels = perceptual_hash(open_picture(data, HASHED_SIDE))
    except PictureProblem as problem:
        return _Looked(content_digest(catalog.text(row), data), (problem.kind, problem.detail))
    return _Looked(content_digest(catalog.text(row), data), None, file_digest(data), pixels)


def _changed(dataset: Dataset, items: pa.Table, log: pa.Table) -> list[str]:
    if not dataset.description.is_file():
        return []
    digests = read_json(dataset.description).get("digests", {})
    tables = {"items": items, "interactions": log}
    return [name for name, table in tables.items() if digests.get(name) != table_digest(table)]


def _counts(data: DataEvidence) -> dict[str, int]:
    by_split = Counter(data.splits)
    return {
        "items": len(data.item_ids),
        "users": len(set(data.users)),
        "interactions": len(data.items),
        **{split: by_split[split] for split in SPLITS},
        "items with a picture": len(data.item_ids) - len(data.pictures),
        "items with a text": len(data.item_ids) - len(empty_texts(data)),
    }


def _check_features(
    folder: Path, item_ids: Sequence[str], content: Sequence[str], of_catalogue: str
) -> tuple[dict[str, int], list[Finding]]:
    """Counts and findings of a feature folder; one finding only where it cannot be read."""
    try:
        reader = ShardReader(folder)
        batches = list(reader)
    except UserError as error:
        return {}, [Finding("unreadable features", "error", [str(error)])]
    manifest = reader.manifest
    evidence = FeatureEvidence(
        item_ids=item_ids,
        content=content,
        catalogue_digests=(items_digest(item_ids), of_catalogue),
        manifest=manifest,
        batches=batches,
        changed_shards=_changed_shards(folder, manifest),
    )
    counts = {f"rows of features {folder.name}": manifest.rows}
    counts |= {
        f"{modality} vectors of size {dim}": int(sum(b.present[modality].sum() for b in batches))
        for modality, dim in manifest.dims.items()
    }
    return counts, judge(FEATURE_CHECKS, evidence)


def _changed_shards(folder: Path, manifest: Manifest) -> list[str]:
    return [
        shard.file for shard in manifest.shards if file_sha256(folder / shard.file) != shard.sha256
    ]

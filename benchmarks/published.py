"""Published figures beside ours, on the same data and under the same protocol.

python -m benchmarks.published [--data DIR] [--quick] [--json FILE] [--device ...]

Prepares the data sets that are found under DIR (they are no part of the project), trains each
model with the settings named, and prints test figures beside the published ones. Data sets that
are absent are left out, and said to be.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.output import Row, print_rows, write_rows
from pipelines import prepare, training
from pipelines.progress import Reporter
from pipelines.run_config import run_settings
from pipelines.sources.features import FeaturesConfig
from pipelines.sources.inter import InterConfig
from pipelines.workspace import Workspace

DEFAULT_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@dataclass(frozen=True)
class Source:
    """A data set in the MMRec form."""

    interactions: str
    image: str | None = None
    text: str | None = None


SOURCES = {
    "baby": Source("amazon_baby/baby.inter.tsv"),
    "ml100k": Source(
        "ml100k_split/ml100k.inter",
        "ml100k_split/image_feat.npy",
        "ml100k_split/text_feat.npy",
    ),
}


@dataclass(frozen=True)
class Case:
    """A model with settings, and what others found with it on test, ``mmrec`` protocol."""

    dataset: str
    model: str
    config: str | None
    published: Mapping[str, float]


# What the references are. Baby: the published table on MMRec's evaluation page, one seed, settings
# picked on test. ML-100K: one run each of MMRec's own code on the same split and features.
CASES = (
    Case("ml100k", "bpr", None, {"recall@20": 0.3370, "ndcg@20": 0.2191}),
    Case("ml100k", "lightgcn", None, {"recall@20": 0.3426, "ndcg@20": 0.2269}),
    Case("ml100k", "vbpr", None, {"recall@20": 0.3523, "ndcg@20": 0.2286}),
    Case("ml100k", "freedom", None, {"recall@20": 0.3483, "ndcg@20": 0.2329}),
    Case("baby", "bpr", "bpr-baby", {"recall@20": 0.0575, "ndcg@20": 0.0249}),
    Case("baby", "lightgcn", "lightgcn-baby", {"recall@20": 0.0754, "ndcg@20": 0.0328}),
)


def prepare_source(name: str, data: Path, workspace: Workspace, reporter: Reporter) -> None:
    """Make data set `name`, and feature set ``npy`` where it comes with features."""
    source = SOURCES[name]
    config = InterConfig(dataset=name, interactions=data / source.interactions)
    prepare.run("inter", config, workspace, reporter)
    if source.image and source.text:
        features = FeaturesConfig(
            dataset=name, features="npy", image=data / source.image, text=data / source.text
        )
        prepare.run_features(features, workspace.dataset(name), reporter)


def measure(case: Case, workspace: Workspace, device: str, reporter: Reporter) -> Iterator[Row]:
    """Train one case and compare each figure."""
    given = {"dataset": case.dataset, "protocol": "mmrec", "device": device}
    file = Path(case.config) if case.config else None
    config = run_settings(given, case.model, file, ())
    trained = training.run(config, workspace, reporter)
    for metric, published in case.published.items():
        value = trained.metrics["test"][metric]
        yield Row(f"{case.model}/{case.dataset}/{metric}", value, metric, published)
    yield Row(f"{case.model}/{case.dataset}/seconds", trained.metrics["seconds"], "s")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA)
@click.option("--quick", is_flag=True, help="ML-100K only.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--device", default="auto")
def main(data: Path, quick: bool, json_file: Path | None, device: str) -> None:
    """Measure all cases whose data are there."""
    reporter = Reporter()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        for name, source in SOURCES.items():
            if not (data / source.interactions).is_file() or (quick and name != "ml100k"):
                reporter.say(f"{name} is left out" + ("" if quick else f": not under {data}"))
                continue
            prepare_source(name, data, workspace, reporter)
            for case in CASES:
                if case.dataset == name:
                    rows += measure(case, workspace, device, reporter)
    print_rows("test figures under the mmrec protocol, seed 0, beside MMRec's", rows)
    if json_file:
        write_rows(json_file, rows)


if __name__ == "__main__":
    main()

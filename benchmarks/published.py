"""Published figures beside ours, on the same data and under the same protocol.

python -m benchmarks.published [--data DIR] [--only NAME] [--workspace DIR] [--quick] [--json FILE]

Prepares the data sets that are found under DIR (they are no part of the project), trains each
model with the settings that come along, and prints test figures beside the published ones. Data
sets that are absent are left out, and said to be. All of it takes hours on two cores: with
``--workspace`` runs are kept, and finished ones are not trained again.

The splits of the Amazon data have the published sizes and are another random draw. There are no
Amazon pictures here: the multimodal models on Sports see one text for each item, its brand and
category path, through all-MiniLM-L6-v2, where the published ones saw pictures and descriptions.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow.compute as pc
from scipy.stats import ttest_rel

from benchmarks.output import Row, print_rows, write_rows
from pipelines import extraction, prepare, training
from pipelines.comparisons.measuring.published import PUBLISHED
from pipelines.extraction import ExtractionConfig
from pipelines.progress import Reporter
from pipelines.run_config import run_settings
from pipelines.runs import METRICS, PER_USER, FinishedRun
from pipelines.sources.features import FeaturesConfig
from pipelines.sources.inter import InterConfig
from pipelines.workspace import Workspace, read_table

DEFAULT_DATA = Path(__file__).parents[1].parent / "shared" / "data"
# Validations are as dear as epochs, so there is one in five; patience in epochs stays the usual 20.
AMAZON = ("train.evaluate_every=5", "train.patience=4")


@dataclass(frozen=True)
class Source:
    """A data set in the MMRec form, and where its features come from: matrices or a text."""

    interactions: str
    image: str | None = None
    text: str | None = None
    items: str | None = None
    template: str | None = None


SOURCES = {
    "ml100k": Source(
        "ml100k_split/ml100k.inter",
        image="ml100k_split/image_feat.npy",
        text="ml100k_split/text_feat.npy",
    ),
    "baby": Source("amazon_baby/baby.inter.tsv"),
    "clothing": Source("amazon_clothing/clothing.inter.tsv"),
    "sports": Source(
        "amazon_sports/sports.inter.tsv", items="amazon_sports/items.tsv", template="{attributes}"
    ),
}


@dataclass(frozen=True)
class Case:
    """A model on a data set, and what others found with it on test, ``mmrec`` protocol."""

    dataset: str
    model: str
    recall: float | None = None
    ndcg: float | None = None
    features: str | None = None
    sets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As in the table."""
        control = "-shuffled" if (self.features or "").startswith("shuffled") else ""
        return f"{self.model}{control}/{self.dataset}"

    @property
    def config(self) -> Path | None:
        """The settings that come along, or the defaults."""
        return None if self.dataset == "ml100k" else Path(f"{self.model}-{self.dataset}")


def amazon(dataset: str, model: str, features: str | None = None) -> Case:
    """A case whose published figures stand in `pipelines.comparisons.measuring.published`."""
    figures = PUBLISHED[dataset][model]
    return Case(dataset, model, figures.recall_20, figures.ndcg_20, features, AMAZON)


# What the references are. Amazon: the published tables, one seed, settings picked on test. ML-100K:
# one run each of MMRec's own code on the same split and features.
CASES = (
    Case("ml100k", "bpr", 0.3370, 0.2191),
    Case("ml100k", "lightgcn", 0.3426, 0.2269),
    Case("ml100k", "vbpr", 0.3523, 0.2286, "npy"),
    Case("ml100k", "freedom", 0.3483, 0.2329, "npy"),
    *(
        amazon(d, m)
        for d in ("baby", "clothing", "sports")
        for m in ("bpr", "lightgcn", "layergcn")
    ),
    *(amazon("sports", m, "offline") for m in ("slmrec", "lattice", "bm3", "mgcn", "freedom")),
    Case("sports", "freedom", None, None, "shuffled:offline", AMAZON),
)


def prepare_source(
    name: str, data: Path, workspace: Workspace, device: str, reporter: Reporter
) -> None:
    """Make data set `name`, and its features where it comes with any; what is there stays."""
    source = SOURCES[name]
    if not workspace.new_dataset(name).items.is_file():
        config = InterConfig(
            dataset=name,
            interactions=data / source.interactions,
            items=data / source.items if source.items else None,
            text=source.template,
        )
        prepare.run("inter", config, workspace, reporter)
    dataset = workspace.dataset(name)
    if source.image and source.text and not dataset.feature_names():
        features = FeaturesConfig(
            dataset=name, features="npy", image=data / source.image, text=data / source.text
        )
        prepare.run_features(features, dataset, reporter)
    if source.template:
        made = ExtractionConfig(encoder="offline", dataset=name, device=device)
        extraction.run(made, workspace, reporter)


def run_of(case: Case, workspace: Workspace, device: str, reporter: Reporter) -> FinishedRun:
    """The finished run of a case, trained if it is not there."""
    name = f"published-{case.name.split('/')[0]}"
    path = workspace.new_run(case.dataset, name)
    if not (path / METRICS).is_file():
        given = {"dataset": case.dataset, "features": case.features, "run": name}
        given |= {"protocol": "mmrec", "device": device}
        model = case.model if case.config is None else None
        training.run(run_settings(given, model, case.config, case.sets), workspace, reporter)
    return FinishedRun.open(path)


def measure(case: Case, run: FinishedRun) -> Iterator[Row]:
    """The figures of a run beside the published ones."""
    published: Mapping[str, float | None] = {"recall@20": case.recall, "ndcg@20": case.ndcg}
    for metric, reference in published.items():
        yield Row(f"{case.name}/{metric}", run.metrics["test"][metric], metric, reference)
    yield Row(f"{case.name}/seconds", run.metrics["seconds"], "s")


def compare(one: FinishedRun, other: FinishedRun, what: str) -> Row:
    """How probable it is that two runs differ by chance only: Student's t, paired by user."""
    tables = [
        read_table(run.folder / PER_USER, ["user_id", "split", "recall@20"]) for run in (one, other)
    ]
    tables = [table.filter(pc.equal(table["split"], "test")) for table in tables]
    ids, others = (table["user_id"].to_pylist() for table in tables)
    if ids != others:
        raise ValueError("the runs were measured on other users")
    values = [table["recall@20"].to_numpy() for table in tables]
    return Row(f"{what}/p", float(ttest_rel(*values).pvalue), "two-sided p")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA)
@click.option("--only", metavar="NAME", type=click.Choice(list(SOURCES)), help="One data set.")
@click.option("--workspace", "folder", type=click.Path(path_type=Path), help="Keep the runs here.")
@click.option("--quick", is_flag=True, help="ML-100K only.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--device", default="auto")
def main(
    data: Path,
    only: str | None,
    folder: Path | None,
    quick: bool,
    json_file: Path | None,
    device: str,
) -> None:
    """Measure all cases whose data are there."""
    reporter, only = Reporter(), "ml100k" if quick else only
    rows: list[Row] = []
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        for name, source in SOURCES.items():
            if only not in (None, name):
                continue
            if not (data / source.interactions).is_file():
                reporter.say(f"{name} is left out: not under {data}")
                continue
            prepare_source(name, data, workspace, device, reporter)
            cases = [case for case in CASES if case.dataset == name]
            runs = {case.name: run_of(case, workspace, device, reporter) for case in cases}
            rows += [row for case in cases for row in measure(case, runs[case.name])]
            if name == "sports":
                pair = runs["freedom/sports"], runs["freedom-shuffled/sports"]
                rows.append(compare(*pair, "freedom/sports/against-shuffled"))
    print_rows("test figures under the mmrec protocol, seed 0, beside the published ones", rows)
    if json_file:
        write_rows(json_file, rows)


if __name__ == "__main__":
    main()

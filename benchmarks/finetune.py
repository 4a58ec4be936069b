"""What fine-tuning gains: retrieval among held-out pairs, and recommendations from its features.

python -m benchmarks.finetune [--data DIR] [--only NAME] [--workspace DIR] [--quick] [--json FILE]

``fashion``: H&M's articles, a picture with name, type, colour, appearance and description, colours
of one product held out together; the ``offline`` pair with projections, its towers frozen, then
its last blocks trained, then LoRA. ``films``: MovieLens-100K with posters and overviews; the pair
is tuned, and ``freedom`` and ``vbpr`` are trained on its features and on those of ``offline``,
three seeds each. The data are no part of the project; what is absent is left out, and said to be.
``speed``: pairs a second of a contrastive gradient, the dearest part of a step, beside the matrix
rate of the machine; the weights are random, which decides no speed. With ``--workspace`` finished
encoders, features and runs are not made again.
"""

import csv
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.films import PAIR, prepare_films, tuned_pair
from benchmarks.floors import matrix_rate, mean_seconds
from benchmarks.material import DEFAULT_DATA, TOKENS, open_clip_encoder, random_inputs
from benchmarks.output import Row, print_rows, write_rows
from extract.encoders.base import Encoder
from extract.finetune.step import contrastive_backward
from extract.losses import itc
from extract.precision import DTYPES
from pipelines import extraction, finetuning, prepare, training
from pipelines.cli import keep_freed_memory
from pipelines.devices import resolve_device
from pipelines.extraction import ExtractionConfig
from pipelines.finetune_config import FinetuneConfig
from pipelines.progress import Reporter
from pipelines.run_config import run_settings
from pipelines.runs import METRICS
from pipelines.sources.table import TableConfig
from pipelines.workspace import Workspace, read_json

FASHION_TEXT = (
    "{prod_name}. {product_type_name}. {colour_group_name}. {graphical_appearance_name}. "
    "{detail_desc}"
)
LAST_BLOCKS = (r"image\.model\.(blocks\.6|conv_head|bn2)", r"encoder\.layer\.5\.")
# What is added to the pair, and what of it is trained.
REGIMES: dict[str, dict[str, Any]] = {
    "frozen": {"epochs": 30, "batch_size": 512, "weight_decay": 0.1},
    "last-blocks": {
        "train": LAST_BLOCKS,
        "encoder_rate": 1e-4,
        "epochs": 6,
        "batch_size": 512,
        "chunk_size": 512,
        "weight_decay": 0.1,
    },
    "lora": {
        "lora": 8,
        "lora_layers": r"blocks\.6|layer\.[45]\.",
        "epochs": 6,
        "batch_size": 512,
        "chunk_size": 512,
        "weight_decay": 0.1,
    },
}
MODELS = ("freedom", "vbpr")
SEEDS = (0, 1, 2)


def prepare_fashion(data: Path, workspace: Workspace, reporter: Reporter) -> None:
    """The articles, and as a log what was bought together; what is there stays."""
    source = data / "hm_fashion"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.tsv"
        with (source / "copurchase_top6.tsv").open() as pairs, log.open("w") as out:
            out.write("user_id\tarticle_id\n")
            for row in csv.DictReader(pairs, delimiter="\t"):
                out.write(f"{row['article_id']}\t{row['other_id']}\n")
        config = TableConfig(
            dataset="fashion",
            interactions=log,
            items=source / "items.tsv",
            images=(source / "images",),
            item_column="article_id",
            unknown_items="drop",
            keep_all_items=True,
            text=FASHION_TEXT,
        )
        if not workspace.new_dataset("fashion").description.is_file():
            prepare.run("table", config, workspace, reporter)


def fashion(
    workspace: Workspace, device: str, reporter: Reporter, regimes: tuple[str, ...]
) -> Iterator[Row]:
    """Recalls of held-out articles before and after, and what it took."""
    for regime in regimes:
        config = FinetuneConfig(
            encoder="offline",
            out=f"pair_{regime}",
            dataset="fashion",
            holdout_column="product_code",
            device=device,
            **{"projection": 256, "train": ("none",), **REGIMES[regime]},
        )
        start = time.perf_counter()
        told = read_json(finetuning.run(config, workspace, reporter) / "encoder.json")
        yield from retrieval_rows(f"fashion/{regime}", told)
        reporter.say(f"{regime}: {time.perf_counter() - start:.0f} s")


def retrieval_rows(name: str, told: dict[str, Any]) -> Iterator[Row]:
    """The test recalls of a tuned encoder beside those before, and what it took."""
    before, after = (told["retrieval"][when]["test"] for when in ("before", "after"))
    for metric, value in after.items():
        yield Row(f"{name}/{metric}", value, "recall", before[metric])
    yield Row(f"{name}/pairs", told["held_out"]["test"], "held out")
    yield Row(f"{name}/epoch", told["epoch"], "epoch")
    yield Row(f"{name}/seconds", told["seconds"], "s")
    yield Row(f"{name}/parameters", told["weights"]["parameters"], "trained")


def films(workspace: Workspace, device: str, reporter: Reporter) -> Iterator[Row]:
    """The tuned pair's recalls, and test figures of recommenders on its features and others."""
    folder = tuned_pair(workspace, device, reporter)
    yield from retrieval_rows("films/pair_ft", read_json(folder / "encoder.json"))
    for encoder in ("offline", PAIR):
        made = ExtractionConfig(encoder=encoder, dataset="films", device=device)
        extraction.run(made, workspace, reporter)
    for model in MODELS:
        found = {
            features: [_figures(model, features, seed, workspace, reporter) for seed in SEEDS]
            for features in ("offline", "pair_ft")
        }
        for features, runs in found.items():
            for metric in ("recall@20", "ndcg@20"):
                values = [run[metric] for run in runs]
                other = [run[metric] for run in found["offline"]]
                name = f"films/{model}/{features}/{metric}"
                yield Row(name, float(np.mean(values)), "mean of 3", float(np.mean(other)))
                yield Row(f"{name}/deviation", float(np.std(values, ddof=1)), "of 3")


def _figures(
    model: str, features: str, seed: int, workspace: Workspace, reporter: Reporter
) -> dict[str, float]:
    name = f"{model}-{features.replace(':', '-')}-s{seed}"
    path = workspace.new_run("films", name)
    if not (path / METRICS).is_file():
        given = {"dataset": "films", "features": features, "seed": seed, "run": name}
        training.run(run_settings(given, model, None, ()), workspace, reporter)
    test: dict[str, float] = read_json(path / METRICS)["test"]
    return test


def speed(device: torch.device, quick: bool) -> Iterator[Row]:
    """Pairs a second of contrastive gradients, and the share of the machine's matrix rate."""
    on_gpu = device.type == "cuda"
    name, batch, chunk = ("ViT-B-16", 1024, 256) if on_gpu else ("ViT-B-32", 16, 8)
    precisions = ("bf16",) if on_gpu or quick else ("fp32", "bf16")
    encoder = open_clip_encoder(name).to(device)
    for precision in precisions:
        for size in (chunk, batch):
            pairs, flops = step_rate(encoder, device, precision, batch, size, 20 if on_gpu else 2)
            peak = matrix_rate(device, DTYPES[precision])
            told = f"{name.lower()}-{precision}/chunk-{size}"
            floor = flops / peak
            yield Row(f"finetune/{told}", pairs, "pairs/s", floor=1 / floor, of_floor=pairs * floor)
            yield Row(f"finetune/{told}/flops", flops / 1e9, "GFLOP per pair, one pass")


def step_rate(
    encoder: Encoder, device: torch.device, precision: str, batch: int, chunk: int, rounds: int
) -> tuple[float, float]:
    """Pairs a second, and the operations that a pair needs once forward and once backward."""
    made = random_inputs(encoder, batch, TOKENS, device)

    def rows(at: int, count: int) -> dict[str, Any]:
        some = {name: value[at : at + count] for name, value in made["text"].items()}
        return {"image": made["image"][at : at + count], "text": some}

    chunks = [rows(at, chunk) for at in range(0, batch, chunk)]
    scale = encoder.log_scales[0]

    def encode(part: dict[str, Any]) -> dict[str, tuple[torch.Tensor, ...]]:
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
            return {name: encoder.encode_views(name, inputs) for name, inputs in part.items()}

    def step() -> None:
        encoder.zero_grad()
        contrastive_backward(
            chunks, encode, lambda v: {"itc": itc(v["image"][0], v["text"][0], scale)}, device
        )

    with FlopCounterMode(display=False) as counter:
        sum(views[0].sum() for views in encode(rows(0, 1)).values()).backward()  # type: ignore[union-attr]
    seconds = mean_seconds(step, device, rounds)
    return batch / seconds, counter.get_total_flops()


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=DEFAULT_DATA)
@click.option("--only", type=click.Choice(["fashion", "films", "speed"]), help="One part.")
@click.option("--regime", type=click.Choice(list(REGIMES)), multiple=True, help="Of fashion.")
@click.option("--workspace", "folder", type=click.Path(path_type=Path), help="Keep it all here.")
@click.option("--quick", is_flag=True, help="Speed only, in one precision.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--device", default="auto")
def main(
    data: Path,
    only: str | None,
    regime: tuple[str, ...],
    folder: Path | None,
    quick: bool,
    json_file: Path | None,
    device: str,
) -> None:
    """Measure what is there."""
    keep_freed_memory()
    reporter, only = Reporter(), "speed" if quick else only
    rows: list[Row] = []
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        if only in (None, "fashion") and _is_there(data / "hm_fashion", reporter):
            prepare_fashion(data, workspace, reporter)
            rows += fashion(workspace, device, reporter, regime or tuple(REGIMES))
        if only in (None, "films") and _is_there(data / "ml100k", reporter):
            prepare_films(data, workspace, reporter)
            rows += films(workspace, device, reporter)
    if only in (None, "speed"):
        rows += speed(resolve_device(device), quick)
    print_rows("Fine-tuning", rows)
    if json_file:
        write_rows(json_file, rows, resolve_device(device).type)


def _is_there(folder: Path, reporter: Reporter) -> bool:
    if not folder.is_dir():
        reporter.say(f"{folder.name} is left out: not under {folder.parent}")
    return folder.is_dir()


if __name__ == "__main__":
    main()

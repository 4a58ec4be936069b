"""MovieLens-100K with posters and overviews, and the encoder that is tuned to it."""

from pathlib import Path
from typing import Any

from pipelines import finetuning, prepare
from pipelines.finetune_config import FinetuneConfig
from pipelines.progress import Reporter
from pipelines.sources.table import TableConfig
from pipelines.workspace import Workspace

DATASET, PAIR = "films", "pair_ft"
# The `offline` pair with projections into one space, its towers frozen.
TUNING: dict[str, Any] = {
    "encoder": "offline",
    "projection": 256,
    "epochs": 60,
    "patience": 15,
    "weight_decay": 0.1,
}


def prepare_films(data: Path, workspace: Workspace, reporter: Reporter) -> None:
    """The films, as the README's table has them; what is there stays."""
    source = data / "ml100k"
    config = TableConfig(
        dataset=DATASET,
        interactions=source / "interactions.tsv",
        items=source / "items.tsv",
        images=(source / "posters_tmdb", source / "posters_imdb"),
        text="{title}. {overview}",
        min_rating=4,
        k_core=5,
    )
    if not workspace.new_dataset(DATASET).description.is_file():
        prepare.run("table", config, workspace, reporter)


def tuned_pair(workspace: Workspace, device: str, reporter: Reporter) -> Path:
    """The folder of the encoder `PAIR`, which is tuned if it is not there."""
    config = FinetuneConfig(out=PAIR, dataset=DATASET, device=device, **TUNING)
    return finetuning.run(config, workspace, reporter)

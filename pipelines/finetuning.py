"""``mmrec-finetune``: an encoder is adapted to a data set's catalogue."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from extract.encoders.tuned import FAMILY, merge_folder, read_recipe
from extract.finetune.processes import local_device, processes, rank
from extract.locking import locked
from pipelines.cli import common_options
from pipelines.config import options_of, resolve
from pipelines.devices import resolve_device
from pipelines.encoder_specs import ENCODER_FORMS, check_new_name, check_not_needed, encoder_spec
from pipelines.finetune_config import FinetuneConfig
from pipelines.progress import Reporter
from pipelines.tuned_folders import check_free, describe
from pipelines.tuning_job import TuningJob
from pipelines.workspace import Workspace


def run(config: FinetuneConfig, workspace: Workspace, reporter: Reporter) -> Path:
    """Tune an encoder on a data set's catalogue.

    Args:
        config: The settings.
        workspace: Where the data set lies.
        reporter: Where to tell progress.

    Returns:
        The encoder's folder.

    Raises:
        UserError: The data set, the encoder or the device cannot be had or do not go together;
            the name is taken by another encoder; the loss is not finite.
        KeyboardInterrupt: It was interrupted, and tells how to go on.
    """
    dataset = workspace.dataset(config.dataset)
    dataset.require_prepared()
    check_new_name(config.out)
    folder = dataset.encoder(config.out)
    if bool(config.merge) == bool(config.encoder):
        raise click.UsageError("Give one of --encoder and --merge.")
    if config.merge:
        with locked(folder, "merging an encoder into"):
            check_free(folder, config)
            source = Path(encoder_spec(config.merge, dataset).removeprefix(f"{FAMILY}:"))
            check_not_needed(folder, read_recipe(source)[0].base)
            merge_folder(source, folder, describe(config, dataset) | {"merged": config.merge})
        return folder
    device = local_device(resolve_device(config.device))
    with processes(device):
        speaker = Reporter(quiet=True) if rank() > 0 else reporter
        job = TuningJob(config, dataset, folder, device, speaker)
        with nullcontext() if rank() > 0 else locked(folder, "tuning an encoder into"):
            job.tune()
    return folder


HELP = f"""Adapt an encoder to a data set's pictures and texts.

\b
mmrec-finetune --encoder offline --out pair_ft
mmrec-finetune --encoder clip --out clip_ft --precision bf16 --batch-size 1024 --chunk-size 64
mmrec-finetune --encoder clip --out clip_lora --lora 8
mmrec-finetune --encoder vlmo:vlmo_base_patch16_224.pt --out vlmo_ft
mmrec-finetune --encoder offline --out pair_cat --label-column category --label-negatives hard
mmrec-finetune --encoder offline --out pair_top --projection 256 --train 'blocks.6|layer.5=1e-4'
mmrec-extract --encoder pair_ft                       (then, into features of that name)

Pictures are drawn to their texts and away from others'. Some items are held out: how well pictures
find their texts among them and texts their pictures is told before, meanwhile and after; the best
weights are kept. Only what was trained is stored. The same command goes on after an interruption.

Several GPUs: torchrun --nproc-per-node N -m pipelines.cli finetune ...

\b
Encoders:
{ENCODER_FORMS}
"""


@click.command(help=HELP)
@options_of(FinetuneConfig)
@common_options
def command(
    root: Path, quiet: bool, config_file: Path | None, sets: tuple[str, ...], **given: Any
) -> None:
    """See `HELP`."""
    config = resolve(FinetuneConfig, given, config_file, sets)
    folder = run(config, Workspace(root), Reporter(quiet))
    if rank() == 0:
        click.echo(folder)

"""``mmrec-finetune``: an encoder is adapted to a data set's catalogue."""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import torch
from pydantic import Field

from extract.encoders import create_encoder
from extract.encoders.adaptation import Adaptation, adapt, with_defaults
from extract.encoders.tuned import (
    DESCRIPTION,
    WEIGHTS,
    Recipe,
    merge_folder,
    read_recipe,
    save_tuned,
)
from extract.errors import UserError
from extract.files import digest
from extract.finetune.loop import Tuned, Tuning, finetune
from extract.finetune.material import Material, read_pairs
from extract.finetune.objective import Objective, choose_terms
from extract.finetune.optimizer import choose_trained
from extract.finetune.options import TuneOptions
from extract.finetune.pairs import families, hold_out
from extract.finetune.processes import local_device, processes, rank
from extract.finetune.state import State, trained_weights
from extract.locking import locked
from pipelines.bars import modality_bars
from pipelines.catalogue import read_catalogue
from pipelines.checkpoints import Checkpoint
from pipelines.cli import common_options
from pipelines.config import Seed, options_of, resolve
from pipelines.devices import resolve_device
from pipelines.encoder_specs import (
    ENCODER_FORMS,
    check_new_name,
    check_not_needed,
    encoder_spec,
    lasting_spec,
)
from pipelines.overwriting import Overwriting
from pipelines.progress import Reporter, print_table
from pipelines.tuning_tables import recalls_line, recalls_table
from pipelines.workspace import Dataset, Workspace, read_json, read_table

CHECKPOINT = "checkpoint.pt"
# What a setting of this kind is decides how training goes on, not what it comes to.
CIRCUMSTANCES = {"device", "workers", "checkpoint_seconds", "keep_frozen", "merge"}
# Of these only what they name matters, whose digests are compared.
NAMES = {"encoder", "dataset", "out"}


class FinetuneConfig(Adaptation, TuneOptions, Overwriting):
    """What is tuned, how, and under what circumstances."""

    encoder: str | None = Field(
        default=None,
        description="The encoder, in one of the forms above, or one that was tuned before.",
    )
    out: str = Field(description="Name of the encoder that comes out, such as clip_ft.")
    dataset: str | None = Field(
        default=None, description="The data set; may be left out where there is just one."
    )
    holdout: tuple[float, float] = Field(
        default=(0.05, 0.05),
        description="Shares of the pairs for choosing the best weights and for the figures.",
    )
    holdout_column: str | None = Field(
        default=None,
        description="Column of the items; those with the same value are held out together, such "
        "as the colours of one product.",
    )
    label_column: str | None = Field(
        default=None, description="Column of the items, such as a category, for the loss label."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    seed: Seed = Field(default=0, description="Seed of everything drawn.")
    workers: int | None = Field(
        default=None, ge=0, description="Threads or processes that decode.  [default: by the cores]"
    )
    checkpoint_seconds: float = Field(
        default=60.0, ge=0, description="Seconds between checkpoints."
    )
    merge: str | None = Field(
        default=None,
        description="Train nothing: of this encoder of the data set make one whose LoRA adapters "
        "are part of its weights.",
    )


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
    if config.merge:
        with locked(folder, "merging an encoder into"):
            _check_free(folder, config)
            source = dataset.encoder(config.merge)
            check_not_needed(folder, read_recipe(source)[0].base)
            merge_folder(source, folder, _told(config, dataset) | {"merged": config.merge})
        return folder
    if not config.encoder:
        raise click.UsageError("Missing option '--encoder'.")
    device = local_device(resolve_device(config.device))
    with processes(device):
        speaker = Reporter(quiet=True) if rank() > 0 else reporter
        job = _Job(config, dataset, folder, device, speaker)
        with nullcontext() if rank() > 0 else locked(folder, "tuning an encoder into"):
            job.tune()
    return folder


class _Job:
    """One command, from the encoder to the finished folder."""

    def __init__(
        self,
        config: FinetuneConfig,
        dataset: Dataset,
        folder: Path,
        device: torch.device,
        reporter: Reporter,
    ) -> None:
        self.config, self.dataset, self.folder = config, dataset, folder
        self.device, self.reporter = device, reporter
        self.spec = encoder_spec(config.encoder or "", dataset)
        check_not_needed(folder, self.spec)
        self.columns = self._read_columns()
        self.start = time.perf_counter()
        self.kept_at = self.start
        self.remedy = f"start anew with --overwrite, or with another --out than {config.out}"

    def tune(self) -> None:
        """Tune and save, or say that nothing is to be done."""
        config, catalogue = self.config, read_catalogue(self.dataset)
        base = create_encoder(self.spec)
        model = base.fingerprint()
        made_from = {
            "encoder": model,
            "catalogue": digest([catalogue[1], json.dumps(self.columns, default=str)]),
            "settings": digest([json.dumps(self._settings(), sort_keys=True)]),
        }
        if self._is_done(made_from):
            self.reporter.say(f"{self.folder} is finished already, nothing is to be done")
            return
        checkpoint = self._checkpoint(made_from)
        torch.manual_seed(config.seed)
        adaptation = with_defaults(
            Adaptation(**{name: getattr(config, name) for name in Adaptation.model_fields}), base
        )
        encoder, added = adapt(base, adaptation)
        choose_trained(encoder, added, config)
        choose_terms(encoder, config, config.label_column is not None)  # refuses before any work
        encoder.to(self.device)
        with modality_bars(self.reporter, ("image", "text"), len(catalogue[0]), True) as progress:
            material = read_pairs(
                encoder, catalogue[0], self.device, config.workers, config.keep_frozen, progress
            )
        tuning = self._tuning(encoder, added, material)
        self._announce(tuning)
        try:
            tuned = finetune(
                tuning,
                on_epoch=lambda record: self.reporter.say(recalls_line(record)),
                keep=self._keep(made_from),
                resume=checkpoint.state if checkpoint else None,
            )
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(self._way_on()) from error
        if rank() > 0:
            return
        recipe = Recipe(lasting_spec(config.encoder or "", base.spec), model, adaptation)
        told = _told(config, self.dataset) | {
            "made_from": made_from,
            "epoch": tuned.epoch,
            "retrieval": {"before": tuned.before, "after": tuned.after},
            "held_out": _sizes(tuning),
            "history": tuned.history,
            "seconds": round(time.perf_counter() - self.start, 1),
        }
        save_tuned(self.folder, recipe, trained_weights(encoder), told)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self._report(tuned, tuning)

    def _tuning(self, encoder: Any, added: tuple[str, ...], material: Material) -> Tuning:
        config = self.config
        values = self._column(config.holdout_column, material)
        labels = self._column(config.label_column, material)
        numbers = None
        if labels is not None:
            known = {label: number for number, label in enumerate(dict.fromkeys(labels))}
            known[None] = -1
            numbers = torch.tensor([known[label] for label in labels], device=self.device)
        groups = torch.from_numpy(material.groups).to(self.device)
        return Tuning(
            encoder=encoder,
            added=added,
            material=material,
            holdout=hold_out(families(material.groups, values), config.holdout, config.seed),
            objective=Objective(encoder, config, groups, numbers),
            options=config,
            seed=config.seed,
            device=self.device,
        )

    def _read_columns(self) -> dict[str, list[Any]]:
        """The columns of the items that the settings name."""
        names = [name for name in (self.config.holdout_column, self.config.label_column) if name]
        if not names:
            return {}
        table = read_table(self.dataset.items, ["item_id", *names])
        return {name: [_plain(value) for value in table[name].to_pylist()] for name in names}

    def _column(self, name: str | None, material: Material) -> list[Any] | None:
        """A column of the items, of the pairs."""
        return None if name is None else [self.columns[name][row] for row in material.rows]

    def _settings(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json", exclude=CIRCUMSTANCES | NAMES)

    def _is_done(self, made_from: dict[str, str]) -> bool:
        """Whether the folder holds what this command would make."""
        path = self.folder / DESCRIPTION
        if self.config.overwrite or not path.is_file():
            return False
        return bool(read_json(path).get("made_from") == made_from)

    def _checkpoint(self, made_from: dict[str, str]) -> Checkpoint | None:
        """From where to go on; None for the beginning.

        Raises:
            UserError: The folder holds another encoder, finished or not, that is not to be
                replaced.
        """
        path = self.folder / CHECKPOINT
        if self.config.overwrite:
            path.unlink(missing_ok=True)
        checkpoint = Checkpoint.load(path, self.remedy)
        if checkpoint is None:
            _check_free(self.folder, self.config)
            return None
        # Beside a finished encoder it is of a training that was to replace that one.
        checkpoint.check_made_from(made_from, path, self.remedy)
        self.start -= checkpoint.seconds
        done = checkpoint.state
        self.reporter.say(
            f"goes on after epoch {done['epoch']}, step {done['step']} of the next one"
        )
        return checkpoint

    def _way_on(self) -> str:
        """How to go on after an interruption."""
        if not (self.folder / CHECKPOINT).is_file():
            return ""
        command = "the same command" + " without --overwrite" * self.config.overwrite
        return f"{command} goes on from the checkpoint"

    def _keep(self, made_from: dict[str, str]) -> Callable[[Callable[[], State]], None]:
        """What writes a checkpoint after a step, if it is time."""

        def keep(state: Callable[[], State]) -> None:
            now = time.perf_counter()
            if rank() > 0 or now - self.kept_at < self.config.checkpoint_seconds:
                return
            checkpoint = Checkpoint(made_from, now - self.start, {}, state())
            checkpoint.save(self.folder / CHECKPOINT)
            self.kept_at = time.perf_counter()

        return keep

    def _announce(self, tuning: Tuning) -> None:
        weights = [weight for weight in tuning.encoder.parameters() if weight.requires_grad]
        trained = sum(weight.numel() for weight in weights)
        total = sum(weight.numel() for weight in tuning.encoder.parameters())
        kept = sum(each.nbytes for each in tuning.material.kept.values()) / 2**20
        sizes = ", ".join(f"{count:,} for {name}" for name, count in _sizes(tuning).items())
        self.reporter.say(
            f"{len(tuning.material):,} pairs ({sizes}); {trained:,} of {total:,} weights are "
            f"trained by {' + '.join(tuning.objective.terms)} on {self.device}; "
            f"{kept:,.0f} MB of frozen layers' vectors kept"
        )

    def _report(self, tuned: Tuned, tuning: Tuning) -> None:
        if tuned.epoch == 0:
            self.reporter.say(
                "warning: no epoch was better than none, so the encoder is as it was; try a "
                "smaller --encoder-rate or --learning-rate, or more data"
            )
        size = (self.folder / WEIGHTS).stat().st_size / 2**20
        self.reporter.say(f"epoch {tuned.epoch} was the best; {size:,.1f} MB -> {self.folder}")
        print_table(recalls_table(tuned, _sizes(tuning)))


def _check_free(folder: Path, config: FinetuneConfig) -> None:
    if (folder / DESCRIPTION).is_file() and not config.overwrite:
        raise UserError(
            f"{folder} holds an encoder that was made otherwise; give this one another name with "
            "--out, or replace that one with --overwrite"
        )


def _plain(value: Any) -> Any:
    """Something that can be looked up: a list, such as of categories, as its text."""
    return str(value) if isinstance(value, list | dict) else value


def _told(config: FinetuneConfig, dataset: Dataset) -> dict[str, Any]:
    return {
        "name": config.out,
        "dataset": dataset.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": config.model_dump(mode="json", exclude_none=True),
    }


def _sizes(tuning: Tuning) -> dict[str, int]:
    return {name: len(getattr(tuning.holdout, name)) for name in ("training", "validation", "test")}


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

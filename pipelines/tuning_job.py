"""One tuning, from the encoder to the finished folder."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from extract.encoders import create_encoder
from extract.encoders.adaptation import adapt, with_defaults
from extract.encoders.tuned import DESCRIPTION, WEIGHTS, Recipe, save_tuned
from extract.encoders.weights import trained_weights
from extract.errors import UserError
from extract.files import digest
from extract.finetune.loop import Tuned, finetune
from extract.finetune.material import Material, read_pairs
from extract.finetune.objective import Objective, choose_terms
from extract.finetune.optimizer import choose_trained
from extract.finetune.pairs import families, hold_out
from extract.finetune.processes import rank
from extract.finetune.state import State
from extract.finetune.tuning import Tuning
from pipelines.bars import modality_bars
from pipelines.catalogue import read_catalogue
from pipelines.checkpoints import Checkpoint
from pipelines.encoder_specs import check_not_needed, encoder_spec, lasting_spec
from pipelines.finetune_config import FinetuneConfig
from pipelines.progress import Reporter, print_table
from pipelines.tuned_folders import check_free, describe, knows_held_out
from pipelines.tuning_tables import recalls_line, recalls_table
from pipelines.workspace import Dataset, read_json, read_table

CHECKPOINT = "checkpoint.pt"


class TuningJob:
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
            "settings": digest([json.dumps(config.results(), sort_keys=True)]),
        }
        if self._is_done(made_from):
            self.reporter.say(f"{self.folder} is finished already, nothing is to be done")
            return
        checkpoint = self._checkpoint(made_from)
        if knows_held_out(self.spec, config, self.dataset):
            self.reporter.say(
                f"warning: {config.encoder} was tuned with other items held out, so that it may "
                "know those that are held out now; to judge fairly give the same --seed, --holdout "
                "and --holdout-column"
            )
        torch.manual_seed(config.seed)
        adaptation = with_defaults(config.adaptation, base)
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
        tuned = self._finetune(tuning, made_from, checkpoint)
        if rank() > 0:
            return
        recipe = Recipe(lasting_spec(config.encoder or "", base.spec), model, adaptation)
        told = describe(config, self.dataset) | {
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

    def _finetune(
        self, tuning: Tuning, made_from: dict[str, str], checkpoint: Checkpoint | None
    ) -> Tuned:
        state = checkpoint.state if checkpoint else None
        done = state["epoch"] * tuning.steps + state["step"] if state else 0
        total = (self.config.epochs * tuning.steps - done) * tuning.step_pairs
        try:
            with self.reporter.bar("train", total, "pairs") as advance:
                return finetune(
                    tuning,
                    on_epoch=lambda record: self.reporter.say(recalls_line(record)),
                    on_step=advance,
                    keep=self._keep(made_from),
                    resume=state,
                )
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(self._way_on()) from error
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the memory of {self.device} does not suffice ({str(error).splitlines()[0]}); "
                f"give a smaller --chunk-size than {tuning.chunk}, which changes no gradient"
            ) from error

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
            check_free(self.folder, self.config)
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
        kept = tuning.material.inputs.nbytes / 2**20
        sizes = ", ".join(f"{count:,} for {name}" for name, count in _sizes(tuning).items())
        self.reporter.say(
            f"{len(tuning.material):,} pairs ({sizes}); {trained:,} of {total:,} weights are "
            f"trained by {' + '.join(tuning.objective.terms)} on {self.device}; "
            f"{kept:,.0f} MB of pixels and frozen layers' vectors kept"
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


def _plain(value: Any) -> Any:
    """Something that can be looked up: a list, such as of categories, as its text."""
    return str(value) if isinstance(value, list | dict) else value


def _sizes(tuning: Tuning) -> dict[str, int]:
    return {name: len(getattr(tuning.holdout, name)) for name in ("training", "validation", "test")}

"""The loop: batches of pairs, steps, validations, the best weights."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.finetune.material import Chunk, Material
from extract.finetune.objective import Objective
from extract.finetune.optimizer import make_optimizer, make_schedule, set_training
from extract.finetune.options import TuneOptions
from extract.finetune.pairs import Holdout
from extract.finetune.processes import add_gradients, rank, world
from extract.finetune.retrieval import mean_recall, retrieval_recalls
from extract.finetune.state import Record, State, TuneState
from extract.finetune.step import contrastive_backward
from extract.losses import MAX_LOG_SCALE
from extract.precision import DTYPES

# Pairs at once where nothing is known of the encoder, and in validation.
CHUNK = 32


@dataclass(frozen=True)
class Tuned:
    """What `finetune` leaves behind; the encoder holds the best weights.

    Attributes:
        epoch: The epoch that the weights come from; 0 if training made it only worse.
        before: Recalls of the held-out pairs before training: ``validation``, ``test``.
        after: The same with the best weights.
        history: One record per epoch.
    """

    epoch: int
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    history: list[Record]


@dataclass
class Tuning:
    """What is trained on what.

    Attributes:
        encoder: On `device`; what is trained of it has ``requires_grad``.
        added: Names of weights that were added for this training.
        material: All pairs.
        holdout: Which of them are for what.
        objective: What is minimised.
        options: The circumstances.
        seed: Of the order of the pairs, and of what is drawn on the way.
        device: Where the encoder is.
    """

    encoder: Encoder
    added: tuple[str, ...]
    material: Material
    holdout: Holdout
    objective: Objective
    options: TuneOptions
    seed: int
    device: torch.device

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.holdout.training) // self.step_pairs

    @property
    def batch(self) -> int:
        """Pairs that are contrasted with each other, of all processes."""
        return min(self.options.batch_size, len(self.holdout.training))

    @property
    def accumulate(self) -> int:
        """Batches per step; no more than there are in an epoch."""
        return min(self.options.accumulate, len(self.holdout.training) // self.batch)

    @property
    def step_pairs(self) -> int:
        """Pairs that a step sees."""
        return self.batch * self.accumulate

    @property
    def chunk(self) -> int:
        """Pairs that go through the encoder at once."""
        whole = all(kept.is_vectors for kept in self.material.kept.values())
        usual = self.batch if whole and len(self.material.kept) == 2 else CHUNK
        return self.options.chunk_size or usual

    def autocast(self) -> Any:
        """The context of the encoder's arithmetic."""
        if self.options.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.options.precision])


def finetune(
    tuning: Tuning,
    on_epoch: Callable[[Record], None] = lambda record: None,
    on_step: Callable[[int], None] = lambda pairs: None,
    keep: Callable[[Callable[[], State]], None] = lambda state: None,
    resume: State | None = None,
) -> Tuned:
    """Train an encoder until validation stops improving, and return to the best weights.

    Args:
        tuning: What is trained; its encoder is changed in place.
        on_epoch: Told the record of each epoch; the first, of epoch 0, is before training.
        on_step: Told how many more pairs were seen.
        keep: Told after each step how to get the whole state of training, to save it at once.
        resume: What `keep` was given, to go on from there.

    Raises:
        UserError: The loss is not finite, or what is resumed does not fit.
    """
    options = tuning.options
    own = list(tuning.objective.log_scales)
    optimizer = make_optimizer(tuning.encoder, tuning.added, own, options)
    schedule = make_schedule(optimizer, options.epochs * tuning.steps, options)
    scaler = torch.amp.GradScaler(tuning.device.type, enabled=options.precision == "fp16")
    state = TuneState(tuning.encoder, own, optimizer, schedule, scaler)
    torch.manual_seed(tuning.seed + rank())
    if resume is None:
        recalls = {name: _recalls(tuning, name) for name in PARTS}
        state.validated(mean_recall(recalls["validation"]))
        state.history.append({"epoch": 0, "recalls": recalls})
        on_epoch(state.history[0])
    else:
        state.load_state_dict(resume)
    while state.epoch < options.epochs and not _has_stopped(state, options):
        record = _epoch(tuning, state, on_step, lambda: keep(state.state_dict))
        on_epoch(record)
        keep(state.state_dict)
    state.return_to_best()
    after = {name: _recalls(tuning, name) for name in PARTS}
    return Tuned(state.best_epoch, state.history[0]["recalls"], after, state.history)


PARTS = ("validation", "test")


def _has_stopped(state: TuneState, options: TuneOptions) -> bool:
    return state.epoch - state.best_epoch >= options.patience * options.evaluate_every


def _epoch(
    tuning: Tuning,
    state: TuneState,
    on_step: Callable[[int], None],
    keep: Callable[[], None],
) -> Record:
    start = time.perf_counter()
    set_training(tuning.encoder)
    first = state.step
    for chunks in _steps(tuning, state.epoch, first):
        terms = _step(tuning, state, chunks)
        for name, value in terms.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        state.step += 1
        on_step(tuning.step_pairs)
        if state.step < tuning.steps:
            keep()
    means = {name: total / state.step for name, total in state.sums.items()}
    state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
    record: Record = {"epoch": state.epoch, "loss": means}
    if state.epoch % tuning.options.evaluate_every == 0 or state.epoch == tuning.options.epochs:
        record["recalls"] = {"validation": _recalls(tuning, "validation")}
        state.validated(mean_recall(record["recalls"]["validation"]))
    record["seconds"] = round(time.perf_counter() - start, 3)
    state.history.append(record)
    return record


def _steps(tuning: Tuning, epoch: int, first: int) -> Iterator[list[list[Chunk]]]:
    """Of each step from `first` on the batches, of each batch this process's chunks."""
    accumulate, share = tuning.accumulate, tuning.batch // world()
    order = np.random.default_rng([tuning.seed, epoch]).permutation(tuning.holdout.training)
    plan = []
    for number in range(first * accumulate, tuning.steps * accumulate):
        batch = order[number * tuning.batch : (number + 1) * tuning.batch]
        own = batch[rank() * share : (rank() + 1) * share]
        plan.append([own[at : at + tuning.chunk] for at in range(0, len(own), tuning.chunk)])
    ready = tuning.material.chunks([places for batch in plan for places in batch])
    for at in range(0, len(plan), accumulate):
        yield [[next(ready) for _ in batch] for batch in plan[at : at + accumulate]]


def _step(tuning: Tuning, state: TuneState, batches: list[list[Chunk]]) -> dict[str, float]:
    """One step of the optimizer; gives the mean of each term."""
    state.optimizer.zero_grad()
    terms: dict[str, Tensor] = {}
    for number, chunks in enumerate(batches):
        for name, value in _backward(tuning, state, chunks, number).items():
            terms[name] = terms.get(name, 0) + value / len(batches)
    told = {name: value.item() for name, value in terms.items()}
    _require_finite(told, state)
    weights = [weight for group in state.optimizer.param_groups for weight in group["params"]]
    add_gradients(weights)
    state.scaler.unscale_(state.optimizer)
    if tuning.options.clip_norm:
        torch.nn.utils.clip_grad_norm_(weights, tuning.options.clip_norm)
    factor = state.scaler.get_scale()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.scaler.get_scale() >= factor:  # else gradients overflowed, and the step was left out
        state.schedule.step()
    with torch.no_grad():
        for scale in state.own:
            scale.clamp_(max=MAX_LOG_SCALE)
    return told


def _backward(
    tuning: Tuning, state: TuneState, chunks: list[Chunk], number: int
) -> dict[str, Tensor]:
    """Add the gradient of one batch."""
    objective = tuning.objective
    places = torch.from_numpy(np.concatenate([chunk.places for chunk in chunks]))

    def encode(chunk: Chunk) -> dict[str, tuple[Tensor, ...]]:
        with tuning.autocast():
            return tuning.material.views(chunk)

    def scale(loss: Tensor) -> Tensor:
        return state.scaler.scale(loss / tuning.accumulate)

    terms, views = contrastive_backward(
        chunks,
        encode,
        objective.contrast(places.to(tuning.device)),
        tuning.device,
        objective.log_scales,
        scale,
    )
    draws = [tuning.seed, state.epoch, state.step, number, rank()]
    return terms | objective.joint_backward(chunks, views, scale, tuning.autocast, draws)


def _require_finite(terms: dict[str, float], state: TuneState) -> None:
    bad = [name for name, value in terms.items() if not np.isfinite(value)]
    if bad:
        raise UserError(
            f"the loss {' and '.join(bad)} is not finite at step {state.step + 1} of epoch "
            f"{state.epoch + 1}; use a smaller --learning-rate or --encoder-rate, or --precision "
            "fp32 or bf16"
        )


@torch.no_grad()
def _recalls(tuning: Tuning, part: str) -> dict[str, float]:
    """Both directions' recalls among the held-out pairs of a part."""
    tuning.encoder.eval()
    places = getattr(tuning.holdout, part)
    pieces = [places[at : at + CHUNK] for at in range(0, len(places), CHUNK)]
    found: dict[str, list[Tensor]] = {"image": [], "text": []}
    for chunk in tuning.material.chunks(pieces):
        with tuning.autocast():
            for name, views in tuning.material.views(chunk).items():
                found[name].append(views[0].float())
    groups = torch.from_numpy(tuning.material.groups[places]).to(tuning.device)
    return retrieval_recalls(torch.cat(found["image"]), torch.cat(found["text"]), groups)

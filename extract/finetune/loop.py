"""The loop: batches of pairs, steps, validations, the best weights."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from extract.errors import UserError
from extract.finetune.material import Chunk
from extract.finetune.optimizer import make_optimizer, make_schedule, set_training
from extract.finetune.options import TuneOptions
from extract.finetune.processes import add_gradients, anywhere, rank, same_everywhere
from extract.finetune.retrieval import mean_recall
from extract.finetune.state import Record, State, TuneState
from extract.finetune.step import contrastive_backward
from extract.finetune.tuning import Tuning
from extract.losses import MAX_LOG_SCALE

PARTS = ("validation", "test")


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
        recalls = {name: tuning.recalls(name) for name in PARTS}
        state.validated(same_everywhere(mean_recall(recalls["validation"]), tuning.device))
        state.history.append({"epoch": 0, "recalls": recalls})
        on_epoch(state.history[0])
    else:
        state.load_state_dict(resume)
    while state.epoch < options.epochs and not _has_stopped(state, options):
        record = _epoch(tuning, state, on_step, lambda: keep(state.state_dict))
        on_epoch(record)
        keep(state.state_dict)
    state.return_to_best()
    after = {name: tuning.recalls(name) for name in PARTS}
    return Tuned(state.best_epoch, state.history[0]["recalls"], after, state.history)


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
    for chunks in tuning.batches(state.epoch, first):
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
        record["recalls"] = {"validation": tuning.recalls("validation")}
        value = mean_recall(record["recalls"]["validation"])
        state.validated(same_everywhere(value, tuning.device))
    record["seconds"] = round(time.perf_counter() - start, 3)
    state.history.append(record)
    return record


def _step(tuning: Tuning, state: TuneState, batches: Iterable[list[Chunk]]) -> dict[str, float]:
    """One step of the optimizer; gives the mean of each term."""
    state.optimizer.zero_grad()
    told: dict[str, float] = {}
    for number, chunks in enumerate(batches):
        for name, value in _backward(tuning, state, chunks, number).items():
            told[name] = told.get(name, 0.0) + value.item() / tuning.accumulate
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
    _require_finite(terms, state, tuning.device)  # hard negatives cannot be drawn from such views
    draws = [tuning.seed, state.epoch, state.step, number, rank()]
    joint = objective.joint_backward(chunks, views, scale, tuning.autocast, draws)
    _require_finite(joint, state, tuning.device)
    return terms | joint


def _require_finite(terms: Mapping[str, Tensor], state: TuneState, device: torch.device) -> None:
    bad = [name for name, value in terms.items() if not value.isfinite()]
    if anywhere(bool(bad), device):
        told = " and ".join(bad or terms)
        raise UserError(
            f"the loss {told} is not finite at step {state.step + 1} of epoch {state.epoch + 1}; "
            "use a smaller --learning-rate or --encoder-rate, or --precision fp32 or bf16"
        )

"""The training loop, written once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from extract.errors import UserError, unknown_name
from recommend.metrics import NAMES, Metrics
from recommend.models.base import Embeddings, Recommender
from recommend.sampling import Sampler
from recommend.search_space import Range, SearchSpace
from recommend.sources import FeatureSource
from recommend.state import Record, State, TrainState


class TrainOptions(BaseModel):
    """Circumstances of training, the same for every model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # The ends of the MMRec toolbox's grids for most models, and of Elliot's.
    search_space: ClassVar[SearchSpace] = {"learning_rate": Range(1e-4, 1e-2, log=True)}

    learning_rate: float = Field(1e-3, gt=0, description="Adam's step size.")
    weight_decay: float = Field(0.0, ge=0, description="Adam's weight decay, beside a model's L2.")
    batch_size: int = Field(2048, ge=1, description="Training pairs per step.")
    max_epochs: int = Field(1000, ge=1, description="Epochs at most.")
    evaluate_every: int = Field(1, ge=1, description="Epochs between validations.")
    patience: int = Field(20, ge=1, description="Validations without improvement before the end.")
    selection: str = Field("recall@20", description="Validation metric that selects the weights.")
    lr_decay: float = Field(1.0, gt=0, le=1, description="Rate factor per 50 epochs, smoothly.")

    @field_validator("selection")
    @classmethod
    def _check_metric(cls, name: str) -> str:
        if name not in NAMES:
            raise ValueError(str(unknown_name("metric", name, NAMES)))
        return name


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves behind; the model holds the best weights.

    Attributes:
        embeddings: Vectors of the best weights, encoded afresh.
        epoch: The epoch that the weights come from; 0 if nothing is trained.
        validation: Metrics on the validation interactions.
        history: One record per epoch.
    """

    embeddings: Embeddings
    epoch: int
    validation: Metrics
    history: list[Record]


def fit(
    model: Recommender,
    features: FeatureSource,
    sampler: Sampler | None,
    validate: Callable[[Embeddings], Metrics],
    options: TrainOptions,
    on_epoch: Callable[[Record], None] = lambda record: None,
    keep: Callable[[Callable[[], State]], None] = lambda state: None,
    resume: State | None = None,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Fitted:
    """Train until validation stops improving, and return to the best weights.

    A model without parameters is only validated.

    Args:
        model: The model, on the device to train on; changed in place.
        features: Where its feature tables come from, on the same device; what it learns is changed.
        sampler: Where its batches come from; None for a model without parameters.
        validate: Metrics of embeddings on the validation interactions.
        options: The circumstances.
        on_epoch: Told the record of each epoch.
        keep: Told after each epoch how to get the whole state of training, to save it at once.
        resume: Such a state, to go on from; the other arguments must be what they were then.
        on_step: Told how many steps of an epoch are done, and of how many.

    Raises:
        UserError: A term of the loss, or a score, is not finite; or `resume` is of something else.
    """
    if sampler is None:
        embeddings = encode(model, features)
        return Fitted(embeddings, 0, validate(embeddings), [])
    state = _initial_state(model, features, sampler, options)
    if resume is not None:
        state.load_state_dict(resume)
    while not _is_over(state, options, features.first_epoch):
        state.epoch += 1
        start = time.perf_counter()
        losses = _train_epoch(model, features, sampler, state, on_step)
        seconds = time.perf_counter() - start
        record: Record = {"epoch": state.epoch, "loss": losses, "seconds": seconds}
        record |= {"steps_per_second": len(sampler) / seconds}
        if state.epoch % options.evaluate_every == 0 or state.epoch == options.max_epochs:
            start = time.perf_counter()
            means = validate(encode(model, features)).means()
            record |= {"validation": means, "validation_seconds": time.perf_counter() - start}
            state.validated(means[options.selection])
        record |= features.account()
        state.history.append(record)
        on_epoch(record)
        keep(state.state_dict)
    state.return_to_best()
    embeddings = encode(model, features)
    return Fitted(embeddings, state.best_epoch, validate(embeddings), state.history)


def encode(model: Recommender, features: FeatureSource) -> Embeddings:
    """Final vectors in evaluation mode, without gradients."""
    model.eval()
    features.eval()
    with torch.no_grad():
        features.refresh()
        return model.encode(features.constant()).detached()


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes; none for a model that only counts or looks up."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _initial_state(
    model: Recommender, features: FeatureSource, sampler: Sampler, options: TrainOptions
) -> TrainState:
    own = features.groups()
    optimizer = torch.optim.Adam(
        [{"params": trainable(model)}, *own],
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )
    steps = len(sampler)

    def of_model(step: int) -> float:
        return options.lr_decay ** (step // steps / 50)

    def of_features(step: int) -> float:
        return of_model(step) * features.warmth(step)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [of_model, *[of_features] * len(own)])
    learned = nn.ModuleDict({"model": model, "features": features})
    return TrainState(learned, optimizer, schedule, sampler.generator)


def _is_over(state: TrainState, options: TrainOptions, first_epoch: int) -> bool:
    since_best = state.epoch - max(state.best_epoch, first_epoch)
    return (
        state.epoch >= options.max_epochs or since_best >= options.patience * options.evaluate_every
    )


def _train_epoch(
    model: Recommender,
    features: FeatureSource,
    sampler: Sampler,
    state: TrainState,
    on_step: Callable[[int, int], None],
) -> dict[str, float]:
    """One pass over the training pairs; the mean of each term of the loss."""
    state.learned.train()
    features.begin_epoch()
    with torch.no_grad():
        model.begin_epoch(features.constant(), sampler.generator)
    totals: dict[str, Tensor] = {}
    device = next(model.parameters()).device
    for step, batch in enumerate(sampler.epoch(device)):
        terms = model.loss(batch, features(batch.items))
        terms |= features.loss()
        loss = torch.stack(list(terms.values())).sum()
        _check_finite(loss, terms, state.epoch, step + 1)
        state.optimizer.zero_grad()
        loss.backward()
        features.backward()
        state.optimizer.step()
        state.schedule.step()
        for name, term in terms.items():
            totals[name] = totals.get(name, term.new_zeros(())) + term.detach()
        on_step(step + 1, len(sampler))
    return {name: total.item() / len(sampler) for name, total in totals.items()}


def _check_finite(loss: Tensor, terms: Mapping[str, Tensor], epoch: int, step: int) -> None:
    if torch.isfinite(loss):
        return
    values = ", ".join(f"{name} = {term.item()}" for name, term in terms.items())
    raise UserError(
        f"the loss is not finite in epoch {epoch}, step {step} ({values}); try a smaller "
        "train.learning_rate, or --encoder-rate if an encoder is trained, and look at the features "
        "with mmrec-check"
    )

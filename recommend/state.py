"""Everything that training changes, so that a run can go on as if it had never stopped."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from extract.errors import UserError

# Of an epoch: its number, mean loss terms, seconds, and the validation metrics if it had any.
Record = dict[str, Any]
# Numbers, texts, tensors, and lists and dictionaries of them, which torch saves and loads safely.
State = dict[str, Any]


@dataclass
class TrainState:
    """Training between two epochs.

    Models keep nothing from one epoch for the next but their weights, and draw only from the two
    generators, so this is all there is.

    Attributes:
        learned: The model and its feature source.
        optimizer: Over their parameters.
        schedule: Of the optimizer's rate.
        generator: What batches and graphs are drawn from; dropout draws from torch's own.
        epoch: Epochs that are done.
        history: A record of each.
        best_epoch: The epoch of the best validation so far; 0 before the first.
        best_value: Its value of the selection metric.
        best_weights: Its weights.
    """

    learned: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: np.random.Generator
    epoch: int = 0
    history: list[Record] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def validated(self, value: float) -> None:
        """Remember the weights if their value of the selection metric is the best so far."""
        if value > self.best_value:
            self.best_epoch, self.best_value = self.epoch, value
            self.best_weights = {k: v.clone() for k, v in self.learned.state_dict().items()}

    def return_to_best(self) -> None:
        """Put the best weights back."""
        self.learned.load_state_dict(self.best_weights)

    def state_dict(self) -> State:
        """All of it, not copied: to be saved before training goes on."""
        return {
            "epoch": self.epoch,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_weights": self.best_weights,
            "weights": dict(self.learned.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self._device) if self._on_cuda else None,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state.

        Args:
            state: What `state_dict` gave; emptied, as every weight would be held twice otherwise.

        Raises:
            UserError: It is of another model, or of another version.
        """
        try:
            self.learned.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.generator.bit_generator.state = state["generator"]
            torch.set_rng_state(state["torch"])
            if self._on_cuda and state["cuda"] is not None:
                torch.cuda.set_rng_state(state["cuda"], self._device)
            self.epoch, self.history = int(state["epoch"]), list(state["history"])
            self.best_epoch, self.best_value = int(state["best_epoch"]), float(state["best_value"])
            best = state["best_weights"]
            self.best_weights = {name: tensor.to(self._device) for name, tensor in best.items()}
            state.clear()
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"the state that was saved does not fit this model ({error!r:.200}); it is of "
                "other settings or another version: start the run anew"
            ) from error

    @property
    def _device(self) -> torch.device:
        return next(self.learned.parameters()).device

    @property
    def _on_cuda(self) -> bool:
        return self._device.type == "cuda"

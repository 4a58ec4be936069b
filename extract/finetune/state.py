"""Everything that fine-tuning changes, so that it can go on as if it had never stopped.

With several processes that holds of all but the dropout of those beside the first.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from extract.encoders.base import Encoder
from extract.encoders.weights import put_weights, trained_weights
from extract.errors import UserError
from extract.finetune.processes import rank

# Of an epoch: its number, mean loss terms, seconds, and the recalls if it was validated.
Record = dict[str, Any]
# Numbers, texts, tensors, and lists and dictionaries of them, which torch saves and loads safely.
State = dict[str, Any]


@dataclass
class TuneState:
    """Fine-tuning between two steps.

    The order of the pairs is drawn afresh for each epoch from its number, so that it need not be
    remembered.

    Attributes:
        encoder: Of it only the trained weights.
        own: The loss's own parameters.
        optimizer: Over both.
        schedule: Of the optimizer's rates.
        scaler: Of half-precision gradients; does nothing in other precisions.
        epoch: Epochs that are done.
        step: Steps of the next one that are done.
        sums: Loss terms added up over those steps.
        history: A record of each epoch.
        best_epoch: The epoch of the best validation so far.
        best_value: Its value.
        best_weights: Its trained weights.
    """

    encoder: Encoder
    own: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def validated(self, value: float) -> None:
        """Remember the weights if they are the best so far."""
        if value > self.best_value:
            self.best_epoch, self.best_value = self.epoch, value
            self.best_weights = {k: v.clone() for k, v in trained_weights(self.encoder).items()}

    def return_to_best(self) -> None:
        """Put the best weights back."""
        put_weights(self.encoder, self.best_weights)

    def state_dict(self) -> State:
        """All of it, not copied: to be saved before training goes on."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_weights": self.best_weights,
            "weights": trained_weights(self.encoder),
            "own": [parameter.detach() for parameter in self.own],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self._device) if self._on_cuda else None,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state.

        Raises:
            UserError: It is of another encoder, or of another version.
        """
        try:
            put_weights(self.encoder, state["weights"])
            with torch.no_grad():
                for parameter, value in zip(self.own, state["own"], strict=True):
                    parameter.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.scaler.load_state_dict(state["scaler"])
            self._resume_random(state)
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            self.sums, self.history = dict(state["sums"]), list(state["history"])
            self.best_epoch, self.best_value = int(state["best_epoch"]), float(state["best_value"])
            best = state["best_weights"]
            self.best_weights = {name: value.to(self._device) for name, value in best.items()}
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"the state that was saved does not fit this encoder ({error!r:.200}); it is of "
                "other settings or another version: start anew with --overwrite"
            ) from error

    def _resume_random(self, state: State) -> None:
        if rank() > 0:
            # The saved state is the first process's; others must not drop what that one drops.
            torch.manual_seed(hash((rank(), int(state["epoch"]), int(state["step"]))))
            return
        torch.set_rng_state(state["torch"])
        if self._on_cuda and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    @property
    def _on_cuda(self) -> bool:
        return self._device.type == "cuda"

"""What a tower's frozen steps gave, kept in memory pair by pair.

The leading steps of a tower whose weights are not trained give the same at every epoch. They are
done once; with all of a tower frozen nothing but its vectors is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from extract.encoders.base import Encoder, Stage

# A tensor of n rows, or a mapping of such tensors: see `Stage`.
State = Any


@dataclass
class Kept:
    """The states of a tower between its frozen steps and its trained ones.

    Attributes:
        states: One for each pair, on the CPU, without the dimension of the batch, without padding.
    """

    states: list[State] = field(default_factory=list)

    def add(self, batch: State) -> None:
        """Take in the states of more pairs."""
        rows = len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)
        self.states += [_row(batch, row) for row in range(rows)]

    def take(self, places: Sequence[int]) -> State:
        """A batch of pairs, padded to its longest."""
        return _stack([self.states[place] for place in places])

    def reordered(self, places: Sequence[int]) -> "Kept":
        """The same states, those of the given places."""
        return Kept([self.states[place] for place in places])

    @property
    def is_vectors(self) -> bool:
        """Whether a state is no more than a vector."""
        return all(not isinstance(state, Mapping) and state.dim() == 1 for state in self.states)

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return sum(
            tensor.nbytes
            for state in self.states
            for tensor in (state.values() if isinstance(state, Mapping) else (state,))
        )


def frozen_steps(encoder: Encoder, modality: str) -> tuple[list[Stage], list[Stage]]:
    """A tower's leading steps of which no weight is trained, and the others."""
    stages = list(encoder.stages(modality))
    trained = [any(weight.requires_grad for weight in stage.parameters) for stage in stages]
    first = trained.index(True) if any(trained) else len(stages)
    return stages[:first], stages[first:]


def run_steps(stages: Sequence[Stage], state: State) -> State:
    """One step after the other."""
    for stage in stages:
        state = stage.run(state)
    return state


def _row(state: State, row: int) -> State:
    if not isinstance(state, Mapping):
        return state[row].detach().cpu().clone()
    if "mask" not in state:
        return {name: value[row].detach().cpu().clone() for name, value in state.items()}
    filled = state["mask"][row] != 0
    length = int(filled.nonzero().max()) + 1 if filled.any() else 1
    return {
        name: (value[row, :length] if value.dim() > 1 else value[row]).detach().cpu().clone()
        for name, value in state.items()
    }


def _stack(states: Sequence[State]) -> State:
    if not isinstance(states[0], Mapping):
        return torch.stack(list(states))
    longest = max(len(state["mask"]) if "mask" in state else 0 for state in states)
    return {
        name: torch.stack([_filled(state[name], longest) for state in states]) for name in states[0]
    }


def _filled(tensor: Tensor, longest: int) -> Tensor:
    """Zeros after the end of a text's (length, ...), up to the longest."""
    if not longest or not tensor.dim() or len(tensor) == longest:
        return tensor
    return pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, longest - len(tensor)))

"""What a tower's frozen steps gave, kept in memory item by item.

The leading steps of a tower whose weights are not trained give the same at every epoch. They are
done once; with all of a tower frozen nothing but its vectors is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import pad

from extract.encoders.base import Encoder, Stage, to_device

# Of the free memory, that states may take: the rest is for training.
MEMORY_SHARE = 0.6
# A tensor of n rows, or a mapping of such tensors: see `Stage`.
State = Any


@dataclass
class Kept:
    """The states of a tower between its frozen steps and its trained ones.

    Attributes:
        states: One for each item, on the CPU, without the dimension of the batch, without padding.
        nbytes: What they take in memory.
    """

    states: list[State] = field(default_factory=list)
    nbytes: int = 0

    def add(self, batch: State) -> None:
        """Take in the states of more items."""
        count = len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)
        new = [_row(batch, row) for row in range(count)]
        self.nbytes += sum(_size(state) for state in new)
        self.states += new

    def fits(self, items: int) -> bool:
        """Whether the states of so many items, if they are all like these, fit the free memory."""
        missing = (items - len(self.states)) * self.nbytes / max(len(self.states), 1)
        return missing <= MEMORY_SHARE * psutil.virtual_memory().available

    def take(self, places: Sequence[int]) -> State:
        """A batch of items, padded to its longest."""
        return _stack([self.states[place] for place in places])

    def reordered(self, places: Sequence[int]) -> "Kept":
        """The same states, those of the given places."""
        states = [self.states[place] for place in places]
        return Kept(states, sum(map(_size, states)))

    @property
    def is_vectors(self) -> bool:
        """Whether a state is no more than a vector; all of a tower are alike."""
        first = self.states[0]
        return not isinstance(first, Mapping) and first.dim() == 1


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


@torch.no_grad()
def run_frozen(
    stages: Sequence[Stage],
    inputs: Any,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> State:
    """What frozen steps, whose weights are of a type, give of collated inputs, without a graph."""
    return run_steps(stages, to_device(inputs, device, dtype))


def _size(state: State) -> int:
    tensors = state.values() if isinstance(state, Mapping) else (state,)
    return sum(tensor.nbytes for tensor in tensors)


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

"""A contrastive gradient whose activations do not grow with the batch (gradient caching).

A contrastive loss couples all pairs of a batch, so that its plain graph holds all of their
activations. It sees them through their vectors only: all are encoded chunk by chunk without a
graph; the loss gives the gradient at the vectors; each chunk is encoded once more, with the same
random numbers, and that gradient pushed through (Gao et al. 2021, "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup"). The sum over chunks is the gradient of the plain
graph. A batch of one chunk needs no second pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from extract.finetune.processes import gather, rank

Views = Mapping[str, tuple[Tensor, ...]]
Terms = Mapping[str, Tensor]
# From each modality's views of all pairs to the named terms of the loss.
Contrast = Callable[[Views], Terms]


class RandomState:
    """The state of the random numbers of a device, to have them once more."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cpu = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def again(self) -> Iterator[None]:
        """The same random numbers inside; outside nothing has changed."""
        devices = [self.device] if self._gpu is not None else []
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self._cpu)
            if self._gpu is not None:
                torch.cuda.set_rng_state(self._gpu, self.device)
            yield


def contrastive_backward(
    chunks: Sequence[Any],
    encode: Callable[[Any], Views],
    contrast: Contrast,
    device: torch.device,
    own: Sequence[nn.Parameter] = (),
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> tuple[dict[str, Tensor], Views]:
    """Add the gradient of a contrastive loss to that of the weights.

    With several processes the loss is over the pairs of all of them; the gradients of all processes
    then still have to be added up.

    Args:
        chunks: What `encode` takes; their pairs together are this process's share of the batch.
        encode: From a chunk to its views, differentiable.
        contrast: The loss.
        device: Where it is computed.
        own: Parameters of the loss itself. Every process has their whole gradient, so that it is
            kept by the first one only.
        scale: Applied to the loss before its gradient is taken.

    Returns:
        The terms, and the views of this process's pairs, both without a graph.
    """
    states: list[RandomState] = []
    with torch.set_grad_enabled(len(chunks) == 1):
        parts = []
        for chunk in chunks:
            states.append(RandomState(device))
            parts.append(encode(chunk))
    found = {name: _joined(parts, name) for name in parts[0]}
    leaves = {name: _leaves(views) for name, views in found.items()}
    terms = contrast(leaves)
    scale(torch.stack([*terms.values()]).sum()).backward()
    if rank() > 0:
        for parameter in own:
            parameter.grad = None
    rows = len(found["image"][0])
    gradients = {name: _own_rows(views, rows) for name, views in leaves.items()}
    if len(chunks) == 1:
        _push(parts[0], gradients, 0)
    else:
        start = 0
        for chunk, state in zip(chunks, states, strict=True):
            with state.again():
                start += _push(encode(chunk), gradients, start)
    return {name: term.detach() for name, term in terms.items()}, found


def _joined(parts: Sequence[Views], name: str) -> tuple[Tensor, ...]:
    """One modality's views of all chunks, in no less than float32."""
    views = zip(*(part[name] for part in parts), strict=True)
    whole = (torch.cat([view.detach() for view in chunks]) for chunks in views)
    return tuple(map(at_least_float32, whole))


def at_least_float32(view: Tensor) -> Tensor:
    """Vectors as a loss takes them, whatever arithmetic they come of."""
    return view.float() if view.dtype in (torch.bfloat16, torch.float16) else view


def _leaves(views: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The views of all processes, where the loss's graph begins."""
    return tuple(gather(view).clone().requires_grad_() for view in views)


def _own_rows(views: Sequence[Tensor], rows: int) -> list[Tensor | None]:
    """The gradient at this process's rows; None where the loss does not look at a view."""
    first = rank() * rows
    return [None if view.grad is None else view.grad[first : first + rows] for view in views]


def _push(views: Views, gradients: Mapping[str, Sequence[Tensor | None]], start: int) -> int:
    """Push the gradient at some rows through their graph; gives how many rows they are."""
    outputs, at_outputs = [], []
    for name, own in views.items():
        for view, gradient in zip(own, gradients[name], strict=True):
            if gradient is not None and view.requires_grad:
                outputs.append(view)
                at_outputs.append(gradient[start : start + len(view)].to(view.dtype))
    if outputs:
        torch.autograd.backward(outputs, at_outputs)
    return len(views["image"][0])

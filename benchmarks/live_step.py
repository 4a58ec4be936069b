"""One training step with an encoder in the loop, over a made-up catalogue that is its batch.

The recommender is VBPR, which looks at the batch's items only and costs next to nothing. Pictures,
texts and weights are random, which decides neither speed nor memory.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.material import TOKENS, random_inputs
from extract.catalog import Catalog
from extract.encoders.base import Encoder
from extract.finetune.inputs import MODALITIES, Inputs
from extract.finetune.kept import Kept, frozen_steps, run_frozen
from extract.finetune.step import at_least_float32
from extract.finetune.two_pass import TwoPass
from extract.precision import DTYPES
from pipelines.end_to_end import EncodedFeatures
from pipelines.end_to_end_config import EndToEndOptions
from recommend.features import FeatureStore
from recommend.interactions import Interactions
from recommend.models import TrainingData
from recommend.models.vbpr import VBPR, VBPRConfig
from recommend.sampling import Batch

READ = 16  # items at once, while the catalogue is made


def made_up_inputs(
    encoder: Encoder,
    items: int,
    device: torch.device,
    modalities: Sequence[str] = MODALITIES,
    tokens: int = TOKENS,
) -> Inputs:
    """A catalogue of noise, of which is kept what the encoder's frozen steps give of it.

    Args:
        encoder: On the device; what is trained of it has ``requires_grad``.
        items: How many.
        device: Where it is.
        modalities: What every item has.
        tokens: Length of its text.
    """
    torch.manual_seed(0)
    steps = {name: frozen_steps(encoder, name) for name in modalities}
    kept = {name: Kept() for name in modalities}
    for at in range(0, items, READ):
        made = random_inputs(encoder, min(READ, items - at), tokens, device)
        for name in modalities:
            kept[name].add(run_frozen(steps[name][0], made[name], device))
    nothing = [None] * items
    return Inputs(
        encoder=encoder,
        catalog=Catalog.from_columns([str(row) for row in range(items)], nothing, nothing, Path()),
        device=device,
        workers=0,
        rows=dict.fromkeys(modalities, np.arange(items)),
        tokens=nothing,
        pictures=nothing,
        kept=kept,
        again={},
        trained={name: after for name, (_, after) in steps.items()},
    )


class LiveStep:
    """A step of training in which all items are encoded.

    Args:
        inputs: The items.
        chunk: How many go through the encoder at once; 0 for all.
        precision: Of the encoder's arithmetic.
    """

    def __init__(self, inputs: Inputs, chunk: int, precision: str = "fp32") -> None:
        torch.manual_seed(0)
        items, device = len(inputs.catalog), inputs.device
        dims = {name: inputs.encoder.dims[name] for name in inputs.rows}
        generator = np.random.default_rng(0)
        store = FeatureStore.from_arrays(
            {
                name: generator.standard_normal((items, dim), np.float32)
                for name, dim in dims.items()
            }
        )
        options = EndToEndOptions.model_validate({"chunk_size": chunk, "precision": precision})
        passes = TwoPass(inputs, tuple(dims), chunk or None, arithmetic(device, precision))
        self.features = EncodedFeatures(passes, store, np.arange(items), options)
        # As within an epoch, but without the encoding of the catalogue at its beginning.
        self.features.epochs += 1
        self.features.train()
        rows = np.arange(items)
        train = Interactions(rows, rows, items, items)
        self.model = VBPR(VBPRConfig(), TrainingData(train, store)).to(device)
        users = torch.arange(items, device=device)
        # Each item once as a positive one, once as a negative one.
        self.batch = Batch(users, users, users.roll(1))
        groups: list[Any] = [{"params": list(self.model.parameters())}, *self.features.groups()]
        self.optimizer = torch.optim.Adam(groups, fused=True)

    def gradients(self) -> None:
        """The gradient of the loss at all weights."""
        loss = sum(self.model.loss(self.batch, self.features(self.batch.items)).values())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        self.features.backward()

    def __call__(self) -> None:
        """The whole step, as `recommend.train.fit` does it."""
        self.gradients()
        self.optimizer.step()


def plain_step(inputs: Inputs, chunk: int, precision: str = "fp32") -> Callable[[], None]:
    """A step of the encoder alone on batches that lie ready on its device: the reference.

    Args:
        inputs: The items.
        chunk: How many go through the encoder at once; 0 for all.
        precision: Of its arithmetic.
    """
    weights = [weight for weight in inputs.encoder.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=EndToEndOptions().encoder_rate, fused=True)
    autocast = arithmetic(inputs.device, precision)
    ready = [
        (name, inputs.moved(name, batch))
        for name, rows in inputs.rows.items()
        for batch in inputs.batches(name, _pieces(rows, chunk))
    ]

    def step() -> None:
        optimizer.zero_grad()
        for name, batch in ready:
            with autocast():
                vectors = inputs.vectors(name, batch)
            at_least_float32(vectors).sum().backward()
        optimizer.step()

    return step


def operations(inputs: Inputs) -> int:
    """Floating-point operations that an item needs, once forward and once backward."""
    with FlopCounterMode(display=False) as counter:
        for name, rows in inputs.rows.items():
            [batch] = inputs.batches(name, [rows[:1]])
            inputs.vectors(name, batch).sum().backward()
    inputs.encoder.zero_grad()
    count: int = counter.get_total_flops()
    return count


def arithmetic(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context of an encoder's arithmetic, as a run's settings have it."""
    return partial(torch.autocast, device.type, DTYPES[precision], enabled=precision != "fp32")


def gradients_by_name(encoder: Encoder) -> dict[str, Tensor]:
    """What a step left at the weights, on the CPU."""
    weights = encoder.named_parameters()
    return {name: weight.grad.cpu() for name, weight in weights if weight.grad is not None}


def _pieces(rows: np.ndarray, chunk: int) -> list[np.ndarray]:
    size = chunk or len(rows)
    return [rows[at : at + size] for at in range(0, len(rows), size)]

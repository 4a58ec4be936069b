"""Features through which the loss of a recommender reaches an encoder.

A batch's distinct items are encoded afresh and stand as leaves in tables whose other rows are as
they were encoded last; the leaves' gradient is then carried through the encoder chunk by chunk
(`extract.finetune.two_pass`). It equals that of one plain graph. Rows that no batch has touched are
at most an epoch old, or `max_age` steps, unless the settings say otherwise; models that look at a
batch's items only never see them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from extract.encoders.projected import FIRST_LOG_SCALE
from extract.errors import UserError
from extract.finetune.optimizer import parameter_groups, set_training
from extract.finetune.processes import add_gradients, rank
from extract.finetune.two_pass import TwoPass
from extract.losses import MAX_LOG_SCALE, itc
from pipelines.end_to_end_config import EndToEndOptions
from pipelines.live_features import LiveFeatures
from recommend.features import FeatureStore, Tables
from recommend.sources import check_reached

# The encoder is taken for lost once a tensor of its weights is so many times as large as at the
# start; those that start near zero are measured by numbers of this size.
LARGEST_GROWTH, SMALL = 100.0, 0.1


class EncodedFeatures(LiveFeatures):
    """Tables whose rows of a batch's items lead the loss's gradient to the encoder.

    Its parameters are the encoder's trained weights, and the scale of the ITC term where the
    encoder has none of its own.

    Args:
        passes: Encodes rows of the catalogue; what is trained of its encoder has ``requires_grad``.
        store: The features at the start.
        rows: The catalogue's row of each item, (I,).
        options: The circumstances.
        steps_per_epoch: Of training.
        added: Names of the encoder's weights that were added for this training.
        groups: Of each item, (I,), whole numbers: the ITC term takes items of one group, which
            share a picture or a text, for no negatives of each other.
        is_fresh: Whether the features at the start are those that the encoder gives.
    """

    steps: Tensor
    encoded_at: Tensor
    is_fresh: Tensor

    def __init__(
        self,
        passes: TwoPass,
        store: FeatureStore,
        rows: np.ndarray,
        options: EndToEndOptions,
        steps_per_epoch: int = 1,
        added: Sequence[str] = (),
        groups: np.ndarray | None = None,
        is_fresh: bool = False,
    ) -> None:
        super().__init__(passes, store, rows, options, steps_per_epoch)
        trained = {name: w for name, w in self.encoder.named_parameters() if w.requires_grad}
        # One by one and not as a module, as frozen weights have no place in checkpoints.
        self.weights = nn.ParameterDict(
            {f"encoder.{name}".replace(".", "/"): weight for name, weight in trained.items()}
        )
        self._groups = parameter_groups(self.encoder, added, options)
        self._duplicates = None if groups is None else torch.from_numpy(groups).to(self.device)
        if options.itc_weight and not self.encoder.log_scales:
            self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE, device=self.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # The step at whose beginning each item's row was encoded.
        self.register_buffer("encoded_at", torch.zeros(len(rows), dtype=torch.int64))
        # Whether all rows are those that the encoder gives as it is.
        self.register_buffer("is_fresh", torch.tensor(is_fresh))
        self._items = np.argsort(rows)  # of each row of the catalogue
        floors = torch.tensor([SMALL * weight.numel() ** 0.5 for weight in trained.values()])
        self._first_norms = self._norms().maximum(floors.to(self.device))
        self._leaves: dict[str, Tensor] = {}
        self._tables: Tables = {}
        self._batch = np.zeros(0, np.int64)
        self._reached: set[str] = set()

    def groups(self) -> list[dict[str, Any]]:
        """The encoder's trained weights by their rates, and the ITC term's own scale."""
        own = list(self.parameters(recurse=False))
        rate = self.options.learning_rate
        scale = [{"params": own, "lr": rate, "weight_decay": 0.0}] if own else []
        return [*map(dict, self._groups), *scale]  # the optimizer writes into them

    def warmth(self, step: int) -> float:
        """Rising over the warm-up, which begins when the encoder takes part."""
        done = max(step - self.first_step + 1, 1)
        return min(1.0, done / max(self.options.warmup_steps, 1))

    def train(self, mode: bool = True) -> "EncodedFeatures":
        """Training mode of what is trained of the encoder, if it is to drop out."""
        super().train(mode)
        if mode and self.options.dropout:
            set_training(self.encoder)
        else:
            self.encoder.eval()
        return self

    def begin_epoch(self) -> None:
        """Encode the whole catalogue, if it is time."""
        super().begin_epoch()
        if self.is_due:
            self.refresh()

    def refresh(self) -> None:
        """Encode the whole catalogue, unless its rows are those of the encoder as it is."""
        if not (self.is_warming or self.is_fresh):
            self._encode_again(None)
            self.is_fresh.fill_(True)

    def forward(self, items: Tensor | None = None) -> Tables:
        """The tables; the rows `items` are encoded afresh, and lead back to the encoder.

        Raises:
            UserError: The encoder diverges.
        """
        if items is None or self.is_warming:
            return self._probed() if items is not None and not self._reached else self.tables()
        self._batch = items.cpu().numpy()
        self._encode_old()
        self._check_growth()
        with self.work.timed():
            leaves = self.passes.leaves(self.rows[self._batch])
        tables = self.tables()
        for name, (rows, leaf) in leaves.items():
            self.check_finite(name, leaf)
            places = torch.from_numpy(self._items[rows]).to(self.device)
            tables[name] = tables[name].to(leaf.dtype).index_copy(0, places, leaf)
            self.work.encoded += len(rows)
        self._leaves = {name: leaf for name, (_, leaf) in leaves.items()}
        self._tables = tables
        self._note_ages()
        self.keep(tables)
        return tables

    def loss(self) -> dict[str, Tensor]:
        """``itc``, between the pictures and texts of the batch's items that have both."""
        if self._scale is None or not self._leaves:
            return {}
        both = np.intersect1d(self.having["image"], self.having["text"])
        places = torch.from_numpy(np.intersect1d(both, self._batch)).to(self.device)
        if not len(places):
            return {}
        images, texts = (self._tables[name][places] for name in ("image", "text"))
        groups = None if self._duplicates is None else self._duplicates[places]
        return {"itc": self.options.itc_weight * itc(images, texts, self._scale, groups)}

    def backward(self) -> None:
        """Carry the gradient through the encoder, and bound it.

        Raises:
            UserError: The loss does not depend on a modality, or the gradient is not finite.
        """
        for name, leaf in self._leaves.items():
            check_reached(name, leaf, self._reached)
        if self.is_warming or not self._leaves:
            self._leaves = {}
            return
        with self.work.timed():
            self.passes.push()
            if rank() > 0 and self._scale is not None:
                self._scale.grad = None  # every process has its whole gradient
            weights = list(self.parameters())
            add_gradients(weights)
            norm = nn.utils.clip_grad_norm_(weights, self.options.clip_norm or torch.inf)
        if not torch.isfinite(norm):
            raise self._diverged("its gradient is not finite")
        self._leaves, self._tables = {}, {}
        self.steps += 1
        self.is_fresh.fill_(False)

    def when(self) -> str:
        """How far it has come, for an error."""
        return f" after step {int(self.steps)} of its training, in epoch {int(self.epochs)}"

    def account(self) -> dict[str, Any]:
        """What the epoch took, whose last step has left the encoder in order.

        Raises:
            UserError: The encoder diverges.
        """
        self._check_growth()
        return super().account()

    @property
    def _scale(self) -> Tensor | None:
        """What the ITC term's cosines are multiplied by: of the encoder, or else of this module."""
        if not self.options.itc_weight:
            return None
        return self.encoder.log_scales[0] if self.encoder.log_scales else self.log_scale

    def _probed(self) -> Tables:
        """The tables of a warm start as leaves, to learn whether the loss depends on them."""
        tables = self.tables()
        if self.options.itc_weight:  # which begins with the encoder, and depends on them
            return tables
        trained = [name for name in self.dims if self.passes.is_trained(name)]
        self._leaves = {name: tables[name].clone().requires_grad_() for name in trained}
        return tables | self._leaves

    def _encode_old(self) -> None:
        """Encode the rows that no batch has held for too long, but for those of this one."""
        if self.options.max_age is None:
            return
        old = np.flatnonzero((self.steps - self.encoded_at).numpy() > self.options.max_age)
        old = np.setdiff1d(old, self._batch)
        if len(old):
            self._encode_again(old)

    def _encode_again(self, items: np.ndarray | None) -> None:
        """Encode rows, or all, without dropout."""
        self._check_growth()
        training = self.training
        self.eval()
        with self.work.timed():
            self.keep(self.encode_rows(items))
        self.train(training)
        self.encoded_at[slice(None) if items is None else torch.from_numpy(items)] = self.steps

    def _note_ages(self) -> None:
        self.encoded_at[torch.from_numpy(self._batch)] = self.steps
        ages = (self.steps - self.encoded_at).double()
        self.work.ages.append((float(ages.mean()), int(ages.max())))

    @torch.no_grad()
    def _norms(self) -> Tensor:
        """The length of each trained tensor."""
        norms = [torch.linalg.vector_norm(weight) for weight in self.weights.values()]
        return torch.stack(norms).float()

    def _check_growth(self) -> None:
        with torch.no_grad():
            if self._scale is not None:
                self._scale.clamp_(max=MAX_LOG_SCALE)
        growth = self._norms() / self._first_norms
        if not (growth <= LARGEST_GROWTH).all():
            name = list(self.weights)[int(growth.argmax())].removeprefix("encoder/")
            told = f"{growth.max():,.0f} times as large as at the start"
            raise self._diverged(f"its {name.replace('/', '.')} is {told}")

    def _diverged(self, why: str) -> UserError:
        return UserError(
            f"the encoder diverges{self.when()}: {why}; use a smaller --encoder-rate, or where "
            "weights are added to it a smaller end_to_end.learning_rate"
        )

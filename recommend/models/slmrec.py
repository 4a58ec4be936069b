"""SLMRec: self-supervision between the views of items and users (Tao et al., TMM 2022).

x_id = e_i, x_m = W_m f_m,i / ‖f_m,i‖ for each modality m, zero where an item lacks it
(U_v, V_v) = LightGCN(e_u, x_v) for each view v; the views share one user table
z_u = W_U [U_id ‖ U_m ...] + b_U, z_i = W_I [V_id ‖ V_m ...] + b_I
score(u, i) = z_u · z_i
loss = InfoNCE_τ(z_u, z_i) over the batch's pairs (u, i) + α · task + λ Σ ‖e‖² / (2B)

The loss compares cosines, whose negatives, the batch's other positive items, are mostly popular
ones; the lengths that the ranking adds give popularity back. The task is one of

fac  fine and coarse: Σ_m InfoNCE(c_m, o_m) over the items that have m, o_m = B_m V_m + b_m, and
     c_m = A_m c_(m-1) + a_m from c_0 = V_id: the id view meets the first modality in the finest
     space, and goes on from there to a coarser one, where it meets the next
fd   feature dropout: InfoNCE(z'_u, z''_u) + InfoNCE(z'_i, z''_i), where z' and z'' each come of
     x_m whose entries are dropped with probability p
fm   feature masking: the same with each item's whole x_m dropped with probability p

over the batch's distinct users and positive items, as a repeated one would be its own negative. The
batch's negative items are not used.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.convolutions import light_graph_convolution, light_graph_convolution_from_items
from recommend.features import Tables
from recommend.graphs import symmetric_normalise
from recommend.layers import Projection, embedding_table
from recommend.losses import info_nce, l2
from recommend.models.base import Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Batch
from recommend.search_space import Range, SearchSpace
from recommend.sparse import SparseMatrix


class SLMRecConfig(ModelConfig):
    """Settings of SLMRec."""

    # The MMRec toolbox's grid.
    search_space: ClassVar[SearchSpace] = {
        "ssl_temperature": Range(0.1, 1.0, log=True),
        "ssl_alpha": Range(0.01, 1.0, log=True),
        "reg": Range(1e-4, 1e-1, log=True),
    }

    embedding_size: int = Field(64, ge=1, description="d, size of the vectors.")
    layers: int = Field(3, ge=1, description="Propagations over the user-item graph.")
    temperature: float = Field(0.2, gt=0, description="τ, temperature of the main loss.")
    task: Literal["fac", "fd", "fm"] = Field("fac", description="The self-supervised task.")
    ssl_temperature: float = Field(0.2, gt=0, description="Temperature of the task.")
    ssl_alpha: float = Field(0.01, gt=0, description="α, weight of the task.")
    dropout: float = Field(0.3, ge=0, lt=1, description="p, probability in the tasks fd and fm.")
    reg: float = Field(1e-4, ge=0, description="λ, weight of the L2 term.")


class SLMRec(Recommender):
    """LightGCN over a view of ids and one of each modality, fused and contrasted."""

    config_class = SLMRecConfig
    uses_features = True

    def __init__(self, config: SLMRecConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config, size, dims = config, config.embedding_size, data.features.dims
        self.graph = SparseMatrix(symmetric_normalise(data.train.matrix))
        self.users = embedding_table(data.train.n_users, size)
        self.items = embedding_table(data.train.n_items, size)
        self.project = nn.ModuleDict(
            {modality: Projection(dim, size, bias=False) for modality, dim in dims.items()}
        )
        self.fuse_users = nn.Linear(size * (1 + len(dims)), size)
        self.fuse_items = nn.Linear(size * (1 + len(dims)), size)
        spaces = list(dims) if config.task == "fac" else []
        self.common = nn.ModuleDict({modality: nn.Linear(size, size) for modality in spaces})
        self.own = nn.ModuleDict({modality: nn.Linear(size, size) for modality in spaces})
        for modality, present in data.features.present.items():
            mask = torch.from_numpy(present.copy())
            self.register_buffer(f"has_{modality}", mask, persistent=False)

    def encode(self, features: Tables) -> Embeddings:
        """The fused vectors."""
        [users], [items] = self._fused(*self._views([self._content(features)]))
        return Embeddings(users, items)

    def loss(self, batch: Batch, features: Tables) -> dict[str, Tensor]:
        """``main`` between users and items, the task under its own name, and ``l2``."""
        user_rows, user_places = batch.users.unique(return_inverse=True)
        item_rows, item_places = batch.positives.unique(return_inverse=True)
        places = user_places, item_places
        content, config = self._content(features), self.config
        dropped = [] if config.task == "fac" else [self._drop(content), self._drop(content)]
        views = self._views([content, *dropped], (user_rows, item_rows))
        users, items = self._fused(*views)
        if config.task == "fac":
            task = self._fine_and_coarse(views[1][0], item_rows)
        else:
            task = self._contrast(*users[1:]) + self._contrast(*items[1:])
        own = self.users[batch.users], self.items[batch.positives]
        return {
            "main": _info_nce_of_pairs(users[0], items[0], places, config.temperature),
            config.task: config.ssl_alpha * task,
            "l2": config.reg * l2(*own),
        }

    def _content(self, features: Tables) -> Tensor:
        """x_m of every item, the modalities side by side, (I, |M| d)."""
        return torch.cat(
            [
                project(features[modality]) / _lengths(features[modality])
                for modality, project in self.project.items()
            ],
            dim=1,
        )

    def _drop(self, content: Tensor) -> Tensor:
        """Content with entries or whole modalities of an item left out, the rest scaled up."""
        vectors = content.unflatten(1, (len(self.project), -1))
        mask = torch.ones_like(vectors if self.config.task == "fd" else vectors[:, :, :1])
        return (vectors * F.dropout(mask, self.config.dropout, self.training)).flatten(1)

    def _views(
        self, contents: list[Tensor], rows: tuple[Tensor, Tensor] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Of users and of items: for each content, the id view and the content's, side by side.

        As the convolution is linear and the views share the users, LightGCN(e_u, x) is
        LightGCN(e_u, e_i) + LightGCN(0, x - e_i), whose last term is half the work.
        """
        layers, size, width = self.config.layers, self.items.shape[1], contents[0].shape[1]
        ids = light_graph_convolution(self.graph, self.users, self.items, layers, rows)
        others = torch.cat(contents, dim=1).unflatten(1, (-1, size)) - self.items[:, None]
        rests = light_graph_convolution_from_items(self.graph, others.flatten(1), layers, rows)
        of_users, of_items = (
            [
                torch.cat([own, (part.unflatten(1, (-1, size)) + own[:, None]).flatten(1)], dim=1)
                for part in rest.split(width, dim=1)
            ]
            for own, rest in zip(ids, rests, strict=True)
        )
        return of_users, of_items

    def _fused(self, users: list[Tensor], items: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [self.fuse_users(views) for views in users], [
            self.fuse_items(views) for views in items
        ]

    def _fine_and_coarse(self, items: Tensor, rows: Tensor) -> Tensor:
        """The task fac over views (n, (1 + |M|) d) of the items `rows`."""
        common, *views = items.chunk(1 + len(self.project), dim=1)
        total = items.new_zeros(())
        for (modality, lift), view in zip(self.common.items(), views, strict=True):
            common, has = lift(common), self.get_buffer(f"has_{modality}")[rows]
            total = total + self._contrast(common[has], self.own[modality](view[has]))
        return total

    def _contrast(self, one: Tensor, other: Tensor) -> Tensor:
        if not len(one):
            return one.new_zeros(())
        return info_nce(one, other, self.config.ssl_temperature)


def _info_nce_of_pairs(
    users: Tensor, items: Tensor, places: tuple[Tensor, Tensor], temperature: float
) -> Tensor:
    """`info_nce` of the pairs (users[j], items[k]), j and k from `places`.

    An item that stands in c pairs is c terms of each sum, so exp(s + log c) in one. For a batch of
    the field's data sets the matrix is then some 0.6 times as large.
    """
    repeats = places[1].bincount(minlength=len(items)).to(items.dtype).log()
    users, items = F.normalize(users, dim=1) / temperature, F.normalize(items, dim=1)
    shares = torch.addmm(repeats, users, items.T).log_softmax(dim=1)
    return (repeats[places[1]] - shares[places]).mean()


def _lengths(table: Tensor) -> Tensor:
    """‖f‖ of each row, (n, 1); 1 for the zero rows of absent items."""
    lengths = torch.linalg.vector_norm(table, dim=1, keepdim=True)
    return lengths.masked_fill(lengths == 0, 1)

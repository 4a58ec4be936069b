"""LightGCN and FREEDOM as one writes them first, to be compared with.

The graph is the (U+I)² adjacency as a torch COO tensor, gradients are torch's own, negatives are
drawn in a Python loop, Adam has its default settings. The arithmetic is that of the papers, and
equal to that of recommend/models: the tests hold loss and gradients of both side by side. FREEDOM's
features are projected for all items and, as is the habit of the best-known toolbox, trained.
"""

import random
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional as F

from recommend.features import FeatureStore
from recommend.interactions import Interactions
from recommend.models.freedom import FreedomConfig
from recommend.models.lightgcn import LightGCNConfig

Triples = tuple[Tensor, Tensor, Tensor]


class PlainLightGCN(nn.Module):
    """The mean over the layers of the adjacency's powers.

    Args:
        config: The settings of the model that it is compared with.
        train: The training pairs.
    """

    adjacency: Tensor

    def __init__(self, config: LightGCNConfig, train: Interactions) -> None:
        super().__init__()
        self.config = config
        self.users = nn.Embedding(train.n_users, config.embedding_size)
        self.items = nn.Embedding(train.n_items, config.embedding_size)
        for table in (self.users, self.items):
            nn.init.xavier_uniform_(table.weight)
        self.register_buffer("adjacency", adjacency(train.users, train.items, train))

    def begin_epoch(self) -> None:
        """Nothing to do."""

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """BPR, and L2 of the layer-0 embeddings."""
        all_users, all_items = propagate(
            self.adjacency, self.users.weight, self.items.weight, self.config.layers
        )
        loss = bpr(all_users[users], all_items[positives], all_items[negatives])
        own = (self.users(users), self.items(positives), self.items(negatives))
        squares = torch.stack([table.pow(2).sum() for table in own]).sum()
        return loss + self.config.reg * squares / (2 * len(users))


class PlainFreedom(nn.Module):
    """LightGCN on a graph pruned each epoch, and propagation over the item graph.

    Args:
        config: The settings of the model that it is compared with.
        train: The training pairs.
        features: The items' features.
        item_graph: S, (I, I).
        trained: Train the features, too.
    """

    item_graph: Tensor

    def __init__(
        self,
        config: FreedomConfig,
        train: Interactions,
        features: FeatureStore,
        item_graph: csr_array,
        trained: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.train_pairs = config, train
        self.users = nn.Embedding(train.n_users, config.embedding_size)
        self.items = nn.Embedding(train.n_items, config.embedding_size)
        for table in (self.users, self.items):
            nn.init.xavier_uniform_(table.weight)
        self.features, self.project = nn.ModuleDict(), nn.ModuleDict()
        for modality, array in features.tables.items():
            # A copy, since training would write into the array that others use.
            self.features[modality] = nn.Embedding.from_pretrained(
                torch.tensor(array), freeze=not trained
            )
            self.project[modality] = nn.Linear(array.shape[1], config.embedding_size, bias=False)
        self.register_buffer("item_graph", coo_tensor(item_graph.tocoo()))
        self.pruned = adjacency(train.users, train.items, train)

    def begin_epoch(self) -> None:
        """Draw this epoch's edges, with p ∝ 1/√(d_u d_i)."""
        pairs, keep = self.train_pairs, 1 - self.config.dropout
        degrees = pairs.user_degrees[pairs.users] * pairs.item_degrees[pairs.items]
        weights = torch.from_numpy(1 / np.sqrt(degrees))
        kept = torch.multinomial(weights, int(keep * len(pairs))).numpy()
        self.pruned = adjacency(pairs.users[kept], pairs.items[kept], pairs)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """BPR, and BPR with each projected modality as the item side."""
        self.pruned = self.pruned.to(users.device)
        neighbourly = self.items.weight
        for _ in range(self.config.item_layers):
            neighbourly = torch.sparse.mm(self.item_graph, neighbourly)
        all_users, all_items = propagate(
            self.pruned, self.users.weight, self.items.weight, self.config.layers
        )
        all_items = all_items + neighbourly
        chosen = all_users[users]
        loss = bpr(chosen, all_items[positives], all_items[negatives])
        for modality, project in self.project.items():
            content = project(self.features[modality].weight)
            term = bpr(chosen, content[positives], content[negatives])
            loss = loss + self.config.reg * term
        return loss


Plain = PlainLightGCN | PlainFreedom


def adjacency(users: np.ndarray, items: np.ndarray, sizes: Interactions) -> Tensor:
    """D^-1/2 [0 R; Rᵀ 0] D^-1/2 of some pairs, (U+I, U+I)."""
    rows = np.concatenate([users, items + sizes.n_users])
    columns = np.concatenate([items + sizes.n_users, users])
    n = sizes.n_users + sizes.n_items
    degrees = np.bincount(rows, minlength=n)
    values = 1 / np.sqrt(degrees[rows] * degrees[columns])
    return coo_tensor(csr_array((values, (rows, columns)), shape=(n, n)).tocoo())


def coo_tensor(matrix: csr_array) -> Tensor:
    """A scipy matrix in COO form as torch's."""
    places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    values = torch.from_numpy(matrix.data.astype(np.float32))
    tensor = torch.sparse_coo_tensor(places, values, matrix.shape, check_invariants=False)
    return tensor.coalesce()


def propagate(graph: Tensor, users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """The mean over all layers, of users and items."""
    found = [torch.cat([users, items])]
    for _ in range(layers):
        found.append(torch.sparse.mm(graph, found[-1]))
    mean = torch.stack(found, dim=1).mean(dim=1)
    return mean[: len(users)], mean[len(users) :]


def bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Mean of -log σ(s⁺ - s⁻)."""
    difference = (users * positives).sum(dim=1) - (users * negatives).sum(dim=1)
    return -F.logsigmoid(difference).mean()


class PlainSampler:
    """Batches with negatives drawn one by one.

    Args:
        train: The training pairs.
        batch_size: Pairs of a batch.
        seed: Of the draw.
    """

    def __init__(self, train: Interactions, batch_size: int, seed: int = 0) -> None:
        self.train, self.batch_size = train, batch_size
        self.generator = random.Random(seed)
        self.candidates = sorted(set(train.items.tolist()))
        self.taken: dict[int, set[int]] = defaultdict(set)
        for user, item in zip(train.users.tolist(), train.items.tolist(), strict=True):
            self.taken[user].add(item)

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return -(-len(self.train) // self.batch_size)

    def epoch(self, device: torch.device) -> Iterator[Triples]:
        """All training pairs in a new order: users, positives, negatives."""
        order = np.random.default_rng(self.generator.randrange(2**32)).permutation(len(self.train))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            users, positives = self.train.users[rows], self.train.items[rows]
            negatives = np.array([self._negative(user) for user in users.tolist()])
            of_batch = (users, positives, negatives)
            u, p, n = (torch.from_numpy(column).to(device) for column in of_batch)
            yield u, p, n

    def _negative(self, user: int) -> int:
        while (item := self.generator.choice(self.candidates)) in self.taken[user]:
            pass
        return item

"""Training that is cut off and goes on from a saved state, to the bit as if it had not been."""

import io

import numpy as np
import pytest
import torch

from extract.errors import UserError
from recommend.evaluate import evaluate, seen_items
from recommend.layers import embedding_table
from recommend.losses import bpr, dot
from recommend.models import MODELS, Embeddings, ModelConfig, Recommender, TrainingData
from recommend.sampling import Sampler
from recommend.sources import SOURCES
from recommend.train import TrainOptions, fit

EPOCHS = 6


class Dropped(Recommender):
    """Matrix factorisation with dropout, and with a graph of its own in each epoch."""

    config_class = ModelConfig

    def __init__(self, config, data):
        super().__init__(config, data)
        self.users = embedding_table(data.train.n_users, 8)
        self.items = embedding_table(data.train.n_items, 8)
        self.dropout = torch.nn.Dropout(0.5)
        self.signs = torch.ones(8)

    def begin_epoch(self, features, generator):
        self.signs = torch.from_numpy(generator.choice([1, 1, -1], 8).astype(np.float32))

    def encode(self, features):
        return Embeddings(self.users, self.items)

    def loss(self, batch, features):
        users = self.dropout(self.users[batch.users]) * self.signs
        positives, negatives = self.items[batch.positives], self.items[batch.negatives]
        return {"bpr": bpr(dot(users, positives), dot(users, negatives))}


KINDS = {**MODELS, "dropped": Dropped}


class KilledError(Exception):
    """The process dies here."""


class Training:
    """One training run in a process of its own, as it were: everything is built anew."""

    def __init__(self, name, data, source="frozen", seed=0):
        split, store = data
        torch.manual_seed(seed)
        kind = KINDS[name]
        self.model = kind(kind.config_class(), TrainingData(split.train, store))
        self.features = SOURCES[source](store if kind.uses_features else store.none())
        self.sampler = Sampler(split.train, 64, np.random.default_rng(seed))
        self.split = split
        self.saved, self.steps = [], 0

    def run(self, resume=None, die_at_step=None, die_after_epoch=None, **options):
        """Train; `saved` holds the state after each epoch as bytes."""
        seen = seen_items(self.split, "validation", "strict")
        loss = self.model.loss

        def dying(batch, features):
            self.steps += 1
            if self.steps == die_at_step:
                raise KilledError
            return loss(batch, features)

        def keep(state):
            file = io.BytesIO()
            torch.save(state(), file)
            self.saved.append(file.getvalue())
            if len(self.saved) == die_after_epoch:
                raise KilledError

        self.model.loss = dying
        settings = {"max_epochs": EPOCHS, "learning_rate": 0.02, "lr_decay": 0.5, "patience": 99}
        return fit(
            self.model,
            self.features,
            self.sampler,
            lambda embeddings: evaluate(embeddings, self.split.validation, seen)[0],
            TrainOptions(**settings | options),
            keep=keep,
            resume=resume and torch.load(io.BytesIO(resume), weights_only=True),
        )


def outcome(training, fitted):
    """All that a run leaves, but for the seconds."""
    history = [
        {key: value for key, value in record.items() if "second" not in key}
        for record in fitted.history
    ]
    numbers = (fitted.epoch, history, fitted.validation.means())
    embeddings = (fitted.embeddings.users, fitted.embeddings.items)
    tensors = (*embeddings, *training.model.parameters(), *training.features.parameters())
    return numbers, [tensor.detach().numpy().tobytes() for tensor in tensors]


def whole(name, data, source="frozen", **options):
    training = Training(name, data, source)
    return outcome(training, training.run(**options)), training


def resumed(name, data, state, source="frozen", **options):
    """From a state, in a process whose own generators and first weights are others."""
    training = Training(name, data, source, seed=7)
    return outcome(training, training.run(resume=state, **options))


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"popularity", "itemknn"}))
def test_every_model_goes_on_as_if_it_had_not_stopped(name, checkerboard):
    expected, training = whole(name, checkerboard)
    assert len(training.saved) == EPOCHS
    for epoch in (2, 5):
        assert resumed(name, checkerboard, training.saved[epoch - 1]) == expected


@pytest.mark.parametrize(("name", "source"), [("dropped", "frozen"), ("freedom", "tuned")])
def test_killed_after_each_epoch(name, source, checkerboard):
    expected, _ = whole(name, checkerboard, source)
    for epoch in range(1, EPOCHS + 1):
        killed = Training(name, checkerboard, source)
        with pytest.raises(KilledError):
            killed.run(die_after_epoch=epoch)
        assert resumed(name, checkerboard, killed.saved[-1], source) == expected


@pytest.mark.parametrize(("name", "source"), [("dropped", "frozen"), ("freedom", "tuned")])
def test_killed_again_and_again_amid_epochs(name, source, checkerboard):
    """Each process dies two steps after the end of its first epoch."""
    expected, training = whole(name, checkerboard, source)
    steps, state, processes = len(training.sampler), None, 0
    while True:
        killed = Training(name, checkerboard, source, seed=processes)
        processes += 1
        try:
            fitted = killed.run(resume=state, die_at_step=steps + 2)
        except KilledError:
            assert len(killed.saved) == 1
            state = killed.saved[-1]
            continue
        break
    assert processes == EPOCHS
    assert outcome(killed, fitted) == expected


@pytest.mark.parametrize("evaluate_every", [1, 2])
def test_early_stopping_counts_on(checkerboard, evaluate_every):
    options = {"max_epochs": 60, "patience": 3, "evaluate_every": evaluate_every}
    expected, training = whole("dropped", checkerboard, **options)
    epochs = len(training.saved)
    assert 3 * evaluate_every < epochs < 60
    for epoch in range(1, epochs + 1):
        assert resumed("dropped", checkerboard, training.saved[epoch - 1], **options) == expected


def test_a_state_of_another_model_is_refused(checkerboard):
    _, training = whole("dropped", checkerboard, max_epochs=1)
    with pytest.raises(UserError, match=r"does not fit this model .* start the run anew"):
        resumed("lightgcn", checkerboard, training.saved[0])


@pytest.mark.parametrize("key", ["weights", "optimizer", "generator", "torch", "history"])
def test_a_state_that_lacks_a_part_is_refused(key, checkerboard):
    _, training = whole("dropped", checkerboard, max_epochs=1)
    state = torch.load(io.BytesIO(training.saved[0]), weights_only=True)
    del state[key]
    file = io.BytesIO()
    torch.save(state, file)
    with pytest.raises(UserError, match=f"does not fit this model .KeyError.'{key}'"):
        resumed("dropped", checkerboard, file.getvalue())

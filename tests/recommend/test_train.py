"""The loop: early stopping, best weights, the order of a step, losses that are not finite."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from extract.errors import UserError
from recommend.features import FeatureStore
from recommend.metrics import Metrics
from recommend.models import Embeddings, ModelConfig, Recommender
from recommend.sampling import Sampler
from recommend.sources import FrozenFeatures
from recommend.train import TrainOptions, fit


class Counter(Recommender):
    """One weight that rises by about the learning rate in each step."""

    config_class = ModelConfig

    def __init__(self, poison_at=None):
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps, self.poison_at = 0, poison_at

    def encode(self, features):
        return Embeddings(self.weight.reshape(1, 1), self.weight.reshape(1, 1))

    def loss(self, batch, features):
        self.steps += 1
        poison = float("nan") if self.steps == self.poison_at else 0.0
        return {"fall": -self.weight, "extra": self.weight * 0 + poison}


def scripted(values):
    """A validation that returns the given values in turn, and remembers what it was shown."""
    shown = []

    def validate(embeddings):
        shown.append(embeddings.users.item())
        value = values[min(len(shown), len(values)) - 1]
        return Metrics(np.array([0]), {"recall@20": np.array([value])})

    return validate, shown


def run(small, values, model=None, **options):
    validate, shown = scripted(values)
    model = model or Counter()
    sampler = Sampler(small.train, 100, np.random.default_rng(0))
    features = FrozenFeatures(FeatureStore.none())
    settings = TrainOptions(**{"learning_rate": 1.0, "max_epochs": 50} | options)
    return fit(model, features, sampler, validate, settings), shown, model


def test_training_stops_when_patience_is_over_and_returns_to_the_best_weights(small):
    fitted, shown, model = run(small, [0.1, 0.3, 0.2, 0.3, 0.25, 0.9], patience=3)
    assert fitted.epoch == 2
    assert len(fitted.history) == 5  # an equal value is no improvement
    assert model.weight.item() == shown[1]
    assert fitted.embeddings.users.item() == shown[1]
    assert [record["validation"]["recall@20"] for record in fitted.history][:2] == [0.1, 0.3]


def test_training_ends_at_the_last_epoch(small):
    fitted, _, _ = run(small, np.linspace(0, 1, 50), max_epochs=4)
    assert fitted.epoch == 4
    assert [record["epoch"] for record in fitted.history] == [1, 2, 3, 4]


def test_validation_every_few_epochs(small):
    fitted, shown, _ = run(small, [0.5, 0.4, 0.3, 0.2], evaluate_every=3, patience=2, max_epochs=99)
    assert ["validation" in record for record in fitted.history] == [False, False, True] * 3
    assert fitted.epoch == 3
    assert len(shown) == 4  # three in the loop, one of the best weights at the end


def test_a_step_starts_from_no_gradient(small):
    """Adam's steps on a constant gradient are of one size only if gradients do not add up."""
    _, shown, _ = run(small, np.linspace(0, 1, 9), max_epochs=5)
    np.testing.assert_allclose(np.diff(shown[:5]), 1.0, rtol=1e-3)


def test_the_rate_decays_smoothly(small):
    _, shown, _ = run(small, np.linspace(0, 1, 9), max_epochs=5, lr_decay=0.5)
    np.testing.assert_allclose(np.diff(shown[:5]), 0.5 ** (np.arange(1, 5) / 50), rtol=1e-3)


def test_a_loss_that_is_not_finite_names_epoch_step_and_term(small):
    with pytest.raises(UserError, match=r"epoch 3, step 1 \(fall = .*, extra = nan\)"):
        run(small, np.linspace(0, 1, 9), model=Counter(poison_at=3))


def test_an_unknown_selection_metric_names_the_nearest():
    with pytest.raises(ValidationError, match="did you mean 'recall@20'"):
        TrainOptions(selection="recal@20")


def test_a_model_without_parameters_is_only_validated(small):
    class Constant(Counter):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.weight = torch.ones(())

    validate, shown = scripted([0.4])
    features = FrozenFeatures(FeatureStore.none())
    fitted = fit(Constant(), features, None, validate, TrainOptions())
    assert (fitted.epoch, fitted.history, shown) == (0, [], [1.0])
    assert fitted.validation.means() == {"recall@20": 0.4}

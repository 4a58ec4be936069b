"""A data set that takes no time."""

import numpy as np
import pytest

from benchmarks.simulated import Size, simulated_features, simulated_split
from recommend.models import TrainingData
from recommend.sampling import Sampler


@pytest.fixture(scope="session")
def tiny():
    return Size(60, 70, 400, {"image": 6, "text": 5})


@pytest.fixture(scope="session")
def data(tiny):
    return TrainingData(simulated_split(tiny).train, simulated_features(tiny))


@pytest.fixture(scope="session")
def batch(data):
    return next(Sampler(data.train, 128, np.random.default_rng(0)).epoch())

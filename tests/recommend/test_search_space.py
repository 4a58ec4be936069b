"""Search spaces: the vocabulary, and those of all models."""

import math

import pytest
from pydantic import ValidationError

from recommend.models import MODELS
from recommend.search_space import Choice, Range
from recommend.train import TrainOptions

TRAINED = sorted(set(MODELS) - {"popularity", "itemknn"})
# Of every class that has a space, one line a setting.
SPACES = [
    *(
        (name, MODELS[name].config_class)
        for name in MODELS
        if MODELS[name].config_class.search_space
    ),
    ("train", TrainOptions),
]
SETTINGS = [
    pytest.param(config_class, key, values, id=f"{name}.{key}")
    for name, config_class in SPACES
    for key, values in config_class.search_space.items()
]


def test_every_model_that_is_trained_has_a_space_and_so_has_training():
    assert len(TRAINED) == 13
    with_space = {name for name, _ in SPACES}
    assert with_space == {*TRAINED, "itemknn", "train"}
    assert not MODELS["popularity"].config_class.search_space
    assert len(SETTINGS) == 27


@pytest.mark.parametrize(("config_class", "key", "values"), SETTINGS)
def test_a_space_is_of_a_setting_and_all_of_it_is_valid(config_class, key, values):
    assert key in config_class.model_fields
    assert len(values.ends) >= 2
    for value in values.ends:
        config = config_class(**{key: value})
        # As it was given: nothing is cut or rounded on the way.
        assert getattr(config, key) == value


@pytest.mark.parametrize(("config_class", "key", "values"), SETTINGS)
def test_the_default_lies_in_the_space(config_class, key, values):
    assert values.holds(config_class.model_fields[key].default)


@pytest.mark.parametrize(("config_class", "key", "values"), SETTINGS)
def test_whole_numbers_are_searched_as_such(config_class, key, values):
    if config_class.model_fields[key].annotation is int:
        assert all(isinstance(end, int) for end in values.ends)
        assert isinstance(values, Choice) or values.integer


def test_a_value_outside_would_have_been_refused():
    """The checks above can fail."""
    with pytest.raises(ValidationError):
        MODELS["freedom"].config_class(dropout=1.0)
    assert not Range(1e-4, 1e-2, log=True).holds(0.0)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Choice((1,)), "two or more"),
        (lambda: Choice(()), "two or more"),
        (lambda: Choice((1, 2, 1)), "different"),
        (lambda: Range(1, 1), "goes up"),
        (lambda: Range(2, 1), "goes up"),
        (lambda: Range(0, math.inf), "goes up"),
        (lambda: Range(math.nan, 1), "goes up"),
        (lambda: Range(0, 1, log=True), "above zero"),
        (lambda: Range(-1, 1, log=True), "above zero"),
        (lambda: Range(0.5, 2, integer=True), "whole"),
    ],
    ids=[
        "one",
        "none",
        "twice",
        "a point",
        "down",
        "endless",
        "nan",
        "log 0",
        "log -1",
        "half",
    ],
)
def test_a_space_that_is_none_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


def test_what_a_space_holds():
    assert Choice(("fac", "fd")).holds("fd")
    assert not Choice(("fac", "fd")).holds("fm")
    assert Range(1, 4, integer=True).holds(4)
    assert not Range(1, 4, integer=True).holds(2.5)
    assert not Range(1, 4).holds(4.1)
    assert not Range(1, 4).holds("2")

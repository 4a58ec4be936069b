"""What is trained, at which rate; how rates rise and fall; where there is dropout."""

import math

import pytest
import torch
from torch import nn

from extract.encoders.base import Collate, Encoder
from extract.errors import UserError
from extract.finetune.optimizer import (
    choose_trained,
    make_optimizer,
    make_schedule,
    parameter_groups,
    set_training,
)
from extract.finetune.options import TuneOptions


class Small(Encoder):
    """Two towers with what matters: a matrix, a norm, a batch norm, dropout."""

    image_parts = ("eye.",)

    def __init__(self):
        super().__init__("small", {"image": False, "text": False}, None, None, Collate())
        self.dims = {"image": 3, "text": 3}
        self.eye = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.ear = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Dropout(0.5))

    def encode_image(self, images):
        return self.eye(images)

    def encode_text(self, tokens):
        return self.ear(tokens)

    def identity(self):
        return {}


def trained(encoder):
    return {name for name, weight in encoder.named_parameters() if weight.requires_grad}


def rates(optimizer, encoder):
    names = {id(weight): name for name, weight in encoder.named_parameters()}
    return {
        names.get(id(weight), "own"): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }


EVERYTHING = {
    f"{tower}.{n}.{kind}" for tower in ("eye", "ear") for n in (0, 1) for kind in ("weight", "bias")
}


@pytest.mark.parametrize(
    ("train", "added", "expected"),
    [
        ((), (), EVERYTHING),
        ((), ("ear.1.bias",), {"ear.1.bias"}),
        (("none",), ("ear.1.bias",), {"ear.1.bias"}),
        (("all",), ("ear.1.bias",), EVERYTHING),
        (("^eye.*weight",), (), {"eye.0.weight", "eye.1.weight"}),
        (("eye.0=1e-3", "ear.0"), ("ear.1.bias",),
         {"eye.0.weight", "eye.0.bias", "ear.0.weight", "ear.0.bias", "ear.1.bias"}),
    ],
)  # fmt: skip
def test_what_is_trained(train, added, expected):
    encoder = Small()
    choose_trained(encoder, added, TuneOptions(train=train))
    assert trained(encoder) == expected


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (
            ("nose",),
            "'nose' of what is trained fits no weight of small; some of its 8: eye.0",
        ),
        (("eye[",), "PATTERN or PATTERN=RATE, found 'eye\\['"),
        (("eye=-1",), "found 'eye=-1' \\(a rate is above 0\\)"),
        (("eye=nan",), "a rate is above 0"),
        (("eye=fast",), "'eye=fast' of what is trained fits no weight"),
        (("none",), "nothing of small is trained; name some"),
    ],
)
def test_wrong_patterns_are_told(train, told):
    with pytest.raises(UserError, match=told):
        choose_trained(Small(), (), TuneOptions(train=train))


def test_rates_and_decay_by_group():
    encoder, own = Small(), nn.Parameter(torch.tensor(0.0))
    options = TuneOptions(
        train=("eye", "eye.1=3e-4"), learning_rate=1e-2, encoder_rate=1e-5, weight_decay=0.1
    )
    choose_trained(encoder, ("ear.0.weight",), options)
    found = rates(make_optimizer(encoder, ("ear.0.weight",), [own], options), encoder)
    assert found == {
        "eye.0.weight": (1e-5, 0.1),
        "eye.0.bias": (1e-5, 0.0),
        "eye.1.weight": (3e-4, 0.0),  # the last pattern that fits; a vector has no decay
        "eye.1.bias": (3e-4, 0.0),
        "ear.0.weight": (1e-2, 0.1),
        "own": (1e-2, 0.0),
    }


def test_groups_are_the_optimizers_but_for_the_losss_own():
    encoder, own = Small(), nn.Parameter(torch.tensor(0.0))
    choose_trained(encoder, (), TuneOptions())
    groups = parameter_groups(encoder, (), TuneOptions())
    assert [sorted(group) for group in groups] == [["lr", "params", "weight_decay"]] * 2
    every = {id(weight) for group in groups for weight in group["params"]}
    assert every == {id(weight) for weight in encoder.parameters()}
    # What the loss shares with the encoder keeps the encoder's rate.
    optimizer = make_optimizer(encoder, (), [own, encoder.ear[0].bias], TuneOptions())
    found = rates(optimizer, encoder)
    assert found["own"] == (1e-3, 0.0)
    assert found["ear.0.bias"] == (2e-5, 0.0)
    assert len(found) == len(every) + 1


def test_rates_rise_evenly_and_fall_as_a_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make_schedule(optimizer, 20, TuneOptions(warmup=0.2))
    found = []
    for _ in range(21):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[12] == pytest.approx(1.0)  # half of the way down
    assert found[8] == pytest.approx(2 * (1 + math.cos(math.pi / 4)) / 2)
    assert found[20] == pytest.approx(0.0, abs=1e-12)


def test_dropout_only_in_what_is_trained_and_batch_norms_stay():
    encoder = Small().train()
    choose_trained(encoder, (), TuneOptions(train=("ear",)))
    set_training(encoder)
    assert [module.training for module in encoder.eye] == [False, False, False]
    assert [module.training for module in encoder.ear] == [True, True, True]
    choose_trained(encoder, (), TuneOptions())
    set_training(encoder)
    assert [module.training for module in encoder.eye] == [True, False, True]

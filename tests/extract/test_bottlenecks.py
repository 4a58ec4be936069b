"""Bottlenecks against their formula by hand, in every kind of transformer."""

import copy
import math

import pytest
import torch
from support.adapted import (
    FAMILIES,
    TinyEncoders,
    adapter_state,
    fill_adapters,
    frozen_copy,
    inputs_of,
    pull,
    trainable_share,
    vectors_of,
)

from extract.encoders import create_encoder
from extract.encoders.bottlenecks import add_bottlenecks
from extract.encoders.lora import add_lora, merge_adapters
from extract.errors import UserError

# One feed-forward of each kind.
FEED_FORWARDS = {
    "clip": "model.visual.transformer.resblocks.1.mlp",
    "hf": "model.text_model.encoder.layers.0.mlp",
    "vit": "image.model.blocks.1.mlp",
}


@pytest.fixture(scope="module")
def made(request):
    return TinyEncoders(request)


@pytest.fixture(params=FAMILIES)
def plain(made, request):
    return made[request.param]


def branch_by_hand(weights, name, hidden, scale):
    """``s U relu(D x + d) + s u``, number by number."""
    of = {part: weights[f"{name}_bottleneck.{part}"].tolist() for part in PARTS}
    inner = [
        max(0.0, math.fsum(a * x for a, x in zip(row, hidden, strict=True)) + bias)
        for row, bias in zip(of["down.weight"], of["down.bias"], strict=True)
    ]
    return [
        scale * (math.fsum(a * x for a, x in zip(row, inner, strict=True)) + bias)
        for row, bias in zip(of["up.weight"], of["up.bias"], strict=True)
    ]


PARTS = ("down.weight", "down.bias", "up.weight", "up.bias")


def test_vectors_are_unchanged_at_the_start(plain):
    encoder = copy.deepcopy(plain)
    assert add_bottlenecks(encoder, rank=4)
    for modality, found in vectors_of(encoder).items():
        assert torch.equal(found, vectors_of(frozen_copy(plain))[modality])
    names = [name for name in encoder.state_dict() if "_bottleneck." not in name]
    assert names == list(plain.state_dict())


@pytest.mark.parametrize("family", FEED_FORWARDS)
def test_feed_forwards_by_hand(made, family):
    encoder, name = copy.deepcopy(made[family]), FEED_FORWARDS[family]
    assert name in add_bottlenecks(encoder, rank=3, scale=0.25)
    fill_adapters(encoder)
    hidden = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(19))
    found = encoder.get_submodule(name)(hidden)
    expected = made[family].get_submodule(name)(hidden)
    added = branch_by_hand(adapter_state(encoder), name, hidden[1, 2].tolist(), 0.25)
    torch.testing.assert_close(found[1, 2], expected[1, 2] + torch.tensor(added))


def test_berts_feed_forward_by_hand(made):
    encoder = copy.deepcopy(made["vit"])
    (name,) = [name for name in add_bottlenecks(encoder, rank=3) if "layer.1.output" in name]
    fill_adapters(encoder)
    hidden = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(19))
    plain = made["vit"].get_submodule(name.removesuffix(".output"))
    added = branch_by_hand(adapter_state(encoder), name, hidden[0, 0].tolist(), 0.6)
    inner = plain.intermediate(hidden)
    expected = plain.output.LayerNorm(plain.output.dense(inner) + hidden + torch.tensor(added))
    found = encoder.get_submodule(name)(inner, hidden)
    torch.testing.assert_close(found, expected)


def test_weights_at_the_start(made):
    encoder = copy.deepcopy(made["clip"])
    add_bottlenecks(encoder, rank=64)
    for name, weight in adapter_state(encoder).items():
        if name.endswith("down.weight"):  # uniform up to sqrt(6 / ((1 + 5) * width))
            bound = 1 / math.sqrt(32)
            assert 0.95 * bound < weight.abs().max() <= bound
            assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        else:
            assert not weight.any()


@pytest.mark.parametrize(("family", "count"), [("clip", 4), ("hf", 4), ("vit", 4), ("cnn", 2)])
def test_there_is_one_for_each_feed_forward(made, family, count):
    encoder = copy.deepcopy(made[family])
    before = sum(weight.numel() for weight in encoder.parameters())
    assert len(add_bottlenecks(encoder, rank=5)) == count
    size = count * (2 * 32 * 5 + 5 + 32)
    assert sum(weight.numel() for weight in adapter_state(encoder).values()) == size
    assert trainable_share(encoder) == pytest.approx(size / (before + size))


@pytest.mark.parametrize(
    ("family", "modality", "part"),
    [
        ("clip", "image", "visual"),
        ("clip", "text", "model.transformer"),
        ("vlmo", "image", "mlp_imag"),
        ("vlmo", "text", "mlp_text"),
    ],
)
def test_modalities_have_their_own(made, family, modality, part):
    encoder = copy.deepcopy(made[family])
    add_bottlenecks(encoder, rank=4)
    before = vectors_of(encoder)
    fill_adapters(encoder, part)
    after = vectors_of(encoder)
    other = {"image": "text", "text": "image"}[modality]
    assert torch.equal(after[other], before[other])
    assert not torch.allclose(after[modality], before[modality], atol=1e-4)


def test_gradients_reach_all_bottlenecks_and_nothing_else(plain):
    encoder = copy.deepcopy(plain)
    add_bottlenecks(encoder, rank=4)
    fill_adapters(encoder)
    pull(encoder.encode(inputs_of(encoder))).backward()
    reached = {name for name, weight in encoder.named_parameters() if weight.grad is not None}
    assert reached == adapter_state(encoder).keys()
    assert all(encoder.get_parameter(name).grad.any() for name in reached)


def test_a_copy_uses_its_own(plain):
    encoder = copy.deepcopy(plain)
    add_bottlenecks(encoder, rank=4)
    twin = copy.deepcopy(encoder)
    fill_adapters(twin)
    before, after = vectors_of(encoder), vectors_of(twin)
    assert torch.equal(before["text"], vectors_of(frozen_copy(plain))["text"])
    assert not torch.allclose(after["text"], before["text"], atol=1e-4)
    told = encoder.load_state_dict(adapter_state(twin), strict=False)
    assert told.unexpected_keys == []
    assert torch.equal(vectors_of(encoder)["text"], after["text"])
    with torch.autocast("cpu", torch.bfloat16):
        half = vectors_of(twin)["text"]
    assert torch.cosine_similarity(half.float(), after["text"]).min() > 0.99
    with torch.no_grad():
        double = twin.double().encode_text(inputs_of(twin)["text"])
    torch.testing.assert_close(double.float(), after["text"], atol=1e-4, rtol=1e-4)


def test_dropout_acts_in_training_only(made):
    encoder = copy.deepcopy(made["clip"])  # which has no dropout of its own
    add_bottlenecks(encoder, rank=4, dropout=0.5)
    fill_adapters(encoder)
    inputs = inputs_of(encoder)
    for training in (False, True):
        encoder.train(training)
        once, again = (encoder.encode(inputs)["text"] for _ in range(2))
        assert torch.equal(once, again) != training


def test_the_scale_is_part_of_the_fingerprint(made):
    prints = set()
    for scale in (0.6, 0.7):
        encoder = copy.deepcopy(made["hf"])
        add_bottlenecks(encoder, rank=4, scale=scale)
        fill_adapters(encoder)
        prints.add(encoder.fingerprint())
    assert len(prints) == 2


@pytest.mark.parametrize("lora_first", [True, False])
def test_both_kinds_of_adapters_together(plain, lora_first):
    encoder = copy.deepcopy(plain)
    if lora_first:
        add_lora(encoder, rank=4)
    feed_forwards = add_bottlenecks(encoder, rank=4)
    if not lora_first:
        layers = add_lora(encoder, rank=4)
        assert not any("bottleneck" in name for name in layers)
    fill_adapters(encoder)
    assert {name for name, weight in encoder.named_parameters() if weight.requires_grad} == (
        adapter_state(encoder).keys()
    )
    unmerged = vectors_of(encoder)
    merge_adapters(encoder)
    for modality, found in vectors_of(encoder).items():
        size = unmerged[modality].abs().max()
        assert (found - unmerged[modality]).abs().max() < 1e-5 * size
    assert len(adapter_state(encoder)) == 4 * len(feed_forwards)


def test_what_cannot_be_is_told(made):
    with pytest.raises(UserError, match=r"random:8 has no transformer whose feed-forward is known"):
        add_bottlenecks(create_encoder("random:8"))
    encoder = copy.deepcopy(made["hf"])
    add_bottlenecks(encoder, rank=4)
    with pytest.raises(UserError, match=r"has bottlenecks already"):
        add_bottlenecks(encoder, rank=4)

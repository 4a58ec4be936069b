"""Learned projections: by the formula, in steps, in the fingerprint, in half precision."""

import math

import pytest
import torch
from support.adapted import TinyEncoders, frozen_copy, inputs_of, pull, vectors_of

from extract.encoders.projected import FIRST_LOG_SCALE, ProjectedEncoder, projection
from extract.finetune.kept import run_steps
from extract.precision import set_precision


@pytest.fixture(scope="module")
def made(request):
    return TinyEncoders(request)


@pytest.fixture
def pair(made):
    """A picture model of 32-d vectors beside a text model of 32-d."""
    return made["vit"]


def projected(base, dim=6, layers=1, seed=0, **others):
    """With weights none of which is 0 or 1, so that each of them matters."""
    torch.manual_seed(seed)
    encoder = ProjectedEncoder(base, dim, layers, **others).eval()
    with torch.no_grad():
        for weight in encoder.heads.parameters():
            weight.copy_(torch.randn_like(weight))
    return encoder


def linear(weight, vector, bias=None):
    out = [sum(w * x for w, x in zip(row, vector, strict=True)) for row in weight]
    return out if bias is None else [o + b for o, b in zip(out, bias, strict=True)]


def gelu(x):
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def by_hand(state, layers, vector):
    """The unit vector of one item, in plain numbers."""
    mean = sum(vector) / len(vector)
    spread = math.sqrt(sum((x - mean) ** 2 for x in vector) / len(vector) + 1e-5)
    x = [
        (x - mean) / spread * w + b
        for x, w, b in zip(vector, state["0.weight"], state["0.bias"], strict=True)
    ]
    if layers == 2:
        hidden = [gelu(value) for value in linear(state["2.weight"], x, state["2.bias"])]
        x = linear(state["5.weight"], hidden)
    else:
        x = linear(state["2.weight"], x)
    length = math.sqrt(sum(value**2 for value in x))
    return [value / length for value in x]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("family", ["clip", "cnn", "vit"])
def test_vectors_by_hand(made, family, layers):
    base = made[family]
    encoder = projected(base, 6, layers)
    found, before = vectors_of(encoder), vectors_of(base)
    assert encoder.dims == {"image": 6, "text": 6}
    assert encoder.normalized == {"image": True, "text": True}
    for modality, vectors in found.items():
        state = {k: v.tolist() for k, v in encoder.heads[modality].state_dict().items()}
        expected = [by_hand(state, layers, vector) for vector in before[modality].tolist()]
        torch.testing.assert_close(vectors, torch.tensor(expected), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_two_layers_have_a_hidden_one_of_twice_the_size():
    assert sum(weight.numel() for weight in projection(10, 4, 1).parameters()) == 20 + 10 * 4
    assert sum(weight.numel() for weight in projection(10, 4, 2).parameters()) == (
        20 + (10 * 8 + 8) + 8 * 4
    )
    with pytest.raises(ValueError, match="one layer or two, not 3"):
        projection(10, 4, 3)


def test_what_the_base_prepares_is_prepared(pair):
    encoder = projected(pair)
    for name in ("prepare_image", "prepare_text", "collate", "picture_side", "spec", "token_dims"):
        assert getattr(encoder, name) == getattr(pair, name)
    (scale,) = encoder.log_scales
    assert scale.item() == pytest.approx(FIRST_LOG_SCALE) == pytest.approx(math.log(1 / 0.07))
    assert scale.requires_grad


def test_dropout_only_in_training(pair):
    encoder = projected(pair, layers=2, dropout=0.5)
    assert torch.equal(vectors_of(encoder)["image"], vectors_of(encoder)["image"])
    encoder.heads.train()
    assert not torch.equal(vectors_of(encoder)["image"], vectors_of(encoder)["image"])


def test_gradients_reach_both_heads_and_the_base(pair):
    encoder = projected(pair)
    encoder.zero_grad()
    pull(encoder.encode(inputs_of(encoder))).backward()
    for weight in encoder.heads.parameters():
        assert weight.grad.abs().max() > 0
    for part in ("base.image.", "base.text."):
        reached = [w.grad for name, w in encoder.named_parameters() if name.startswith(part)]
        assert any(grad is not None and grad.abs().max() > 0 for grad in reached)
    encoder.zero_grad()


@pytest.mark.parametrize("family", ["clip", "hf", "cnn", "vit"])
def test_steps_end_with_the_projection(made, family):
    base = made[family]
    encoder = projected(base, layers=2)
    expected = vectors_of(encoder)
    with torch.no_grad():
        for modality, inputs in inputs_of(encoder).items():
            steps = encoder.stages(modality)
            assert len(steps) == len(base.stages(modality)) + 1
            head = set(encoder.heads[modality].parameters())
            assert set(steps[-1].parameters) == head
            assert not any(head & set(step.parameters) for step in steps[:-1])
            found = run_steps(steps, inputs)
            torch.testing.assert_close(found, expected[modality], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["clip", "hf", "cnn", "vit"])
def test_every_weight_is_of_the_side_that_its_tower_is_on(made, family):
    """What moves when a weight moves, against what its name says."""
    encoder = frozen_copy(projected(made[family]))
    before = vectors_of(encoder)
    for modality in ("image", "text"):
        own = {id(weight) for step in encoder.stages(modality) for weight in step.parameters}
        names = [name for name, weight in encoder.named_parameters() if id(weight) in own]
        assert {name.startswith(encoder.image_parts) for name in names} == {modality == "image"}
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name.startswith(encoder.image_parts):
                weight.mul_(1.5).add_(0.01)
    after = vectors_of(encoder)
    assert torch.equal(after["text"], before["text"])
    assert (after["image"] - before["image"]).abs().max() > 1e-3


def test_half_precision_reaches_base_and_heads(made):
    encoder = frozen_copy(projected(made["cnn"]))
    before = vectors_of(encoder)
    # A convolutional picture model keeps full precision, and so does what comes behind it.
    assert set_precision(encoder, "bf16", False) == "image fp32, text bf16"
    types = {
        name: {
            weight.dtype
            for weight_name, weight in encoder.named_parameters()
            if weight_name.startswith((f"base.{name}.", f"heads.{name}."))
        }
        for name in ("image", "text")
    }
    assert types == {"image": {torch.float32}, "text": {torch.bfloat16}}
    after = vectors_of(encoder)
    torch.testing.assert_close(after["image"], before["image"])
    cosines = (after["text"].float() * before["text"]).sum(dim=1)
    assert cosines.min() > 0.99
    assert not torch.equal(after["text"].float(), before["text"])


def test_tokens_are_the_bases_own(made):
    for family in ("clip", "cnn"):
        base = made[family]
        encoder = projected(base)
        assert encoder.token_dims == base.token_dims
        assert set(encoder.token_dims) == {"image", "text"}
        with torch.no_grad():
            for modality, inputs in inputs_of(base).items():
                ours, theirs = (each.encode_tokens(modality, inputs) for each in (encoder, base))
                assert torch.equal(ours[0], theirs[0])
                assert torch.equal(ours[1], theirs[1])


def test_the_fingerprint_sees_all_that_decides_the_vectors(made, pair):
    original = projected(pair)
    fingerprints = [
        pair.fingerprint(),
        original.fingerprint(),
        projected(pair, dim=7).fingerprint(),
        projected(pair, layers=2).fingerprint(),
        projected(pair, seed=1).fingerprint(),
        projected(made["cnn"]).fingerprint(),
    ]
    changed = frozen_copy(original)
    with torch.no_grad():
        next(changed.base.parameters()).add_(1e-3)
    fingerprints.append(changed.fingerprint())
    assert len(set(fingerprints)) == 7
    # Not what only training looks at.
    assert projected(pair, dropout=0.5).fingerprint() == original.fingerprint()
    assert original.identity()["base"] == pair.identity()

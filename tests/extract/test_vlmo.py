"""The VLMo encoder: what must not matter, what must, and what its parts tell of themselves."""

import copy

import pytest
import torch
from support.tiny_vlmo import inputs_of, padded, random_weights, tiny_sizes, tiny_vlmo

from extract.encoders.vlmo.blocks import DropPath
from extract.errors import UserError


@pytest.fixture(scope="module")
def encoders():
    return {"base": tiny_vlmo(relative=True), "base_plus": tiny_vlmo(relative=False)}


@pytest.fixture(params=["base", "base_plus"])
def encoder(encoders, request):
    return encoders[request.param]


def test_a_text_need_not_be_padded(encoder):
    inputs = inputs_of(encoder)
    short, full = inputs["text"], padded(inputs["text"])
    assert short["input_ids"].shape[1] < 20
    torch.testing.assert_close(encoder.encode_text(short), encoder.encode_text(full))
    for one, other in zip(
        encoder.encode_views("text", short), encoder.encode_views("text", full), strict=True
    ):
        torch.testing.assert_close(one, other)
    joint = [encoder.encode_joint(inputs["image"], tokens) for tokens in (short, full)]
    torch.testing.assert_close(*joint)
    alone = {name: value[2:, :3] for name, value in short.items()}
    torch.testing.assert_close(encoder.encode_text(alone)[0], encoder.encode_text(full)[2])


def test_a_joint_sequence_has_its_fixed_length(encoder):
    tokens = inputs_of(encoder)["text"]
    long = padded(tokens, 41)
    with pytest.raises(ValueError, match="texts of 41 places; a joint sequence has 40"):
        encoder.encode_joint(inputs_of(encoder)["image"], long)


def test_both_together_are_more_than_each(encoder):
    inputs = inputs_of(encoder)
    vectors = encoder.encode(inputs)
    for modality in ("image", "text"):
        assert not torch.allclose(vectors["fused"], vectors[modality], atol=0.1)
    other = encoder.encode_joint(inputs["image"].roll(1, 0), inputs["text"])
    assert (other - vectors["fused"]).abs().max() > 0.05
    rolled = {name: value.roll(1, 0) for name, value in inputs["text"].items()}
    other = encoder.encode_joint(inputs["image"], rolled)
    assert (other - vectors["fused"]).abs().max() > 0.05


@pytest.mark.parametrize("modality", ["image", "text"])
def test_stages_are_the_tower(encoder, modality):
    batch = inputs_of(encoder)[modality]
    stages = encoder.stages(modality)
    assert len(stages) == 1 + 4 + 1
    state = batch
    for stage in stages[:3]:
        state = stage.run(state)
    assert state.keys() == ({"hidden", "mask"} if modality == "text" else {"hidden"})
    if modality == "text":  # the third text fills three places only
        state = {name: value[2:, :3] for name, value in state.items()}
        expected = encoder.encode_text(batch)[2:]
    else:
        expected = encoder.encode_image(batch)
    for stage in stages[3:]:
        state = stage.run(state)
    torch.testing.assert_close(state, expected)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_stages_tell_their_weights(encoder, modality):
    names = {weight: name for name, weight in encoder.model.named_parameters()}
    state = inputs_of(encoder)[modality]
    for stage in encoder.stages(modality):
        if isinstance(state, dict) and "hidden" in state:
            state["hidden"] = state["hidden"].detach()
        state = stage.run(state)
        output = state["hidden"] if isinstance(state, dict) else state
        loss = (output * torch.randn(output.shape)).sum()
        gradients = torch.autograd.grad(loss, list(names), allow_unused=True)
        reached = {
            name for name, got in zip(names.values(), gradients, strict=True) if got is not None
        }
        told = {names[weight] for weight in stage.parameters}
        # What base holds, but does not use.
        told -= {"text_embeddings.position_embeddings.weight"} - reached
        assert told == reached


def test_gradients_reach_all_that_is_used(encoder):
    inputs = inputs_of(encoder)
    views = [encoder.encode_views(modality, inputs[modality]) for modality in ("image", "text")]
    scores = [
        scale.exp() * image @ text.T
        for scale, image, text in zip(encoder.log_scales, *views, strict=True)
    ]
    joint = [
        encoder.match_logits(inputs["image"], inputs["text"]),
        encoder.word_logits(inputs["image"], inputs["text"]),
    ]
    loss = sum((part * torch.randn(part.shape)).mean() for part in scores + joint)
    named = dict(encoder.model.named_parameters())
    gradients = torch.autograd.grad(loss, named.values(), allow_unused=True)
    left = {
        name
        for name, got in zip(named, gradients, strict=True)
        if got is None or not got.abs().max()
    }
    relative = encoder.model.sizes.use_relative_position_bias
    assert left == ({"text_embeddings.position_embeddings.weight"} if relative else set())


def test_a_checkpoint_tuned_for_retrieval_has_one_view():
    encoder = tiny_vlmo(heads=())
    inputs = inputs_of(encoder)
    (view,) = encoder.encode_views("image", inputs["image"])
    assert torch.equal(view, encoder.encode_image(inputs["image"]))
    assert encoder.log_scales == (encoder.model.logit_scale,)
    assert encoder.heads == frozenset()
    assert encoder.encode(inputs)["fused"].shape == (3, 32)
    for function, told in ((encoder.match_logits, "ITM"), (encoder.word_logits, "MLM")):
        with pytest.raises(UserError, match=f"vlmo:tiny has no head for .*{told}"):
            function(inputs["image"], inputs["text"])


def test_views_have_their_scales(encoder):
    views = encoder.encode_views("text", inputs_of(encoder)["text"])
    assert len(views) == len(encoder.log_scales) == 2
    assert encoder.log_scales == (encoder.model.logit_scale, encoder.model.logit_vl_scale)
    assert (views[0] - views[1]).abs().max() > 0.05


def test_lower_precision_stays_near(encoder):
    inputs = inputs_of(encoder)
    with torch.no_grad():
        expected = encoder.encode(inputs)
        double = copy.deepcopy(encoder).double()
        exact = double.encode({**inputs, "image": inputs["image"].double()})
        with torch.autocast("cpu", torch.bfloat16):
            mixed = encoder.encode(inputs)
        half = copy.deepcopy(encoder).bfloat16()
        cast = half.encode({**inputs, "image": inputs["image"].bfloat16()})
    for name, vectors in expected.items():
        assert exact[name].dtype == torch.float64
        torch.testing.assert_close(vectors.double(), exact[name], atol=1e-5, rtol=0)
        torch.testing.assert_close(mixed[name].float(), vectors, atol=0.1, rtol=0)
        torch.testing.assert_close(cast[name].float(), vectors, atol=0.1, rtol=0)


def test_branches_are_left_out_in_training_only(encoder):
    encoder, inputs = copy.deepcopy(encoder), inputs_of(encoder)
    rates = [module.rate for module in encoder.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0.1 / 3, 0.2 / 3, 0.1])
    before = encoder.encode_text(inputs["text"])
    encoder.train()
    encoder.model.set_drop_path(0.0)
    torch.testing.assert_close(encoder.encode_text(inputs["text"]), before)
    encoder.model.set_drop_path(0.5)
    torch.manual_seed(0)
    assert not torch.allclose(encoder.encode_text(inputs["text"]), before, atol=1e-3)
    assert torch.equal(encoder.eval().encode_text(inputs["text"]), before)


def test_left_out_branches_are_made_up_for():
    torch.manual_seed(0)
    kept = DropPath(0.25).train()(torch.ones(4000, 1, 2))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert (kept[:, :, 0] == kept[:, :, 1]).all()


def test_the_builder_draws_the_same_weights_again():
    sizes = tiny_sizes()
    one, again, other = (random_weights(sizes, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["pooler.dense.weight"], other["pooler.dense.weight"])

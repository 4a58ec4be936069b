"""Low-rank adapters, merged and not, in every kind of encoder; attention split for their sake."""

import copy
import pickle

import pytest
import torch
from support.adapted import (
    FAMILIES,
    TinyEncoders,
    adapter_state,
    fill_adapters,
    inputs_of,
    pull,
    trainable_share,
    vectors_of,
)
from torch import nn

from extract.encoders import create_encoder
from extract.encoders.attention import ProjectedAttention
from extract.encoders.lora import add_lora, choose_layers, merge_adapters
from extract.errors import UserError


@pytest.fixture(scope="module")
def made(request):
    return TinyEncoders(request)


@pytest.fixture(params=FAMILIES)
def plain(made, request):
    return made[request.param]


@pytest.fixture
def clip(made):
    return copy.deepcopy(made["clip"])


def test_vectors_are_unchanged_at_the_start(plain):
    encoder = copy.deepcopy(plain)
    names = add_lora(encoder, rank=4, dropout=0.3)
    assert len(names) == len(set(names)) > 10
    for each in (plain, encoder):  # with gradients, torch runs both by the same kernels
        next(each.parameters()).requires_grad_()
    before, after = plain.encode(inputs_of(plain)), encoder.encode(inputs_of(encoder))
    assert before.keys() == after.keys()
    for modality, found in after.items():
        assert torch.equal(found, before[modality])
        torch.testing.assert_close(
            vectors_of(encoder)[modality], vectors_of(plain)[modality], atol=1e-5, rtol=1e-5
        )


def test_merged_equals_unmerged_and_looks_like_plain(plain):
    encoder = copy.deepcopy(plain)
    add_lora(encoder, rank=4, alpha=6)
    fill_adapters(encoder)
    unmerged, before = vectors_of(encoder), vectors_of(plain)
    merge_adapters(encoder)
    for modality, found in vectors_of(encoder).items():
        size = before[modality].abs().max()
        assert (unmerged[modality] - before[modality]).abs().max() > 1e-2 * size
        assert (unmerged[modality] - found).abs().max() < 1e-5 * size
    assert list(encoder.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in encoder.modules()] == [type(m) for m in plain.modules()]
    assert adapter_state(encoder) == {}


def test_merging_nothing_gives_the_same_fingerprint(plain):
    encoder = copy.deepcopy(plain)
    merge_adapters(encoder)
    assert encoder.fingerprint() == plain.fingerprint()
    add_lora(encoder, rank=4)
    assert encoder.fingerprint() != plain.fingerprint()
    merge_adapters(encoder)
    assert encoder.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_weights_by_hand(made, family):
    plain, encoder = made[family], copy.deepcopy(made[family])
    names = add_lora(encoder, rank=4, alpha=6)
    fill_adapters(encoder)
    terms, expected = adapter_state(encoder), dict(plain.state_dict())
    for name in names:
        down, up = (terms.pop(f"{name}.lora_{factor}.default.weight") for factor in "AB")
        weight = f"{name}_weight" if f"{name}_weight" in expected else f"{name}.weight"
        product = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)) * 6 / 4
        expected[weight] = expected[weight] + product.reshape(expected[weight].shape)
    assert not terms
    merge_adapters(encoder)
    for name, found in encoder.state_dict().items():
        torch.testing.assert_close(found, expected[name])


def test_adapters_alone_restore_a_fresh_encoder(plain):
    encoder, fresh = copy.deepcopy(plain), copy.deepcopy(plain)
    add_lora(encoder, rank=4, alpha=6)
    fill_adapters(encoder)
    add_lora(fresh, rank=4, alpha=6)
    told = fresh.load_state_dict(adapter_state(encoder), strict=False)
    assert told.unexpected_keys == []
    assert not any("lora_A" in name or "lora_B" in name for name in told.missing_keys)
    assert fresh.fingerprint() == encoder.fingerprint()
    for modality, found in vectors_of(fresh).items():
        assert torch.equal(found, vectors_of(encoder)[modality])


def test_gradients_reach_all_adapters_and_nothing_else(plain):
    encoder = copy.deepcopy(plain)
    add_lora(encoder, rank=4)
    fill_adapters(encoder)
    pull(encoder.encode(inputs_of(encoder))).backward()
    reached = {name for name, weight in encoder.named_parameters() if weight.grad is not None}
    assert reached == adapter_state(encoder).keys()
    assert all(encoder.get_parameter(name).grad.abs().max() > 0 for name in reached)


def test_what_is_done_to_encoders_can_be_done_to_adapted_ones(plain):
    encoder = copy.deepcopy(plain)
    add_lora(encoder, rank=4, dropout=0.5)
    fill_adapters(encoder)
    before = vectors_of(encoder)
    twin = copy.deepcopy(encoder)
    fill_adapters(encoder, "lora_A")  # other values, because others are drawn first
    for modality, found in vectors_of(twin).items():
        assert torch.equal(found, before[modality])  # dropout is off, as in the encoder around it
    pickle.dumps((twin.prepare_image, twin.prepare_text, twin.collate))
    with torch.autocast("cpu", torch.bfloat16):
        half = vectors_of(twin)
    double = twin.double()
    inputs = inputs_of(double)
    with torch.no_grad():
        for modality, found in half.items():
            exact = before[modality]
            assert torch.cosine_similarity(found.float(), exact).min() > 0.99
        text = double.encode_text(inputs["text"])
    torch.testing.assert_close(text.float(), before["text"], atol=1e-4, rtol=1e-4)


def test_the_factor_is_part_of_the_fingerprint(made):
    prints = set()
    for alpha in (4, 8):
        encoder = copy.deepcopy(made["hf"])
        add_lora(encoder, rank=4, alpha=alpha)
        fill_adapters(encoder)
        prints.add(encoder.fingerprint())
    assert len(prints) == 2


def test_a_pattern_chooses_among_the_layers(clip):
    block = "model.visual.transformer.resblocks.1"
    layers = [f"{block}.{part}" for part in ("attn.in_proj", "attn.out_proj")]
    layers += [f"{block}.{part}" for part in ("mlp.c_fc", "mlp.c_proj")]
    assert choose_layers(clip, r"visual.*\.1\.") == layers
    assert len(choose_layers(clip)) == 4 * 2 * 2
    assert add_lora(clip, rank=2, pattern=r"visual.*\.1\.attn\.out") == layers[1:2]
    assert trainable_share(clip) == 2 * (32 + 32) / sum(w.numel() for w in clip.parameters())
    assert sum(isinstance(module, ProjectedAttention) for module in clip.modules()) == 1


def test_convolutions_of_one_pixel_are_layers_too(made):
    names = choose_layers(made["cnn"], "^image")
    model = made["cnn"]
    assert len(names) == 31  # of 16 blocks two each, but the first has one
    assert all(model.get_submodule(name).kernel_size == (1, 1) for name in names)


def test_layers_that_nothing_passes_through_are_left_alone(clip):
    clip.model.transformer.resblocks[0].idle = nn.Linear(32, 32)
    clip.train()
    clip.model.visual.eval()
    assert not any("idle" in name for name in choose_layers(clip))
    assert clip.model.transformer.training
    assert not clip.model.visual.training


def test_what_cannot_be_is_told(clip):
    with pytest.raises(UserError, match=r"'nowhere' is found; some of its 16 layers: model\.vis"):
        add_lora(clip, rank=2, pattern="nowhere")
    with pytest.raises(UserError, match=r"'\(' is no regular expression"):
        add_lora(clip, rank=2, pattern="(")
    with pytest.raises(UserError, match=r"random:8 has no blocks with linear layers"):
        add_lora(create_encoder("random:8"), rank=2)
    add_lora(clip, rank=2)
    with pytest.raises(UserError, match=r"has low-rank adapters already; merge them first"):
        add_lora(clip, rank=2)


def test_rank_8_of_a_real_size_is_under_5_percent():
    import open_clip

    from extract.encoders.clip import ClipEncoder

    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32")
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    encoder = ClipEncoder("clip:test", model.eval(), transform, tokenizer, {})
    assert len(add_lora(encoder, rank=8)) == 2 * 12 * 4
    # Of width d: in_proj 4 d, out_proj 2 d, and each half of the feed-forward 5 d for each rank.
    expected = 12 * 8 * 16 * (768 + 512)
    assert sum(weight.numel() for weight in adapter_state(encoder).values()) == expected
    assert trainable_share(encoder) == pytest.approx(expected / (151_277_313 + expected))
    assert trainable_share(encoder) < 0.05


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("mask", ["none", "bool", "float", "each head", "padding", "both"])
def test_split_attention_equals_torchs(batch_first, bias, cross, mask):
    torch.manual_seed(17)
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first)
    for weight in theirs.parameters():
        nn.init.normal_(weight, std=0.5)
    query = torch.randn((2, 4, 12) if batch_first else (4, 2, 12))
    places = 5 if cross else 4
    other = torch.randn((2, places, 12) if batch_first else (places, 2, 12)) if cross else query
    later = torch.ones(4, places).triu(1).bool()
    masks = {
        "none": {},
        "bool": {"attn_mask": later},
        "float": {"attn_mask": torch.randn(4, places)},
        "each head": {"attn_mask": torch.randn(6, 4, places)},
        "padding": {"key_padding_mask": torch.arange(places).expand(2, -1) > 2},
    }
    masks["both"] = masks["bool"] | masks["padding"]
    ours = ProjectedAttention(theirs)
    for again in (ours, ours.whole()):
        expected, _ = theirs(query, other, other, need_weights=False, **masks[mask])
        found, _ = again(query, other, other, need_weights=False, **masks[mask])
        torch.testing.assert_close(found, expected)

"""Which files are VLMo checkpoints, and what is told of those that are not."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from support.tiny_vlmo import (
    RELATIVE,
    SIZES,
    contained,
    random_weights,
    tiny_sizes,
)

from extract.encoders.vlmo.checkpoint import load_checkpoint
from extract.errors import UserError

SIZES_OF_TEST = tiny_sizes(vocab_size=200)


@pytest.fixture(scope="module")
def weights():
    return random_weights(SIZES_OF_TEST)


def write(folder, content, name="tiny.pt"):
    """A checkpoint of anything; all sizes can be told from the weights of a base."""
    torch.save(content, folder / name)
    return folder / name


def refused(file, told):
    with pytest.raises(UserError, match=told) as caught:
        load_checkpoint(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("container", ["bare", "state_dict", "module", "model"])
def test_every_container_holds_the_same_model(weights, container, tmp_path):
    model = load_checkpoint(write(tmp_path, contained(weights, container)))
    assert model.sizes == SIZES_OF_TEST
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)


def test_safetensors_are_read(weights, tmp_path):
    save_file(weights, tmp_path / "tiny.safetensors")
    model = load_checkpoint(tmp_path / "tiny.safetensors")
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)


def test_half_precision_becomes_single(weights, tmp_path):
    half = {name: weight.half() for name, weight in weights.items()}
    model = load_checkpoint(write(tmp_path, half), pixels=64)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_weights_do_not_share_memory(weights, tmp_path):
    text = weights["itc_text_proj.fc.weight"]
    model = load_checkpoint(write(tmp_path, weights | {"itc_image_proj.fc.weight": text}))
    with torch.no_grad():
        model.itc_text_proj.fc.weight.zero_()
    assert torch.equal(model.itc_image_proj.fc.weight, text)


def test_computed_indices_are_ignored_and_longer_tables_cut(weights, tmp_path):
    # Text-only training has 196 positions, a model for pairs of pictures a third modality.
    positions = torch.randn(196, 32)
    modalities = torch.randn(3, 32)
    more = {
        "text_embeddings.position_ids": torch.arange(196)[None],
        "relative_position_index": torch.zeros(5, 5),
        "text_relative_position_index": torch.zeros(40, 40),
        "text_imag_relative_position_index": torch.zeros(45, 45),
        "text_embeddings.position_embeddings.weight": positions,
        "token_type_embeddings.weight": modalities,
    }
    found = load_checkpoint(write(tmp_path, weights | more)).state_dict()
    assert found.keys() == weights.keys()
    assert torch.equal(found["text_embeddings.position_embeddings.weight"], positions[:40])
    assert torch.equal(found["token_type_embeddings.weight"], modalities[:2])


@pytest.mark.parametrize("heads", [(), ("itm",), ("itc_vl", "mlm")])
def test_heads_may_be_missing_as_a_whole(heads, tmp_path):
    model = load_checkpoint(write(tmp_path, random_weights(SIZES_OF_TEST, heads)))
    assert model.heads == set(heads)


def test_what_does_not_fit_is_listed(weights, tmp_path):
    spoilt = dict(weights)
    for name in (
        "transformer.blocks.1.norm1.bias",
        "logit_vl_scale",
        "pooler.dense.bias",
        "transformer.cls_token",
    ):
        del spoilt[name]
    spoilt["vqa_classifier.0.weight"] = torch.zeros(2, 2)
    spoilt["pooler.dense.weight"] = torch.zeros(32, 31)
    told = refused(write(tmp_path, spoilt), "does not fit a VLMo of 4 layers, 32 dimensions")
    assert (
        "4 missing (logit_vl_scale, pooler.dense.bias, transformer.blocks.1.norm1.bias, "
        "... 1 more); 1 unexpected (vqa_classifier.0.weight); 1 of another shape "
        "(pooler.dense.weight (32, 31) instead of (32, 32))"
    ) in told


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("itc_image_proj.fc.weight", "1 missing"),  # of the heads this one is always needed
        ("itm_score.fc.bias", "1 missing"),
        ("transformer.patch_embed.proj.weight", "none is transformer.patch_embed.proj.weight"),
        ("text_embeddings.word_embeddings.weight", "none is text_embeddings.word_embeddings"),
        ("transformer.blocks.0.mlp_imag.fc1.weight", "none is transformer.blocks.0.mlp_imag"),
        ("relative_position_bias_table", "no published size"),
    ],
)
def test_one_missing_weight_is_told(weights, key, told, tmp_path):
    left = {name: weight for name, weight in weights.items() if name != key}
    refused(write(tmp_path, left), told)


def test_an_architecture_that_is_told_is_not_guessed_anew(weights, tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(SIZES | RELATIVE | {"vocab_size": 200}))
    left = {
        name: weight
        for name, weight in weights.items()
        if name != "relative_position_bias_table" and "blocks.3.mlp_vl" not in name
    }
    refused(
        write(tmp_path, left), r"5 missing \(relative_position_bias_table, transformer.blocks.3"
    )


class Spiteful:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, eval])
def test_code_is_not_run(weights, function, tmp_path):
    trace = tmp_path / "trace"
    argument = str(trace) if function is os.mkdir else f"__import__('os').mkdir({str(trace)!r})"
    file = write(tmp_path, {"state_dict": weights, "callbacks": Spiteful(function, argument)})
    refused(file, "holds more than weights, which could run code, and is not loaded")
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_truncated_files_are_told(weights, share, suffix, tmp_path):
    whole, file = tmp_path / "whole", tmp_path / f"cut.{suffix}"
    torch.save(weights, whole) if suffix == "pt" else save_file(weights, whole)
    data = whole.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    refused(file, r"is damaged or of another format \(.+\); fetch it again")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.zeros(3), "holds a Tensor; expected a state dict"),
        ({}, "holds nothing; expected a state dict"),
        ({"state_dict": {}}, "holds nothing; expected a state dict"),
        ({"weights": {"a": torch.zeros(1)}}, "holds a dict under 'weights'; .* bare or under one"),
        ({"a.weight": torch.zeros(1)}, "is no VLMo: of its 1 weights none is transformer.patch"),
        ({"transformer.patch_embed.proj.weight": torch.zeros(3)}, r"has the shape \(3,\)"),
    ],
)
def test_other_contents_are_told(content, told, tmp_path):
    refused(write(tmp_path, content), told)


def test_other_files_are_told(tmp_path):
    refused(tmp_path, "there is no checkpoint")
    refused(tmp_path / "absent.pt", "there is no checkpoint .*absent.pt; vlmo is written vlmo:FILE")
    (tmp_path / "text.pt").write_text("no checkpoint at all")
    refused(tmp_path / "text.pt", r"is damaged or of another format \(no file of torch.save\)")

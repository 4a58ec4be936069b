"""CLIP fed as the published code fed it: other pixels, a shorter text, the same weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from extract.encoders import create_encoder
from extract.errors import UserError


def make_picture(seed, size):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size)


@pytest.fixture(scope="module")
def right(open_clip_folder):
    return create_encoder(f"clip:{open_clip_folder}")


@pytest.fixture(scope="module")
def paper(open_clip_folder):
    return create_encoder(f"clip-paper:{open_clip_folder}")


@pytest.mark.parametrize("size", [(32, 32), (64, 128), (100, 40), (17, 9)])
def test_pixels_are_squeezed_into_a_square_and_lie_between_minus_one_and_one(paper, size):
    picture = make_picture(3, size)
    squeezed = np.asarray(picture.resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float64)
    expected = ((squeezed / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    pixels = paper.prepare_image(picture)
    assert pixels.shape == (3, 32, 32)
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)


def test_both_ends_of_a_long_picture_are_seen(paper, right):
    wide = Image.new("RGB", (96, 32), "white")
    wide.paste("black", (0, 0, 16, 32))  # outside of the middle that CLIP crops
    assert paper.prepare_image(wide).min() < -0.9
    assert right.prepare_image(wide).min() > 1


def test_texts_are_cut_after_77_characters(paper, right):
    text = "one two three " * 10
    assert paper.prepare_text(text) == right.prepare_text(text[:77])
    assert paper.prepare_text(text) != right.prepare_text(text)
    # The 77th character lies in the middle of a word, which is cut, too.
    long_word = "a" * 70 + " elephant"
    assert paper.prepare_text(long_word) == right.prepare_text("a" * 70 + " elepha")
    assert paper.prepare_text(text[:77]) == right.prepare_text(text[:77])
    # Characters are counted, not bytes, of which these take two each.
    assert paper.prepare_text("é" * 90) == right.prepare_text("é" * 77)


def test_weights_are_the_same_and_the_fingerprint_is_not(paper, right):
    ours, theirs = paper.state_dict(), right.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert paper.fingerprint() != right.fingerprint()
    differing = {
        name for name, value in paper.identity().items() if right.identity().get(name) != value
    }
    assert differing == {"family", "characters", "preprocessing"}


def test_vectors_differ_by_what_is_fed_only(paper, right):
    picture, text = make_picture(5, (64, 128)), "word " * 30
    fed = paper.collate(
        {"image": [paper.prepare_image(picture)], "text": [paper.prepare_text(text)]}
    )
    usual = right.collate(
        {"image": [right.prepare_image(picture)], "text": [right.prepare_text(text)]}
    )
    with torch.no_grad():
        vectors, same, other = paper.encode(fed), right.encode(fed), right.encode(usual)
    for modality in ("image", "text"):
        torch.testing.assert_close(vectors[modality], same[modality], rtol=0, atol=0)
        assert (vectors[modality] - other[modality]).abs().max() > 1e-3


def test_specs_name_the_family(tiny_model_name, weight_file, paper):
    by_file = create_encoder(f"clip-paper:{tiny_model_name}/{weight_file}")
    assert by_file.spec == f"clip-paper:{tiny_model_name}/{weight_file}"
    assert by_file.fingerprint() == paper.fingerprint()
    assert paper.spec.startswith("clip-paper:")
    with pytest.raises(UserError, match=r"clip-paper:ViT-B-16/TAG_OR_FILE; its tags: openai"):
        create_encoder("clip-paper:ViT-B-16")
    with pytest.raises(UserError, match="clip-paper:/nowhere names the folder /nowhere"):
        create_encoder("clip-paper:/nowhere")

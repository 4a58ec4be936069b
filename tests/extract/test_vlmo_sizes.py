"""The sizes of a VLMo checkpoint: inferred, known, told beside it, and another resolution."""

import re

import pytest
import torch
from support.tiny_vlmo import random_weights, tiny_sizes, write_tiny_vlmo

from extract.encoders import create_encoder
from extract.encoders.vlmo.checkpoint import load_checkpoint
from extract.encoders.vlmo.sizes import KNOWN, infer_sizes
from extract.errors import UserError


def refused(file, told):
    with pytest.raises(UserError, match=told) as caught:
        load_checkpoint(file)
    return str(caught.value)


@pytest.mark.parametrize("name", ["tiny.json", "config.json"])
def test_sizes_are_read_beside_the_checkpoint(name, tmp_path):
    file = write_tiny_vlmo(tmp_path, relative=False, vocab_size=200)
    sizes = load_checkpoint(file).sizes
    file.with_suffix(".json").unlink()
    told = refused(file, "4 layers of 32 dimensions, which is no published size")
    assert '{"num_heads": N} to a file beside it' in told
    # That of another model does not speak of num_heads.
    (tmp_path / "config.json").write_text('{"image_size": 999}')
    refused(file, "no published size")
    (tmp_path / name).write_text('{"num_heads": 4, "other": []}')
    assert load_checkpoint(file).sizes == sizes


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "tiny.json is no JSON"),
        ("[1]", "tiny.json holds a list; expected an object"),
        ('{"num_heads": "4"}', "tiny.json gives num_heads as '4'; expected int"),
        ('{"num_heads": true}', "tiny.json gives num_heads as True; expected int"),
        ('{"num_heads": 0}', "has num_heads 0; expected at least 1"),
        ('{"num_heads": 5}', "has embed_dim 32, which is no multiple of its num_heads 5"),
        ('{"depth": 5}', "weights 27 missing"),
        ('{"image_size": 64}', r"relative_position_bias_table \(406, 16\) instead of \(446, 16\)"),
        ('{"max_text_len": 41}', r"position_embeddings.weight \(40, 32\) instead of \(41, 32\)"),
    ],
)
def test_wrong_sizes_are_told(content, told, tmp_path):
    file = tmp_path / "tiny.pt"
    torch.save(random_weights(tiny_sizes(vocab_size=200)), file)
    file.with_suffix(".json").write_text(content)
    refused(file, told)


@pytest.mark.parametrize("relative", [True, False])
def test_pictures_may_have_another_side(relative, tmp_path):
    file = write_tiny_vlmo(tmp_path, relative)
    encoder, larger = (create_encoder(f"vlmo:{file}{side}") for side in ("", "@64"))
    same = create_encoder(f"vlmo:{file}@32")
    assert encoder.fingerprint() == same.fingerprint() != larger.fingerprint()
    assert encoder.picture_side == 32
    assert larger.picture_side == 64
    vectors = larger.encode(
        {
            "image": torch.randn(2, 3, 64, 64),
            "text": larger.collate({"text": [larger.prepare_text("a b")] * 2})["text"],
        }
    )
    assert vectors["fused"].shape == (2, 32)
    # No place of a text alone is moved by it.
    tokens = encoder.collate({"text": [encoder.prepare_text("a red shoe")]})["text"]
    torch.testing.assert_close(encoder.encode_text(tokens), larger.encode_text(tokens))


@pytest.mark.parametrize("side", ["33", "0", "1040", "9" * 30])
def test_sides_that_do_not_suit_are_told(side, tmp_path):
    file = write_tiny_vlmo(tmp_path)
    with pytest.raises(UserError, match="expected a multiple of the side of its patches, 16, at"):
        create_encoder(f"vlmo:{file}@{side}")


def test_a_file_name_may_hold_the_sign(tmp_path):
    file = write_tiny_vlmo(tmp_path, name="tiny@7")
    assert create_encoder(f"vlmo:{file}").picture_side == 32
    assert create_encoder(f"vlmo:{file}@64").picture_side == 64
    with pytest.raises(UserError, match=r"there is no checkpoint .*absent\.pt@big"):
        create_encoder(f"vlmo:{tmp_path}/absent.pt@big")
    with pytest.raises(UserError, match=re.escape("vlmo:FILE[@PIXELS]")):
        create_encoder("vlmo")


def published(name, side=224):
    """The few shapes by which a published checkpoint's sizes are told."""
    sizes = KNOWN[name]
    dim, window = sizes.embed_dim, side // 16
    shapes = {
        "transformer.patch_embed.proj.weight": (dim, 3, 16, 16),
        "transformer.blocks.0.mlp_imag.fc1.weight": (4 * dim, dim),
        f"transformer.blocks.{sizes.depth - 1}.norm1.weight": (dim,),
        "text_embeddings.word_embeddings.weight": (30522, dim),
    }
    if name == "base_plus":
        return shapes | {"transformer.pos_embed": (1, window**2 + 1, dim)}
    rows = {224: 1126, 384: 2606}[side]
    columns = {"base": 144, "large": 384}[name]
    return shapes | {"relative_position_bias_table": (rows, columns)}


@pytest.mark.parametrize("name", ["base", "base_plus", "large"])
@pytest.mark.parametrize("side", [224, 384])
def test_published_sizes_are_known(name, side):
    sizes = infer_sizes(published(name, side), {}, "file.pt")
    assert sizes.image_size == side
    expected = {"base": (12, 10), "base_plus": (16, 21), "large": (16, 21)}[name]
    assert (sizes.num_heads, sizes.vlffn_start_layer_index) == expected
    assert sizes.mlp_hidden_dim == 4 * sizes.embed_dim

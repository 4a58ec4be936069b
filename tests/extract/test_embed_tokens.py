import numpy as np
import pytest
import torch
from support.spelling import Speller, coloured, spelled

from extract.catalog import Catalog
from extract.embed_tokens import embed_tokens, token_plan
from extract.encoders import create_encoder
from extract.errors import UserError
from extract.planning import EmbedOptions, split
from extract.precision import set_precision
from extract.token_shards import TokenWriter


def tokens_of(encoder, catalog, rows=3, dtype="float32", **given):
    """The batches, and per modality the vectors of each item, None where it has none."""
    options = EmbedOptions(**{"workers": 0, "batch_size": 3, **given})
    chunks = split(range(len(catalog)), rows)
    batches = list(embed_tokens(encoder, catalog, chunks, options, dtype))
    found = {name: [] for name in batches[0].tokens}
    for batch in batches:
        for name, ragged in batch.tokens.items():
            for row, present in enumerate(ragged.present):
                found[name].append(ragged.of(row) if present else None)
                assert present or not len(ragged.of(row))
    return batches, found


@pytest.fixture
def holes(catalog):
    images, texts = catalog.images.to_pylist(), catalog.texts.to_pylist()
    images[1], images[2], texts[2], texts[6] = None, "gone.png", " \n", None
    return Catalog.from_columns(catalog.item_ids, texts, images, catalog.folder)


@pytest.mark.parametrize(
    "given", [{}, {"batch_size": 1}, {"rows": 8, "batch_size": 100}, {"rows": 1}, {"workers": 2}]
)
def test_vectors_are_without_padding_and_in_their_place(holes, given):
    batches, found = tokens_of(Speller(), holes, **given)
    assert [item for batch in batches for item in batch.item_ids] == list("abcdefgh")
    contents = [content for batch in batches for content in batch.content]
    assert contents == [holes.content(row) for row in range(8)]
    for row in range(8):
        text, image = found["text"][row], found["image"][row]
        assert (text is None) == (row in (2, 6))
        assert (image is None) == (row in (1, 2))
        if text is not None:
            np.testing.assert_array_equal(text, spelled(holes.text(row)))
        if image is not None:
            np.testing.assert_array_equal(image, coloured(holes.picture(row)))
    assert len({len(image) for image in found["image"] if image is not None}) > 2
    assert not any(batch.problems for batch in batches)


def test_what_repeats_is_encoded_once_per_chunk_and_counted_each_time(catalog):
    rows = [0, 1, 0, 2, 1, 0, 3, 0]
    repeated = Catalog.from_columns(
        list("abcdefgh"),
        [catalog.text(row) for row in rows],
        [catalog.images[row].as_py() for row in rows],
        catalog.folder,
    )
    encoder, counted = Speller(), {"image": 0, "text": 0}

    def progress(modality, count):
        counted[modality] += count

    options = EmbedOptions(workers=0, batch_size=2)
    (first, second) = embed_tokens(
        encoder, repeated, [range(6), [6, 7]], options, progress=progress
    )
    assert encoder.asked == {"image": 3 + 2, "text": 3 + 2}
    assert counted == {"image": 8, "text": 8}
    np.testing.assert_array_equal(first.tokens["text"].of(5), second.tokens["text"].of(1))


def test_halves_are_rounded(catalog):
    exact, half = (
        tokens_of(Speller(scale=1 / 3), catalog, dtype=dtype)[1] for dtype in ("float32", "float16")
    )
    for fine, coarse in zip(exact["text"], half["text"], strict=True):
        assert (fine.dtype, coarse.dtype) == (np.float32, np.float16)
        np.testing.assert_array_equal(fine.astype(np.float16), coarse)


class Broken(Speller):
    """It cannot see the letter f: that of slim fit, of a café, of a fox."""

    def letters_at_places(self, tokens):
        vectors = super().letters_at_places(tokens)
        return torch.where(vectors[..., :1] == ord("f"), torch.nan, vectors)


def test_what_is_not_finite_is_left_out_and_recorded(catalog):
    (batch,), found = tokens_of(Broken(), catalog, rows=8)
    assert [row for row, text in enumerate(found["text"]) if text is None] == [1, 2, 7]
    told = [(each.item_id, each.modality, each.problem) for each in batch.problems]
    assert told == [(item, "text", "not_finite") for item in "bch"]


def test_in_half_precision_that_is_left_for_the_writer_to_refuse(catalog, tmp_path):
    encoder = Broken()
    set_precision(encoder, "bf16")
    (batch,), found = tokens_of(encoder, catalog, rows=8)
    assert np.isnan(found["text"][1]).any()
    assert not batch.problems
    with pytest.raises(UserError, match=r"item 'b' is not finite .* --precision fp32"):
        TokenWriter(tmp_path / "tokens", encoder.token_dims, "float32").write(batch)


def test_precision_and_mode_are_the_encoders(catalog):
    encoder = Speller(scale=1 / 3).train()
    set_precision(encoder, "bf16")
    _, found = tokens_of(encoder, catalog)
    assert encoder.training
    error = np.abs(found["text"][0] / np.maximum(spelled(catalog.text(0), 1 / 3), 1e-9) - 1)
    assert 1e-4 < error[1:].max() < 2**-6


def test_there_must_be_something_to_encode(catalog):
    with pytest.raises(UserError, match="random:4 has no patch or word vectors; leave out --tok"):
        token_plan(create_encoder("random:4"), catalog)
    encoder, none = Speller(), [None] * len(catalog)
    encoder.token_dims = {"image": 3}
    texts = Catalog.from_columns(catalog.item_ids, catalog.texts, none, catalog.folder)
    with pytest.raises(UserError, match="token vectors of image only, of which none of the 8"):
        token_plan(encoder, texts)
    _, found = tokens_of(Speller(), texts)
    assert found.keys() == {"text"}

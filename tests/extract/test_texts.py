"""Strange texts become tokens of a bounded number, in bounded time, or a row in the ledger."""

import time

import numpy as np
import pyarrow as pa
import pytest
import torch

from extract.catalog import Catalog, is_blank
from extract.embed import embed
from extract.encoders import create_encoder
from extract.planning import EmbedOptions

MEGABYTE = 1_000_000
SMILE = "\U0001f600"
LONG = {
    "emoji": SMILE * (MEGABYTE // 4),
    "emoji of many parts": "\U0001f469\u200d\U0001f4bb " * (MEGABYTE // 12),
    "one word": "a" * MEGABYTE,
    "short words": "word " * (MEGABYTE // 5),
    "accents upon accents": "a" + "\u0301" * (MEGABYTE // 2),
    "white space in between": "a" + " " * MEGABYTE + "b",
    "a script without spaces": "\u8d64" * (MEGABYTE // 3),
}
ODD = {
    "NUL": "a\0b",
    "only NUL": "\0",
    "control": "\x01\x02\x1b[2J\x7f",
    "the other way round": "\u202ea b",
    "no character": "\uffff\U0010ffff",
    "replacement": "\ufffd\ufffd",
}
BLANK = ["", " ", "\n\t", "\u3000\xa0\u2003", "\u200b\u200d\ufeff", "\0\x01", "\u202e \u2028"]
SECONDS = 10.0


@pytest.fixture(scope="module")
def encoders(hf_folder, open_clip_folder):
    specs = ("offline", f"hf:{hf_folder}", f"clip:{open_clip_folder}", "random:6")
    return {spec.partition(":")[0]: create_encoder(spec) for spec in specs}


@pytest.fixture(params=["offline", "hf", "clip", "random"])
def encoder(encoders, request):
    return encoders[request.param]


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_megabyte_takes_no_minutes(encoder, text):
    start = time.perf_counter()
    tokens = encoder.prepare_text(text)
    assert time.perf_counter() - start < SECONDS
    assert 1 <= len(tokens) <= 256


def test_strange_texts_become_finite_vectors(encoder):
    tokens = [encoder.prepare_text(text) for text in ODD.values()]
    with torch.no_grad():
        vectors = encoder.encode(encoder.collate({"text": tokens}))["text"]
    assert vectors.shape == (len(ODD), encoder.dims["text"])
    assert torch.isfinite(vectors).all()
    assert (vectors.norm(dim=1) > 0).all()


def test_every_text_is_a_vector_or_a_row_of_the_ledger(encoder, tmp_path):
    texts = [*ODD.values(), *BLANK, None, "a red shoe", SMILE * 1000]
    ids = [f"i{row}" for row in range(len(texts))]
    catalog = Catalog.from_columns(ids, texts, [None] * len(texts), tmp_path)
    batches = list(embed(encoder, catalog, EmbedOptions(fusion="none", workers=0)))
    present = np.concatenate([batch.present["text"] for batch in batches])
    recorded = {problem.item_id for batch in batches for problem in batch.problems}
    assert recorded == {item for item, there in zip(ids, present, strict=True) if not there}
    vectors = np.concatenate([batch.vectors["text"] for batch in batches])
    assert np.isfinite(vectors).all()
    assert {texts[int(item[1:])] for item in recorded} >= {None, "", " ", "\n\t"}


@pytest.mark.parametrize("text", [None, *BLANK])
def test_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize(
    "text", ["a", " a ", "\0a", ".", "\u200b\u8d64", SMILE, "\ufffd", "\U0001fae9", "\u0301"]
)
def test_not_blank(text):
    assert not is_blank(text)


def test_half_a_surrogate_pair_cannot_come_into_a_catalogue(tmp_path):
    """Arrow's strings are UTF-8, which has none; so no tokenizer ever meets one."""
    with pytest.raises(UnicodeEncodeError):
        Catalog.from_columns(["a"], ["x\ud800"], [None], tmp_path)
    offsets = pa.py_buffer(np.array([0, 4], np.int32))
    encoded = pa.StringArray.from_buffers(
        1, offsets, pa.py_buffer("x\ud800".encode(errors="surrogatepass"))
    )
    with pytest.raises(Exception, match="UTF-8"):
        Catalog.from_table(pa.table({"item_id": ["a"], "text": encoded}), tmp_path)

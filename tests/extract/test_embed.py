import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from extract.catalog import Catalog
from extract.embed import embed
from extract.encoders import create_encoder
from extract.encoders.base import Collate, Encoder
from extract.errors import UserError
from extract.fusion import fuse
from extract.ledger import Problem
from extract.loader import default_workers, prepared_batches
from extract.planning import EmbedOptions, plan
from extract.precision import set_precision


class Ruler(Encoder):
    """An encoder with obvious answers: mean colours; the number of tokens and their sum.

    It remembers what it was asked, and its dropout shows whether it is in evaluation mode.
    """

    def __init__(self, dims=None):
        super().__init__(
            "ruler", {"image": False, "text": False}, mean_colour, code_points, Collate()
        )
        self.dims = dims or {"image": 3, "text": 2}
        self.dropout = torch.nn.Dropout(0.999)
        self.linear = torch.nn.Linear(2, 2, bias=False)
        torch.nn.init.eye_(self.linear.weight)
        self.batches = []
        self.types = set()

    def encode_image(self, images):
        self.batches.append(("image", len(images)))
        return self.dropout(images + 1) - 1

    def encode_text(self, tokens):
        mask = tokens["attention_mask"]
        self.batches.append(("text", mask.sum(dim=1).tolist()))
        found = torch.stack([mask.sum(dim=1), (tokens["input_ids"] * mask).sum(dim=1)], dim=1)
        out = self.linear(found.to(self.dtypes["text"]))
        self.types.add(out.dtype)
        return out

    def identity(self):
        return {}


def mean_colour(picture):
    return torch.from_numpy(np.asarray(picture, dtype=np.float32).mean(axis=(0, 1)))


def code_points(text):
    return [ord(letter) for letter in text]


def together(batches):
    """The batches of an iterator as one: ids, vectors, presence, problems, contents."""
    batches = list(batches)
    ids = [item for batch in batches for item in batch.item_ids]
    names = batches[0].vectors
    vectors = {name: np.concatenate([batch.vectors[name] for batch in batches]) for name in names}
    present = {name: np.concatenate([batch.present[name] for batch in batches]) for name in names}
    problems = [problem for batch in batches for problem in batch.problems]
    contents = [content for batch in batches for content in batch.content]
    return ids, vectors, present, problems, contents


def options(**given):
    return EmbedOptions(**{"workers": 0, "batch_size": 3, **given})


@pytest.fixture
def holes(catalog):
    """The catalogue with whatever can be wrong with an item."""
    (catalog.folder / "torn.png").write_bytes((catalog.folder / "3.png").read_bytes()[:60])
    Image.new("1", (9_000, 9_000)).save(catalog.folder / "huge.png")
    images = catalog.images.to_pylist()
    images[1], images[2], images[4], images[5] = None, "gone.png", "torn.png", "huge.png"
    texts = catalog.texts.to_pylist()
    texts[0], texts[2], texts[6] = None, " \n\t", ""
    return Catalog.from_columns(catalog.item_ids, texts, images, catalog.folder)


def test_vectors_are_in_the_catalogues_order(catalog):
    ids, vectors, present, problems, contents = together(
        embed(Ruler(), catalog, options(shard_rows=3, batch_size=2))
    )
    assert ids == list("abcdefgh")
    for row, text in enumerate(catalog.texts.to_pylist()):
        colour = np.asarray(catalog.picture(row), dtype=np.float64).mean(axis=(0, 1))
        np.testing.assert_allclose(vectors["image"][row], colour, rtol=1e-5)
        assert vectors["text"][row].tolist() == [len(text), sum(map(ord, text))]
        assert contents[row] == catalog.content(row)
    assert all(found.all() for found in present.values())
    assert problems == []


def test_batches_keep_to_shards_and_texts_come_longest_first(catalog):
    encoder = Ruler()
    sizes = [len(batch.item_ids) for batch in embed(encoder, catalog, options(shard_rows=5))]
    assert sizes == [5, 3]
    assert [n for kind, n in encoder.batches if kind == "image"] == [3, 2, 3]
    lengths = [n for kind, n in encoder.batches if kind == "text"]
    told = [len(text) for text in catalog.texts.to_pylist()]
    first, last = sorted(told[:5], reverse=True), sorted(told[5:], reverse=True)
    assert lengths == [first[:3], first[3:], last]


@pytest.mark.parametrize(
    "given", [{"batch_size": 1}, {"batch_size": 100}, {"shard_rows": 2}, {"workers": 2}]
)
def test_result_does_not_depend_on_the_circumstances(holes, given):
    """With an encoder that pads: the real contract, not a toy's."""
    encoder = create_encoder("random:5")
    expected = together(embed(encoder, holes, options()))
    found = together(embed(encoder, holes, options(**given)))
    assert found[0] == expected[0]
    for modality in ("image", "text", "fused"):
        np.testing.assert_array_equal(found[2][modality], expected[2][modality])
        np.testing.assert_allclose(found[1][modality], expected[1][modality], atol=1e-6)
    assert sorted(map(str, found[3])) == sorted(map(str, expected[3]))
    assert found[4] == expected[4]


def test_an_items_vector_does_not_depend_on_its_neighbours(hf_folder, catalog):
    """Reordered and doubled, in batches of another size, with padding of another length."""
    encoder = create_encoder(f"hf:{hf_folder}")
    _, expected, _, _, _ = together(embed(encoder, catalog, options(batch_size=8)))
    order = [7, 2, 2, 0, 5, 4, 3, 1, 6, 0, 7]
    mixed = Catalog.from_columns(
        [f"{place}" for place in range(len(order))],
        [catalog.text(row) for row in order],
        [catalog.images[row].as_py() for row in order],
        catalog.folder,
    )
    _, found, _, _, _ = together(
        embed(encoder, mixed, options(batch_size=2, shard_rows=6, workers=1))
    )
    for modality in ("image", "text", "fused"):
        np.testing.assert_allclose(found[modality], expected[modality][order], atol=1e-5)


def test_absent_pictures_and_texts_are_recorded(holes):
    _, vectors, present, problems, _ = together(embed(Ruler(), holes, options(fusion="concat")))
    assert present["image"].tolist() == [True, False, False, True, False, False, True, True]
    assert present["text"].tolist() == [False, True, False, True, True, True, False, True]
    both = present["image"] & present["text"]
    np.testing.assert_array_equal(present["fused"], both)
    kinds = {(problem.item_id, problem.modality): problem.problem for problem in problems}
    assert kinds == {
        ("b", "image"): "missing",
        ("c", "image"): "missing",
        ("e", "image"): "unreadable",
        ("f", "image"): "too_large",
        ("a", "text"): "empty",
        ("c", "text"): "empty",
        ("g", "text"): "empty",
    }
    assert len(problems) == len(kinds)
    assert Problem("c", "image", "missing", "there is no file gone.png") in problems
    expected = fuse(
        "concat", torch.from_numpy(vectors["image"][both]), torch.from_numpy(vectors["text"][both])
    )
    np.testing.assert_allclose(vectors["fused"][both], expected.numpy(), atol=1e-6)
    assert not vectors["fused"][~both].any()


def test_pictures_and_texts_that_repeat_are_encoded_once_per_shard(catalog):
    rows = [0, 1, 0, 2, 1, 0, 3, 0]
    repeated = Catalog.from_columns(
        [f"{place}" for place in range(len(rows))],
        [catalog.text(row) for row in rows],
        [catalog.images[row].as_py() for row in rows],
        catalog.folder,
    )
    encoder = Ruler()
    counted = {"image": 0, "text": 0}

    def progress(modality, count):
        counted[modality] += count

    given = options(batch_size=3, shard_rows=6)
    _, found, present, _, _ = together(embed(encoder, repeated, given, progress=progress))
    assert sum(n for kind, n in encoder.batches if kind == "image") == 3 + 2
    assert sum(len(n) for kind, n in encoder.batches if kind == "text") == 3 + 2
    assert counted == {"image": 8, "text": 8}
    _, expected, _, _, _ = together(embed(Ruler(), catalog, options()))
    for modality in ("image", "text"):
        assert present[modality].all()
        np.testing.assert_array_equal(found[modality], expected[modality][rows])


def test_chunks_of_any_rows_are_encoded_in_their_order(catalog):
    chunks = [np.array([5, 1]), [0], np.array([7, 6, 2])]
    batches = list(embed(Ruler(), catalog, options(batch_size=2), chunks=chunks))
    assert [batch.item_ids for batch in batches] == [["f", "b"], ["a"], ["h", "g", "c"]]
    _, expected, _, _, _ = together(embed(Ruler(), catalog, options()))
    rows = np.concatenate(chunks)
    _, found, _, _, contents = together(batches)
    np.testing.assert_array_equal(found["image"], expected["image"][rows])
    np.testing.assert_array_equal(found["text"], expected["text"][rows])
    assert contents == [catalog.content(int(row)) for row in rows]


def test_large_jpegs_are_decoded_to_what_the_encoder_needs(tmp_path):
    """The Ruler that wants 16 pixels sees the mean of a picture of a quarter of the size."""
    Image.linear_gradient("L").resize((512, 256)).convert("RGB").save(tmp_path / "a.jpg")
    catalog = Catalog.from_columns(["a"], [None], ["a.jpg"], tmp_path)
    sizes = []

    class Sized(Ruler):
        def __init__(self, side):
            super().__init__({"image": 3})
            self.picture_side = side
            self.prepare_image = lambda picture: sizes.append(picture.size) or mean_colour(picture)

    for side in (None, 16, 100):
        (batch,) = embed(Sized(side), catalog, options())
        np.testing.assert_allclose(batch.vectors["image"], 127.5, atol=1.5)
    assert sizes == [(512, 256), (64, 32), (512, 256)]


def test_threads_of_pytorch_are_as_before(catalog):
    """Also those that a thread started later finds: each thread has a number of its own."""

    def in_a_new_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(embed(Ruler(), catalog, options(workers=2)))
        assert (torch.get_num_threads(), in_a_new_thread()) == (2, 2)
    finally:
        torch.set_num_threads(before)


def test_the_loader_of_a_gpu_gives_the_same_batches(catalog):
    """Its worker processes need no GPU, and pinning memory is left out where there is none."""
    encoder = create_encoder("random:5")
    batches = [[0, 3], [5], [7, 1, 2]]
    found = {}
    for device, workers in (("cpu", 0), ("cpu", 2), ("cuda", 2)):
        given = (encoder, catalog, ["image", "text"], batches, workers, torch.device(device))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no GPU
            found[device, workers] = list(prepared_batches(*given))
    expected = found.pop(("cpu", 0))
    for batches_of in found.values():
        for batch, plain in zip(batches_of, expected, strict=True):
            torch.testing.assert_close(batch.images, plain.images)
            assert (batch.contents, batch.tokens) == (plain.contents, plain.tokens)
            assert batch.image_digests == plain.image_digests


def test_a_vector_that_is_not_finite_is_recorded(catalog):
    class Broken(Ruler):
        def encode_text(self, tokens):
            vectors = super().encode_text(tokens)
            return torch.where(vectors[:, :1] == 1, torch.nan, vectors)

    (batch,) = embed(Broken(), catalog, options())
    place = catalog.texts.to_pylist().index("x")
    assert np.flatnonzero(~batch.present["text"]).tolist() == [place]
    assert np.flatnonzero(~batch.present["fused"]).tolist() == [place]
    (problem,) = batch.problems
    assert (problem.item_id, problem.modality, problem.problem) == ("d", "text", "not_finite")
    assert problem.bad


def test_progress_counts_every_item_once_per_modality(holes):
    counted = {"image": 0, "text": 0}

    def progress(modality, count):
        assert count > 0
        counted[modality] += count

    list(embed(Ruler(), holes, options(shard_rows=3), progress=progress))
    assert counted == {"image": 8, "text": 8}


def test_a_modality_of_which_there_is_nothing_is_left_out(catalog):
    none = [None] * len(catalog)
    counted = set()
    texts = Catalog.from_columns(catalog.item_ids, catalog.texts, none, catalog.folder)
    (batch,) = embed(Ruler(), texts, options(), progress=lambda name, count: counted.add(name))
    assert batch.vectors.keys() == {"text"}
    assert batch.problems == []
    assert counted == {"text"}
    assert plan(Ruler(), texts, options()).fusion is None
    pictures = Catalog.from_columns(catalog.item_ids, none, catalog.images, catalog.folder)
    (batch,) = embed(Ruler(), pictures, options())
    assert batch.vectors.keys() == {"image"}
    # The digest speaks of the whole item all the same.
    (batch,) = embed(Ruler({"text": 2}), catalog, options())
    assert list(batch.content) == [catalog.content(row) for row in range(len(catalog))]
    with pytest.raises(UserError, match="needs pictures and texts, found only text"):
        plan(Ruler(), texts, options(fusion="mean"))
    with pytest.raises(UserError, match="none of the 8 items has a picture or a text"):
        list(
            embed(
                Ruler(),
                Catalog.from_columns(catalog.item_ids, none, none, catalog.folder),
                options(),
            )
        )


def test_fusion_is_chosen_by_the_sizes(catalog):
    unequal = plan(Ruler(), catalog, options())
    assert (unequal.fusion, unequal.dims) == ("concat", {"image": 3, "text": 2, "fused": 5})
    equal = plan(create_encoder("random:4"), catalog, options())
    assert (equal.fusion, equal.dims["fused"], equal.normalized["fused"]) == ("mean", 4, False)
    assert plan(Ruler(), catalog, options(fusion="none")).dims == {"image": 3, "text": 2}
    with pytest.raises(UserError, match="found 3 and 2; use --fusion concat"):
        plan(Ruler(), catalog, options(fusion="product"))


def test_mode_is_evaluation_meanwhile_and_restored(catalog):
    encoder = Ruler().train()
    _, found, _, _, _ = together(embed(encoder, catalog, options()))
    assert encoder.training
    _, again, _, _, _ = together(embed(encoder.eval(), catalog, options()))
    assert not encoder.training
    np.testing.assert_array_equal(found["image"], again["image"])
    batches = embed(encoder.train(), catalog, options(shard_rows=2))
    next(batches)
    batches.close()
    assert encoder.training


def test_nothing_of_the_graph_is_kept(catalog):
    encoder = Ruler()
    list(embed(encoder, catalog, options()))
    assert encoder.linear.weight.grad is None
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("precision", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_arithmetic(catalog, precision, kind):
    encoder = Ruler()
    assert set_precision(encoder, precision) == precision
    (batch,) = embed(encoder, catalog, options())
    assert encoder.types == {kind}
    assert batch.vectors["text"].dtype == np.float32
    assert encoder.linear.weight.dtype == kind
    exact = np.array([[len(text), sum(map(ord, text))] for text in catalog.texts.to_pylist()])
    error = np.abs(batch.vectors["text"] / exact - 1).max()
    # bfloat16 keeps 8 bits, so it must be wrong a little, and only a little.
    assert error == 0 if precision == "fp32" else 0 < error < 2**-7


def test_workers_by_default(monkeypatch):
    import os

    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for cores, on_cpu, on_gpu in ((1, 1, 0), (2, 2, 1), (8, 8, 7), (64, 32, 32)):
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False
        )
        assert (default_workers(cpu), default_workers(gpu)) == (on_cpu, on_gpu)


def test_options_are_checked():
    from pydantic import ValidationError

    for wrong in (
        {"batch_size": 0},
        {"workers": -1},
        {"precision": "fp8"},
        {"shard_rows": 0},
        {"x": 1},
    ):
        with pytest.raises(ValidationError):
            EmbedOptions(**wrong)

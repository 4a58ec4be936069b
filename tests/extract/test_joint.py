"""The fused column of an encoder that sees pictures and texts together."""

import numpy as np
import pytest
import torch
from support.joint import Pairer, pair_vector
from support.tiny_vlmo import write_tiny_vlmo

from extract.catalog import Catalog
from extract.embed import embed
from extract.encoders import ENCODERS, Family, create_encoder
from extract.errors import UserError
from extract.fusion import fuse
from extract.loader import DECODING
from extract.planning import EmbedOptions, plan
from extract.precision import set_precision
from extract.ray_worker import EncodingWorker, Recipe


def options(**given):
    return EmbedOptions(**{"workers": 0, "batch_size": 3, **given})


def fused(batches):
    """Vectors and presence of the fused column, all shards together."""
    batches = list(batches)
    vectors = np.concatenate([batch.vectors["fused"] for batch in batches])
    return vectors, np.concatenate([batch.present["fused"] for batch in batches])


@pytest.fixture
def holes(catalog):
    """Four items have a picture and a text, the others lack one of them or both."""
    (catalog.folder / "torn.png").write_bytes((catalog.folder / "3.png").read_bytes()[:60])
    images, texts = catalog.images.to_pylist(), catalog.texts.to_pylist()
    images[1], images[2], images[4] = None, "gone.png", "torn.png"
    texts[2], texts[6] = " \n", None
    return Catalog.from_columns(catalog.item_ids, texts, images, catalog.folder)


@pytest.mark.parametrize(
    "given", [{}, {"batch_size": 1}, {"batch_size": 100}, {"shard_rows": 3}, {"workers": 2}]
)
def test_joint_vectors_are_those_of_each_pair_alone(holes, given):
    encoder = Pairer()
    vectors, present = fused(embed(encoder, holes, options(**given)))
    assert np.flatnonzero(present).tolist() == [0, 3, 5, 7]
    for row in (0, 3, 5, 7):
        expected = pair_vector(encoder, holes.picture(row), holes.text(row))
        np.testing.assert_allclose(vectors[row], expected, atol=1e-6)
    assert np.ptp(vectors[present], axis=0).min() > 0.01


def test_a_vlmo_is_such_an_encoder(holes, tmp_path):
    encoder = create_encoder(f"vlmo:{write_tiny_vlmo(tmp_path)}")
    assert plan(encoder, holes, options()).fusion == "joint"
    vectors, present = fused(embed(encoder, holes, options()))
    assert np.flatnonzero(present).tolist() == [0, 3, 5, 7]
    for row in (0, 3, 5, 7):
        expected = pair_vector(encoder, holes.picture(row), holes.text(row))
        np.testing.assert_allclose(vectors[row], expected, atol=1e-5)


def test_pairs_that_repeat_are_encoded_once_per_shard(catalog):
    """Of a picture with two texts there are two pairs, and one picture."""
    images = [catalog.images[row].as_py() for row in (0, 0, 1, 0, 0, 1)]
    texts = ["a shoe", "a hat", "a hat", "a shoe", "a hat", "a hat"]
    repeated = Catalog.from_columns(list("abcdef"), texts, images, catalog.folder)
    encoder = Pairer()
    counted = []
    vectors, present = fused(
        embed(
            encoder,
            repeated,
            options(batch_size=2, shard_rows=5),
            progress=lambda modality, count: counted.append((modality, count)),
        )
    )
    assert encoder.asked == {"image": 2 + 1, "text": 2 + 1, "fused": 3 + 1}
    assert present.all()
    np.testing.assert_array_equal(vectors[[0, 1]], vectors[[3, 4]])
    assert len(np.unique(vectors[:5].round(5), axis=0)) == 3
    # An item is through once per modality, whatever towers see it.
    totals = {name: sum(n for of, n in counted if of == name) for name, _ in counted}
    assert totals == {"image": 6, "text": 6}


def test_fusion_is_the_encoders_own_unless_told(catalog):
    encoder = Pairer(unit=True)
    for fusion in ("auto", "joint"):
        what = plan(encoder, catalog, options(fusion=fusion))
        assert (what.fusion, what.dims["fused"]) == ("joint", 4)
        assert what.normalized == {"image": False, "text": False, "fused": True}
        assert (what.encoded, what.towers) == (("image", "text"), ("image", "text", "fused"))
    what = plan(encoder, catalog, options(fusion="concat"))
    assert (what.fusion, what.dims["fused"], what.normalized["fused"]) == ("concat", 5, False)
    (batch,) = embed(encoder, catalog, options(fusion="concat"))
    pair = (torch.from_numpy(batch.vectors[name]) for name in ("image", "text"))
    np.testing.assert_allclose(batch.vectors["fused"], fuse("concat", *pair).numpy(), atol=1e-6)
    assert encoder.asked["fused"] == 0
    (batch,) = embed(encoder, catalog, options(fusion="none"))
    assert batch.vectors.keys() == {"image", "text"}


def test_joint_vectors_need_a_joint_tower_and_both_modalities(catalog):
    with pytest.raises(UserError, match="together, which random:4 has not; use --fusion auto"):
        plan(create_encoder("random:4"), catalog, options(fusion="joint"))
    none = [None] * len(catalog)
    texts = Catalog.from_columns(catalog.item_ids, catalog.texts, none, catalog.folder)
    assert plan(Pairer(), texts, options()).dims == {"text": 2}
    with pytest.raises(UserError, match="'joint' needs pictures and texts, found only text"):
        plan(Pairer(), texts, options(fusion="joint"))


def test_what_is_not_finite_is_recorded_once(catalog):
    class Broken(Pairer):
        def encode_image(self, images):
            return torch.where(images[:, :1] == self.broken, torch.nan, images)

        def encode_joint(self, images, tokens):
            found = super().encode_joint(images, tokens)
            bad = (images[:, :1] == self.broken) | (tokens["input_ids"][:, :1] == ord("x"))
            return torch.where(bad, torch.nan, found)

    encoder = Broken()
    encoder.broken = encoder.prepare_image(catalog.picture(6))[0]
    (batch,) = embed(encoder, catalog, options())
    assert np.flatnonzero(~batch.present["fused"]).tolist() == [3, 6]
    told = [(each.item_id, each.modality, each.problem) for each in batch.problems]
    # The item whose picture has no vector lacks the joint one as a matter of course.
    assert told == [("g", "image", "not_finite"), ("d", "fused", "not_finite")]


def test_half_precision_is_that_of_the_joint_tower(catalog):
    encoder = Pairer(unit=True)
    (exact,) = embed(encoder, catalog, options())
    assert set_precision(encoder, "bf16") == "bf16"
    (half,) = embed(encoder, catalog, options())
    assert encoder.types == {torch.float32, torch.bfloat16}
    difference = np.abs(half.vectors["fused"] - exact.vectors["fused"]).max()
    assert 0 < difference < 0.05
    # bfloat16 rounds the length, which is put right again.
    np.testing.assert_allclose(np.linalg.norm(half.vectors["fused"], axis=1), 1, atol=1e-5)


def test_pixels_have_the_precision_of_the_picture_side(catalog):
    encoder = Pairer(convolutional=True)
    assert set_precision(encoder, "bf16") == "image fp32, text bf16, fused bf16"
    (batch,) = embed(encoder, catalog, options())
    assert encoder.types == {torch.float32}
    assert batch.present["fused"].all()


def test_a_worker_of_a_cluster_gives_the_same(catalog, monkeypatch):
    monkeypatch.setitem(ENCODERS, "pairer", Family("pairer", "a test's", lambda name: Pairer()))
    (expected,) = embed(Pairer(), catalog, options(), chunks=[[1, 5]])
    identity = {"spec": "pairer", "model": Pairer().fingerprint(), "precision": "fp32"}
    recipe = Recipe({**identity, "decoding": DECODING}, options(), "cpu", 1, 0, ".", {})
    _, batch = EncodingWorker(recipe).encode(catalog, [1, 5])
    np.testing.assert_array_equal(batch.vectors["fused"], expected.vectors["fused"])
    assert batch.present["fused"].all()

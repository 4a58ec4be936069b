"""Items' vectors as leaves: which rows, of what, how often encoded, and where gradients go."""

from functools import partial

import numpy as np
import pytest
import torch
from support.two_towers import (
    BOTH,
    CPU,
    NO_TEXT,
    TwoTowers,
    assert_same_gradients,
    gradients,
    having,
    plain_rows,
    two_pass,
    write_items,
)

from extract.finetune.inputs import read_inputs
from extract.finetune.two_pass import TwoPass

FUSED = (*BOTH, "fused")
# Rows in no order; 9 and 2 have no picture, 4 no text, 11 neither.
ROWS = np.array([9, 0, 13, 4, 7, 2, 11, 5])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_items(tmp_path_factory.mktemp("items"))


def watched(passes, monkeypatch):
    """Counts, from now on, how many items each tower is given at once."""
    asked, encode = [], passes._encode

    def counted(modality, batch):
        vectors = encode(modality, batch)
        asked.append((modality, len(vectors), vectors.requires_grad))
        return vectors

    monkeypatch.setattr(passes, "_encode", counted)
    return asked


def pull(leaves, weight=1.0):
    """A loss in which every entry counts differently."""
    return (
        sum(
            (leaf * torch.arange(leaf.numel(), dtype=leaf.dtype).cos().reshape(leaf.shape)).sum()
            for _, leaf in leaves.values()
        )
        * weight
    )


def plain_pull(encoder, catalog, leaves, chunk=None):
    """The same loss of vectors in one graph."""
    found = {}
    for name, (rows, _) in leaves.items():
        vectors = plain_rows(encoder, catalog, name, rows, chunk)
        found[name] = rows, torch.stack([vectors[row] for row in rows])
    return pull(found)


@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("keep", ["states", "inputs", "nothing"])
def test_leaves_are_the_vectors_of_the_rows_that_have_the_modality(catalog, chunk, keep):
    encoder = TwoTowers()
    leaves = two_pass(encoder, catalog, chunk, keep=keep).leaves(ROWS)
    assert list(leaves) == ["image", "text"]
    for name, (rows, leaf) in leaves.items():
        assert sorted(rows.tolist()) == sorted(set(ROWS.tolist()) & set(having(name)))
        assert leaf.is_leaf
        assert leaf.requires_grad
        expected = plain_rows(encoder, catalog, name, rows, 1)
        for row, vector in zip(rows, leaf, strict=True):
            torch.testing.assert_close(vector, expected[row], rtol=1e-12, atol=1e-12)


def test_rows_of_the_joint_tower_have_both(catalog):
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, 3, FUSED)
    assert {name: rows.tolist() for name, rows in passes.rows.items()} == {
        name: having(name) for name in FUSED
    }
    rows, leaf = passes.leaves(ROWS)["fused"]
    assert sorted(rows.tolist()) == [0, 5, 7, 13]
    expected = plain_rows(encoder, catalog, "fused", rows, None)
    torch.testing.assert_close(leaf, torch.stack([expected[row] for row in rows]))


@pytest.mark.parametrize("chunk", [3, None])
@pytest.mark.parametrize("rows", [[11], []])
def test_rows_that_have_nothing(catalog, chunk, rows):
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, chunk, FUSED)
    leaves = passes.leaves(np.array(rows, np.int64))
    assert {name: leaf.shape for name, (_, leaf) in leaves.items()} == {
        name: (0, encoder.dims[name]) for name in FUSED
    }
    assert {leaf.dtype for _, leaf in leaves.values()} == {torch.float64}
    pull(leaves).backward()
    passes.push()
    assert set(gradients(encoder).values()) == {None}


@pytest.mark.parametrize(
    ("chunk", "asked"),
    [
        (1, {"image": [1] * 5, "text": [1] * 6}),
        (4, {"image": [4, 1], "text": [4, 2]}),
        (5, {"image": [5], "text": [5, 1]}),
        (None, {"image": [5], "text": [6]}),
    ],
)
def test_how_often_items_are_encoded(catalog, monkeypatch, chunk, asked):
    """Twice; where they fit a chunk once, and that chunk keeps its graph."""
    passes = two_pass(TwoTowers(), catalog, chunk)
    seen = watched(passes, monkeypatch)
    leaves = passes.leaves(ROWS)
    once = {name: len(sizes) == 1 for name, sizes in asked.items()}
    first = [(name, size, once[name]) for name in asked for size in asked[name]]
    assert seen == first
    pull(leaves).backward()
    passes.push()
    again = [(name, size, True) for name in asked for size in asked[name] if not once[name]]
    assert seen == first + again


def test_the_longest_texts_go_first(catalog):
    """Of neighbours in length there is little padding."""
    encoder, seen = TwoTowers(), []
    passes, collate = two_pass(encoder, catalog, 2), encoder.collate

    def watched_collate(prepared):
        tokens = collate(prepared)
        seen.append(tokens["text"]["input_ids"].shape[1])
        return tokens

    encoder.collate = watched_collate
    passes.leaves(ROWS)
    lengths = sorted((len(catalog.text(row)) for row in ROWS if row not in NO_TEXT), reverse=True)
    assert seen == lengths[::2]


def test_what_is_trained(catalog):
    passes = two_pass(TwoTowers(), catalog, 3, FUSED)
    encoder = passes.inputs.encoder

    def trained(*parts):
        for name, weight in encoder.named_parameters():
            weight.requires_grad_(any(part in name for part in parts))
        return {name for name in FUSED if passes.is_trained(name)}

    assert trained("image_top") == {"image", "fused"}
    assert trained("text_low") == {"text", "fused"}
    assert trained("joint") == {"fused"}
    assert trained() == set()


@pytest.mark.parametrize("keep", ["states", "inputs", "nothing"])
def test_a_frozen_tower_has_no_leaf_and_is_not_asked(catalog, monkeypatch, keep):
    encoder = TwoTowers()
    encoder.text_low.requires_grad_(False)
    encoder.text_top.requires_grad_(False)
    passes = two_pass(encoder, catalog, 3, keep=keep)
    assert [passes.is_trained(name) for name in BOTH] == [True, False]
    seen = watched(passes, monkeypatch)
    leaves = passes.leaves(ROWS)
    assert set(leaves) == {name for name, *_ in seen} == {"image"}
    pull(leaves).backward()
    passes.push()
    found = gradients(encoder)
    assert {name for name, gradient in found.items() if gradient is not None} == {
        name for name in found if name.startswith("image")
    }


@pytest.mark.parametrize("chunk", [3, None])
def test_a_modality_that_the_loss_does_not_see(catalog, monkeypatch, chunk):
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, chunk)
    leaves = passes.leaves(ROWS)
    leaves["text"][1].sum().backward()
    seen = watched(passes, monkeypatch)
    passes.push()
    assert {name for name, *_ in seen} == ({"text"} if chunk else set())
    found = gradients(encoder)
    assert all((g is None) == (not name.startswith("text")) for name, g in found.items())


def test_a_push_without_leaves_or_a_second_one_does_nothing(catalog):
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, 3)
    passes.push()
    assert set(gradients(encoder).values()) == {None}
    pull(passes.leaves(ROWS)).backward()
    passes.push()
    before = gradients(encoder)
    passes.push()
    assert_same_gradients(gradients(encoder), before, 0.0)


def test_only_the_latest_leaves_are_pushed(catalog):
    """Of a step that was broken off nothing is left."""
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, 3)
    pull(passes.leaves(ROWS[:4]), 100.0).backward()
    leaves = passes.leaves(ROWS)
    pull(leaves).backward()
    passes.push()
    found = gradients(encoder)
    encoder.zero_grad()
    plain_pull(encoder, catalog, leaves).backward()
    assert_same_gradients(found, gradients(encoder))


def test_gradients_are_added_to_those_that_are_there(catalog):
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, 3, FUSED)
    for _ in range(2):
        leaves = passes.leaves(ROWS)
        pull(leaves).backward()
        passes.push()
    found = gradients(encoder)
    encoder.zero_grad()
    (2 * plain_pull(encoder, catalog, leaves)).backward()
    assert_same_gradients(found, gradients(encoder))


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_what_is_drawn_between_the_passes_does_not_matter(catalog, chunk):
    encoder = TwoTowers(0.5)
    passes = two_pass(encoder, catalog, chunk)
    encoder.train()
    torch.manual_seed(3)
    leaves = passes.leaves(ROWS)
    drawn = torch.rand(2)
    pull(leaves).backward()
    torch.manual_seed(8)
    passes.push()
    after = torch.rand(1)
    found = gradients(encoder)
    encoder.zero_grad()
    torch.manual_seed(3)
    plain_pull(encoder, catalog, leaves, chunk).backward()
    assert_same_gradients(found, gradients(encoder))
    assert torch.equal(drawn, torch.rand(2))
    torch.manual_seed(8)
    assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize(
    ("keep", "reading", "step"), [("states", 11, 0), ("inputs", 11, 0), ("nothing", 11, 5)]
)
@pytest.mark.parametrize("chunk", [2, None])
def test_how_often_pictures_are_decoded(catalog, keep, reading, step, chunk):
    """Pixels that are not kept are decoded once a step, for both passes."""
    encoder, decoded = TwoTowers(), []
    prepare = encoder.prepare_image
    encoder.prepare_image = lambda picture: decoded.append(1) or prepare(picture)
    passes = two_pass(encoder, catalog, chunk, keep=keep)
    assert len(decoded) == reading
    for _ in range(2):
        del decoded[:]
        pull(passes.leaves(ROWS)).backward()
        passes.push()
        assert len(decoded) == step


@pytest.mark.parametrize("name", FUSED)
def test_vectors_without_a_graph(catalog, name):
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, 2, FUSED)
    rows = np.array([13, 0, 5, 7])
    for chunk in (1, 3, 99):
        found = passes.vectors(name, rows, chunk)
        assert not found.requires_grad
        expected = plain_rows(encoder, catalog, name, rows, None)
        torch.testing.assert_close(found, torch.stack([expected[row] for row in rows]).detach())
    assert passes.vectors(name, rows[:0], 3).shape == (0, encoder.dims[name])


def test_vectors_in_between_leave_the_leaves_alone(catalog):
    encoder = TwoTowers()
    passes = two_pass(encoder, catalog, 2)
    leaves = passes.leaves(ROWS)
    passes.vectors("image", np.array([0, 1]), 1)
    pull(leaves).backward()
    passes.push()
    found = gradients(encoder)
    encoder.zero_grad()
    plain_pull(encoder, catalog, leaves).backward()
    assert_same_gradients(found, gradients(encoder))


@pytest.mark.parametrize("chunk", [2, None])
def test_half_precision(catalog, chunk):
    """The loss has float32; both passes have the arithmetic of the context."""
    encoder = TwoTowers().float()
    encoder.dtypes = dict.fromkeys(encoder.dtypes, torch.float32)
    half = partial(torch.autocast, "cpu", torch.bfloat16)
    inputs = read_inputs(encoder, catalog, CPU, 0)
    found = {}
    for context in (half, partial(torch.autocast, "cpu", enabled=False)):
        passes = TwoPass(inputs, BOTH, chunk, context)
        encoder.zero_grad()
        leaves = passes.leaves(ROWS)
        assert {leaf.dtype for _, leaf in leaves.values()} == {torch.float32}
        pull(leaves).backward()
        passes.push()
        found[context] = leaves, gradients(encoder)
    (halved, rough), (leaves, exact) = found.values()
    for name, (_, leaf) in leaves.items():
        assert not torch.equal(halved[name][1], leaf)
        torch.testing.assert_close(halved[name][1], leaf, rtol=0.05, atol=0.05)
    assert_same_gradients(rough, exact, 0.1)
    with pytest.raises(AssertionError):
        assert_same_gradients(rough, exact, 1e-5)

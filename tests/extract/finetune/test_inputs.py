"""What items show and say made ready: items that lack a modality, what is kept, what falls back."""

import copy

import numpy as np
import pytest
import torch
from support.adapted import TinyEncoders, frozen_copy, pull
from support.tiny_clip import paint, text_of, two_colours

from extract.catalog import Catalog
from extract.encoders.adaptation import Adaptation, adapt
from extract.errors import UserError
from extract.finetune.inputs import read_inputs
from extract.finetune.kept import Kept
from extract.finetune.optimizer import choose_trained
from extract.finetune.options import TuneOptions

CPU = torch.device("cpu")
ITEMS = 24
NO_PICTURE = {2, 9, 10, 23}
BROKEN = 5
NO_TEXT = {0, 9, 17}
PICTURES = [row for row in range(ITEMS) if row not in NO_PICTURE | {BROKEN}]
TEXTS = [row for row in range(ITEMS) if row not in NO_TEXT]
ROWS = {"image": PICTURES, "text": TEXTS}
# In no order, again in another batch, and some that lack the other modality.
WANTED = {
    "image": [[7, 0, 4], [17], [22, 4, 3, 0]],
    "text": [[7, 10, 4], [23], [22, 4, 2, 10, 5]],
}
KEEPS = ["states", "inputs", "nothing"]


@pytest.fixture(scope="module")
def made(request):
    return TinyEncoders(request)


@pytest.fixture
def folder(tmp_path):
    for row in range(ITEMS):
        paint(*two_colours(row)).save(tmp_path / f"{row}.png")
    (tmp_path / f"{BROKEN}.png").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture
def catalog(folder):
    return Catalog.from_columns(
        [f"i{row}" for row in range(ITEMS)],
        [
            None if row in NO_TEXT else text_of(row) + " and more" * (row % 5)
            for row in range(ITEMS)
        ],
        [None if row in NO_PICTURE else f"{row}.png" for row in range(ITEMS)],
        folder,
    )


def prepared(made, case):
    """An encoder of which some is trained, and of what modalities states can be kept."""
    if case == "clip":  # its towers are single steps
        return copy.deepcopy(made["clip"]).requires_grad_(True), set()
    if case == "clip_frozen":
        return frozen_copy(made["clip"]), {"image", "text"}
    if case == "vlmo":  # has steps, and views of its own beside their vector
        encoder = frozen_copy(made["vlmo"])
        for weight in encoder.model.transformer.blocks[-1].parameters():
            weight.requires_grad_(True)
        return encoder, {"image", "text"}
    torch.manual_seed(5)
    base = copy.deepcopy(made["vit"])
    encoder, added = adapt(base, Adaptation(projection=8, projection_dropout=0.0))
    patterns, states = {
        "last_blocks": ((r"blocks\.1|layer\.1",), {"image", "text"}),
        "picture_side": ((r"image\.model",), {"text"}),
    }[case]
    choose_trained(encoder, added, TuneOptions(train=patterns))
    return encoder.eval(), states


CASES = ["clip", "clip_frozen", "vlmo", "last_blocks", "picture_side"]


def by_hand(encoder, catalog, modality, rows):
    """What the encoder says of some items, prepared one by one."""
    if modality == "image":
        prepared = [encoder.prepare_image(catalog.picture(row)) for row in rows]
        return encoder.encode_image(encoder.collate({"image": prepared})["image"])
    prepared = [encoder.prepare_text(catalog.text(row)) for row in rows]
    return encoder.encode_text(encoder.collate({"text": prepared})["text"])


def vectors(inputs, modality, wanted):
    batches = inputs.batches(modality, [np.array(rows) for rows in wanted])
    return [inputs.vectors(modality, batch) for batch in batches]


def assert_by_hand(inputs, wanted=WANTED):
    for modality, batches in wanted.items():
        found = vectors(inputs, modality, batches)
        for ours, rows in zip(found, batches, strict=True):
            expected = by_hand(inputs.encoder, inputs.catalog, modality, rows)
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
            assert ours.requires_grad == expected.requires_grad


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("case", CASES)
def test_vectors_are_those_by_hand(made, catalog, case, keep):
    encoder, states = prepared(made, case)
    inputs = read_inputs(encoder, catalog, CPU, 0, keep)
    kept = {"states": {"image"} | states, "inputs": {"image"}, "nothing": set()}[keep]
    assert set(inputs.kept) == kept
    assert all(len(inputs.kept[name].states) == len(ROWS[name]) for name in kept)
    assert inputs.nbytes == sum(each.nbytes for each in inputs.kept.values())
    assert (inputs.nbytes > 0) == (keep != "nothing")
    for modality in ("image", "text"):
        stages = len(encoder.stages(modality))
        fewer = keep != "inputs" and modality in states
        assert (len(inputs.trained[modality]) < stages) == fewer
    assert_by_hand(inputs)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_every_item_has(made, catalog, workers):
    inputs = read_inputs(frozen_copy(made["vit"]), catalog, CPU, workers)
    assert inputs.workers == workers
    assert len(inputs.tokens) == len(inputs.pictures) == len(catalog)
    for modality, column in (("image", inputs.pictures), ("text", inputs.tokens)):
        assert inputs.rows[modality].tolist() == ROWS[modality]
        assert inputs.rows[modality].dtype == np.int64
        assert [row for row, value in enumerate(column) if value is not None] == ROWS[modality]
    encoder = inputs.encoder
    assert all(inputs.tokens[row] == encoder.prepare_text(catalog.text(row)) for row in TEXTS)
    assert len({inputs.pictures[row] for row in PICTURES}) == len(PICTURES)


@pytest.mark.parametrize("keep", KEEPS)
def test_the_gradient_reaches_what_is_trained(made, catalog, keep):
    encoder, _ = prepared(made, "last_blocks")
    trained = [weight for weight in encoder.parameters() if weight.requires_grad]
    inputs = read_inputs(encoder, catalog, CPU, 0, keep)
    ways = {
        "ours": lambda modality, rows: vectors(inputs, modality, [rows])[0],
        "by hand": lambda modality, rows: by_hand(encoder, catalog, modality, rows),
    }
    found = {}
    for way, encode in ways.items():
        encoder.zero_grad()
        pull({modality: encode(modality, WANTED[modality][0]) for modality in WANTED}).backward()
        found[way] = [weight.grad for weight in trained if weight.grad is not None]
    assert len(found["ours"]) == len(found["by hand"]) >= 20
    assert sum(float(gradient.abs().sum()) for gradient in found["ours"]) > 1e-2
    for ours, expected in zip(found["ours"], found["by hand"], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("case", ["last_blocks", "clip"])
def test_weights_of_double_precision(made, catalog, case):
    encoder, _ = prepared(made, case)
    encoder.double()
    encoder.dtypes = dict.fromkeys(encoder.dtypes, torch.float64)
    inputs = read_inputs(encoder, catalog, CPU, 0)
    for modality in ("image", "text"):
        assert vectors(inputs, modality, WANTED[modality])[0].dtype == torch.float64


def test_steps_that_are_done_each_time_may_be_random(made, catalog):
    encoder, _ = prepared(made, "last_blocks")
    dropouts = [module for module in encoder.modules() if isinstance(module, torch.nn.Dropout)]
    found = {}
    for keep in ("states", "inputs"):
        inputs = read_inputs(encoder, catalog, CPU, 0, keep)
        assert not any(module.training for module in encoder.modules())
        # Of the texts' embedding, which is not trained.
        dropout = next(module for module in dropouts if module.p > 0)
        dropout.train()
        batch = [[7, 10, 4]]
        first, second = (vectors(inputs, "text", batch)[0] for _ in range(2))
        found[keep] = torch.equal(first, second)
    assert found == {"states": True, "inputs": False}


@pytest.mark.parametrize("case", ["clip", "last_blocks"])
def test_pictures_that_are_kept_are_not_read_again(made, folder, catalog, case):
    encoder, _ = prepared(made, case)
    inputs = {keep: read_inputs(encoder, catalog, CPU, 0, keep) for keep in KEEPS}
    expected = by_hand(encoder, catalog, "image", WANTED["image"][0])
    for file in folder.glob("*.png"):
        file.unlink()
    for keep in ("states", "inputs"):
        found = vectors(inputs[keep], "image", WANTED["image"])
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"'i7' could be used a moment ago and cannot now .*7\.png"):
        vectors(inputs["nothing"], "image", WANTED["image"])


def test_what_the_memory_does_not_hold_is_done_each_time(made, catalog, monkeypatch):
    monkeypatch.setattr(Kept, "fits", lambda kept, items: False)
    for case in ("clip", "last_blocks", "clip_frozen"):
        encoder, _ = prepared(made, case)
        inputs = read_inputs(encoder, catalog, CPU, 0)
        assert (inputs.kept, inputs.nbytes) == ({}, 0)
        assert_by_hand(inputs)


def test_one_modality_fits_and_the_other_does_not(made, catalog, monkeypatch):
    """And the room is asked for no more items than have the modality, or may have."""
    asked = set()

    def fits(kept, items):
        asked.add(items)
        return items != ITEMS - len(NO_PICTURE)

    monkeypatch.setattr(Kept, "fits", fits)
    encoder, _ = prepared(made, "last_blocks")
    inputs = read_inputs(encoder, catalog, CPU, 0)
    assert asked == {ITEMS - len(NO_PICTURE), len(TEXTS)}
    assert set(inputs.kept) == {"text"}
    assert_by_hand(inputs)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(("modality", "row"), [("image", BROKEN), ("text", 17), ("image", 99)])
def test_rows_without_the_modality_are_refused(made, catalog, keep, modality, row):
    encoder, _ = prepared(made, "picture_side")
    inputs = read_inputs(encoder, catalog, CPU, 0, keep)
    with pytest.raises(ValueError, match=rf"the rows \[{row}\] .* no usable {modality}"):
        inputs.batches(modality, [np.array([7, 4]), np.array([3, row])])


@pytest.mark.parametrize("modality", ["image", "text"])
def test_one_modality_only(made, catalog, modality, monkeypatch):
    if modality == "text":  # then the pictures' files are of no concern
        monkeypatch.setattr(Catalog, "_root", property(lambda catalog: pytest.fail("was read")))
    told = []
    encoder, _ = prepared(made, "last_blocks")
    inputs = read_inputs(
        encoder, catalog, CPU, 0, "states", lambda *more: told.append(more), (modality,)
    )
    assert inputs.rows.keys() == inputs.kept.keys() == inputs.trained.keys() == {modality}
    other = inputs.pictures if modality == "text" else inputs.tokens
    assert other == [None] * ITEMS
    assert {what for what, _ in told} == {modality}
    assert sum(count for _, count in told) == (ITEMS if modality == "image" else len(TEXTS))
    assert inputs.catalog is catalog
    assert_by_hand(inputs, {modality: WANTED[modality]})


def test_a_modality_that_no_item_has(made, tmp_path):
    texts = [text_of(row) for row in range(3)]
    catalog = Catalog.from_columns(["a", "b", "c"], texts, [None] * 3, tmp_path)
    inputs = read_inputs(frozen_copy(made["vit"]), catalog, CPU, 0)
    assert inputs.rows["image"].shape == (0,)
    assert set(inputs.kept) == {"text"}
    assert list(inputs.batches("image", [])) == []
    with pytest.raises(ValueError, match=r"the rows \[0\]"):
        inputs.batches("image", [np.array([0])])
    assert_by_hand(inputs, {"text": [[2, 0]]})


def test_texts_are_done_longest_first(made, catalog, monkeypatch):
    encoder, _ = prepared(made, "last_blocks")
    lengths = []
    collate = encoder.collate

    def watched(found):
        lengths.extend(map(len, found.get("text", [])))
        return collate(found)

    monkeypatch.setattr(encoder, "collate", watched)
    monkeypatch.setattr("extract.finetune.inputs.READ", 5)
    read_inputs(encoder, catalog, CPU, 0)
    assert len(lengths) == len(TEXTS)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]

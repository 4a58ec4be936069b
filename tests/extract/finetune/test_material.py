"""Pairs made ready: which can be used, what is kept of frozen steps, what a chunk holds."""

import copy

import numpy as np
import pytest
import torch
from support.adapted import TinyEncoders, frozen_copy
from support.tiny_clip import paint, text_of, two_colours

from extract.catalog import Catalog
from extract.encoders.adaptation import Adaptation, adapt
from extract.encoders.weights import trained_weights
from extract.errors import UserError
from extract.finetune import inputs as inputs_module
from extract.finetune.loop import finetune
from extract.finetune.material import read_pairs
from extract.finetune.objective import Objective
from extract.finetune.optimizer import choose_trained
from extract.finetune.options import TuneOptions
from extract.finetune.pairs import hold_out
from extract.finetune.tuning import Tuning

CPU = torch.device("cpu")
PAIRS = 30


@pytest.fixture(scope="module")
def made(request):
    return TinyEncoders(request)


@pytest.fixture
def folder(tmp_path):
    for number in range(PAIRS):
        paint(*two_colours(number)).save(tmp_path / f"{number}.png")
    return tmp_path


def catalog_of(folder, **changed):
    """The catalogue; ``text_3="..."`` or ``image_3="..."`` changes that of item 3."""
    columns = {
        "text": [text_of(number) + " and more" * (number % 5) for number in range(PAIRS)],
        "image": [f"{number}.png" for number in range(PAIRS)],
    }
    for name, value in changed.items():
        column, number = name.split("_")
        columns[column][int(number)] = value
    ids = [f"i{number}" for number in range(PAIRS)]
    return Catalog.from_columns(ids, columns["text"], columns["image"], folder)


@pytest.fixture
def catalog(folder):
    return catalog_of(folder)


def inputs_by_hand(encoder, catalog, rows):
    pictures = [encoder.prepare_image(catalog.picture(row)) for row in rows]
    texts = [encoder.prepare_text(catalog.text(row)) for row in rows]
    return encoder.collate({"image": pictures, "text": texts})


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("family", ["clip", "hf", "vit"])
@pytest.mark.parametrize(("workers", "keep"), [(0, True), (0, False), (2, False)])
def test_a_chunk_holds_what_the_encoder_takes(made, family, workers, keep, catalog):
    encoder = copy.deepcopy(made[family]).requires_grad_(True)
    material = read_pairs(encoder, catalog, CPU, workers, keep)
    assert len(material) == PAIRS
    assert set(material.kept) == ({"image"} if keep else set())  # its pixels
    places = [np.array([7, 3, 4]), np.array([0]), np.array([29, 28, 2, 7])]
    chunks = list(material.chunks(places))
    for chunk, some in zip(chunks, places, strict=True):
        assert chunk.places.tolist() == some.tolist()
        assert len(chunk) == len(some)
        assert_same(dict(chunk.inputs), inputs_by_hand(encoder, catalog, some.tolist()))
    if family == "hf":  # its texts are padded after their ends, to the longest of the chunk
        mask = chunks[0].inputs["text"]["attention_mask"]
        assert mask.sum(dim=1).tolist()[1] < mask.sum(dim=1).tolist()[2] == mask.shape[1]
        assert (mask.diff(dim=1) <= 0).all()


def test_items_that_cannot_be_used_are_left_out(made, folder):
    (folder / "1.png").write_bytes(b"broken")
    (folder / "6.png").write_bytes((folder / "5.png").read_bytes())
    catalog = catalog_of(
        folder,
        text_0=None,
        text_2=" \t",
        text_16="",
        text_20=text_of(21) + " and more",
        image_3="nowhere.png",
        image_4=None,
        image_17="../17.png",
    )
    encoder = frozen_copy(made["vit"])
    material = read_pairs(encoder, catalog, CPU, 2)
    expected = [row for row in range(PAIRS) if row not in (0, 1, 2, 3, 4, 16, 17)]
    assert material.rows.tolist() == expected
    assert len(material.tokens) == len(material.groups) == len(expected) == 23
    # What was kept is the right items' own.
    (chunk,) = material.chunks([np.arange(23)])
    views = material.views(chunk)
    with torch.no_grad():
        vectors = encoder.encode(inputs_by_hand(encoder, catalog, expected))
    for modality in ("image", "text"):
        torch.testing.assert_close(views[modality][0], vectors[modality], rtol=1e-4, atol=1e-4)
    numbers = material.groups.tolist()
    alike = {(5, 6), (20, 21)}
    for first, second in [(a, b) for a in expected for b in expected if a < b]:
        same = numbers[expected.index(first)] == numbers[expected.index(second)]
        assert same == ((first, second) in alike)


@pytest.mark.parametrize("what", ["text", "image"])
def test_no_pair_at_all(made, folder, what):
    nothing = {f"{what}_{number}": None for number in range(PAIRS)}
    with pytest.raises(UserError, match="none of the 30 items has both a picture and a text"):
        read_pairs(frozen_copy(made["vit"]), catalog_of(folder, **nothing), CPU, 0)


def test_an_empty_catalogue(made, tmp_path):
    with pytest.raises(UserError, match="none of the 0 items"):
        read_pairs(frozen_copy(made["vit"]), Catalog.from_columns([], [], [], tmp_path), CPU, 0)


def test_progress_counts_every_item_of_what_is_done(made, folder):
    told = {"image": 0, "text": 0}

    def progress(what, count):
        told[what] += count

    encoder = frozen_copy(made["vit"])
    read_pairs(encoder, catalog_of(folder, image_3=None), CPU, 0, progress=progress)
    assert told == {"image": PAIRS, "text": PAIRS}


# Of the pair of a small ViT and a small BERT: what is trained beside two projections.
PATTERNS = {
    "projections": (),
    "last_blocks": (r"blocks\.1|layer\.1",),
    "picture_side": (r"image\.model",),
    "text_side": (r"text\.model",),
}


def start(made, train):
    """The pair with projections, as training would begin."""
    torch.manual_seed(5)
    base = copy.deepcopy(made["vit"])
    encoder, added = adapt(base, Adaptation(projection=8, projection_dropout=0.0))
    for module in encoder.modules():  # so that chance plays no part
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    choose_trained(encoder, added, TuneOptions(train=PATTERNS[train]))
    return encoder, added


@pytest.mark.parametrize(
    ("train", "kept", "whole"),
    [
        ("projections", {"image", "text"}, {"image", "text"}),
        ("last_blocks", {"image", "text"}, set()),
        ("picture_side", {"image", "text"}, {"text"}),  # of pictures, the pixels
        ("text_side", {"image"}, {"image"}),
    ],
)
def test_what_is_kept_gives_the_same_views(made, catalog, train, kept, whole):
    encoder, _ = start(made, train)
    places = [np.array([4, 9, 12, 0]), np.array([1, 29])]
    found = {}
    for keep in (True, False):
        material = read_pairs(encoder, catalog, CPU, 0, keep)
        found[keep] = [material.views(chunk) for chunk in material.chunks(places)]
        assert set(material.kept) == (kept if keep else set())
        is_vectors = {name for name, each in material.kept.items() if each.is_vectors}
        assert is_vectors == (whole if keep else set())
        assert all(each.nbytes > 0 for each in material.kept.values())
    for ours, plain in zip(found[True], found[False], strict=True):
        for modality in ("image", "text"):
            torch.testing.assert_close(ours[modality], plain[modality], rtol=1e-4, atol=1e-5)
            assert ours[modality][0].requires_grad
    assert (found[True][0]["text"][0][0] - found[True][0]["text"][0][1]).abs().max() > 1e-3


@pytest.mark.parametrize("train", PATTERNS)
def test_training_comes_to_the_same_with_what_is_kept(made, catalog, train):
    options = TuneOptions(
        epochs=2, batch_size=12, chunk_size=5, learning_rate=3e-3, encoder_rate=1e-3, patience=9
    )
    weights, losses = {}, {}
    for keep in (True, False):
        encoder, added = start(made, train)
        before = {name: weight.clone() for name, weight in trained_weights(encoder).items()}
        material = read_pairs(encoder, catalog, CPU, 0, keep)
        groups = torch.from_numpy(material.groups)
        tuning = Tuning(
            encoder=encoder,
            added=added,
            material=material,
            holdout=hold_out(material.groups, (0.1, 0.1), 0),
            objective=Objective(encoder, options, groups),
            options=options,
            seed=0,
            device=CPU,
        )
        history = finetune(tuning).history
        # Not what the best epoch was, which on few pairs is a matter of chance: what was learnt.
        losses[keep] = [record["loss"]["itc"] for record in history[1:]]
        weights[keep] = trained_weights(encoder)
        assert len(losses[keep]) == 2
        assert before.keys() == weights[keep].keys()
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    for name, weight in weights[True].items():
        torch.testing.assert_close(weight, weights[False][name], rtol=1e-3, atol=1e-4)


def test_a_picture_that_has_gone_is_told(made, folder, catalog):
    encoder = copy.deepcopy(made["clip"]).requires_grad_(True)
    material = read_pairs(encoder, catalog, CPU, 0, keep=False)
    (folder / "9.png").unlink()
    chunks = material.chunks([np.array([1, 2]), np.array([8, 9, 10])])
    next(chunks)
    with pytest.raises(UserError, match="picture of item 'i9' could be used a moment ago") as told:
        next(chunks)
    assert "there is no file 9.png" in str(told.value)
    # Nor does it come to light where all of a batch have gone.
    with pytest.raises(UserError, match="picture of item 'i9'"):
        next(material.chunks([np.array([9])]))


def test_a_picture_whose_vector_is_kept_is_not_read_again(made, folder, catalog):
    encoder, _ = start(made, "text_side")
    material = read_pairs(encoder, catalog, CPU, 0)
    for file in folder.glob("*.png"):
        file.unlink()
    (chunk,) = material.chunks([np.array([9, 1])])
    assert material.views(chunk)["image"][0].shape == (2, 8)


def test_pairs_are_read_piece_by_piece(made, catalog, monkeypatch):
    """The pieces are no part of what comes out."""
    encoder, _ = start(made, "last_blocks")
    found = []
    for size in (1, 7, 64):
        monkeypatch.setattr(inputs_module, "READ", size)
        material = read_pairs(encoder, catalog, CPU, 0)
        (chunk,) = material.chunks([np.arange(PAIRS)])
        found.append(material.views(chunk))
    for other in found[1:]:
        for modality in ("image", "text"):
            torch.testing.assert_close(found[0][modality], other[modality], rtol=1e-4, atol=1e-5)

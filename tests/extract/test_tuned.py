"""Tuned encoders on disk: what is stored, what comes back, and what is refused."""

import copy
import json
import re
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.adapted import inputs_of, vectors_of
from support.tiny_clip import write_tiny_clip

from extract.encoders import create_encoder, tuned
from extract.encoders.adaptation import Adaptation, adapt, with_defaults
from extract.encoders.adapters import ADAPTER_WEIGHT
from extract.encoders.tuned import Recipe, load_tuned, merge_folder, save_tuned
from extract.encoders.weights import trained_weights
from extract.errors import UserError
from extract.files import file_sha256
from extract.finetune.optimizer import choose_trained
from extract.finetune.options import TuneOptions

KINDS = {
    "all": ({}, ()),
    "pattern": ({}, ("resblocks.1", "logit_scale")),
    "projection": ({"projection": 5, "projection_layers": 2}, ()),
    "lora": ({"lora": 2, "lora_alpha": 3}, ()),
    "some_lora": ({"lora": 2, "lora_layers": "c_fc"}, ()),
    "bottlenecks": ({"bottlenecks": 3}, ()),
    "lora_bottlenecks": ({"lora": 2, "bottlenecks": 3}, ()),
    "lora_projection": ({"lora": 2, "projection": 5}, ()),
    "lora_and_last_block": ({"lora": 2, "lora_layers": "c_fc"}, ("resblocks.1",)),
}
TRAINED = {
    "pattern": r"resblocks\.1|logit_scale",
    "projection": r"^heads|^log_scale",
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain(spec):
    return create_encoder(spec)


def tune(base, kind):
    """What training would leave behind: the form, and trained weights that have moved."""
    adaptation, train = KINDS[kind]
    adaptation = Adaptation(**adaptation)
    recipe = Recipe(base.spec, base.fingerprint(), adaptation)
    encoder, added = adapt(copy.deepcopy(base), adaptation)
    choose_trained(encoder, added, TuneOptions(train=train))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.02)
    return recipe, encoder.eval()


def save(base, kind, folder):
    recipe, encoder = tune(base, kind)
    save_tuned(folder, recipe, trained_weights(encoder), {"name": folder.name})
    return encoder


@pytest.fixture(scope="module")
def saved(plain, tmp_path_factory):
    """Each kind's encoder as it was in memory, and its folder."""
    parent = tmp_path_factory.mktemp("encoders")
    return {kind: (save(plain, kind, parent / kind), parent / kind) for kind in KINDS}


@pytest.fixture
def lora(saved, tmp_path):
    """A folder of the test's own."""
    return shutil.copytree(saved["lora"][1], tmp_path / "encoders" / "lora")


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for modality, vectors in expected.items():
        assert (found[modality] - vectors).abs().max() <= tolerance, modality


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back(saved, plain, kind):
    encoder, folder = saved[kind]
    expected = vectors_of(encoder)
    before = vectors_of(plain)
    for modality, vectors in expected.items():
        same_size = vectors.shape == before[modality].shape
        assert not same_size or (vectors - before[modality]).abs().max() > 1e-2
    unmerged = load_tuned(folder, merge=False)
    assert_close(vectors_of(unmerged), expected, 1e-5)
    assert unmerged.fingerprint() == encoder.fingerprint()
    assert all(
        torch.equal(weight, dict(encoder.named_parameters())[name])
        for name, weight in unmerged.named_parameters()
    )
    loaded = create_encoder(f"tuned:{folder}")
    assert_close(vectors_of(loaded), expected, 1e-4)
    assert loaded.fingerprint() == encoder.fingerprint()
    assert loaded.spec == f"tuned:{folder}"
    assert not any(module.training for module in loaded.modules())
    assert not any("lora" in name for name, _ in loaded.named_parameters())


def test_each_has_a_fingerprint_of_its_own(saved, plain):
    found = {encoder.fingerprint() for encoder, _ in saved.values()}
    assert len(found | {plain.fingerprint()}) == len(KINDS) + 1 == 10


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_holds_what_was_trained_and_nothing_else(saved, plain, kind):
    encoder, folder = saved[kind]
    with safe_open(folder / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    every = {name for name, _ in encoder.named_parameters()}
    adapters = {name for name in every if ADAPTER_WEIGHT.search(name)}
    heads = {name for name in every if re.search(TRAINED["projection"], name)}
    expected = {
        "all": every,
        "pattern": {name for name in every if re.search(TRAINED["pattern"], name)},
        "projection": heads,
        "lora": adapters,
        "some_lora": adapters,
        "bottlenecks": adapters,
        "lora_bottlenecks": adapters,
        "lora_projection": adapters | heads,
        "lora_and_last_block": adapters | {name for name in every if "resblocks.1" in name},
    }[kind]
    assert names == expected
    assert len(names) > 3
    told = json.loads((folder / "encoder.json").read_text())["weights"]
    assert told["tensors"] == len(names)
    assert told["parameters"] == sum(encoder.get_parameter(name).numel() for name in names)
    assert told["sha256"] == file_sha256(folder / "weights.safetensors")


def test_adapters_alone_take_little_room(tmp_path):
    """By weights: ViT-B/32 has 151 million; this one fewer, in the same proportions."""
    source = tmp_path / "source"
    base = create_encoder(write_tiny_clip(source, width=192, layers=12))
    save(base, "lora", tmp_path / "lora")
    size = (source / "open_clip_model.safetensors").stat().st_size
    own = (tmp_path / "lora" / "weights.safetensors").stat().st_size
    assert size > 60e6
    assert own < 0.05 * size


@pytest.mark.parametrize("kind", ["lora", "lora_projection", "lora_and_last_block"])
def test_adapters_can_be_merged_on_disk(saved, kind, tmp_path):
    encoder, folder = saved[kind]
    target = tmp_path / "merged"
    merge_folder(folder, target, {"name": "merged"})
    merged = load_tuned(target)
    assert_close(vectors_of(merged), vectors_of(encoder), 1e-4)
    assert not any("lora" in name for name in merged.state_dict())
    told = json.loads((target / "encoder.json").read_text())
    assert told["adaptation"]["lora"] == 0
    assert told["base_model"] == json.loads((folder / "encoder.json").read_text())["base_model"]
    # Only what differs from the base is there: no token table, no positions.
    names = load_file(target / "weights.safetensors").keys()
    assert names
    assert not [name for name in names if "lora" in name or "embedding" in name]


def test_merging_leaves_bottlenecks(saved, tmp_path):
    encoder, folder = saved["lora_bottlenecks"]
    merge_folder(folder, tmp_path / "merged", {})
    merged = load_tuned(tmp_path / "merged")
    assert_close(vectors_of(merged), vectors_of(encoder), 1e-4)
    names = load_file(tmp_path / "merged" / "weights.safetensors").keys()
    assert sum("bottleneck" in name for name in names) == 4 * 4
    assert not any("lora" in name for name in names)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("all", "lora"),
        ("lora", "all"),
        ("lora", "some_lora"),
        ("lora_projection", "projection"),
        ("bottlenecks", "lora"),
    ],
)
def test_a_tuned_encoder_can_be_tuned_again(saved, tmp_path, first, second):
    """And the data set's folder, in which both are, can be moved."""
    encoders = tmp_path / "shop" / "encoders"
    shutil.copytree(saved[first][1], encoders / "first")
    base = create_encoder(f"tuned:{encoders / 'first'}")
    encoder = save(base, second, encoders / "second")
    told = json.loads((encoders / "second" / "encoder.json").read_text())
    assert told["base"] == "tuned:../first"
    (tmp_path / "shop").rename(tmp_path / "moved")
    loaded = load_tuned(tmp_path / "moved" / "encoders" / "second")
    assert_close(vectors_of(loaded), vectors_of(encoder), 1e-4)
    assert loaded.fingerprint() == encoder.fingerprint()
    assert loaded.fingerprint() not in (base.fingerprint(), saved[second][0].fingerprint())


def test_merged_adapters_of_the_first_tuning_count_in_the_second(saved):
    """Though in both they are gone, and what is added to them is the same."""
    found = {
        tune(load_tuned(saved[first][1]), "some_lora")[1].fingerprint()
        for first in ("lora", "some_lora")
    }
    assert len(found) == 2


def test_a_base_elsewhere_is_told_by_its_path(saved, tmp_path):
    save(create_encoder(f"tuned:{saved['all'][1]}"), "lora", tmp_path / "again")
    told = json.loads((tmp_path / "again" / "encoder.json").read_text())
    assert told["base"] == f"tuned:{saved['all'][1]}"


def rewrite(folder, **changes):
    path = folder / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights_of(folder):
    return load_file(folder / "weights.safetensors")


def put_weights(folder, weights):
    """As if they had been saved so."""
    save_file(weights, folder / "weights.safetensors")
    told = json.loads((folder / "encoder.json").read_text())["weights"]
    rewrite(folder, weights=told | {"sha256": file_sha256(folder / "weights.safetensors")})


def no_description(folder):
    (folder / "encoder.json").unlink()


def torn_description(folder):
    path = folder / "encoder.json"
    path.write_bytes(path.read_bytes()[:-40])


def another_format(folder):
    rewrite(folder, format="mmrec-encoder/9")


def a_list(folder):
    (folder / "encoder.json").write_text("[]")


def no_base(folder):
    rewrite(folder, base=None)


def unknown_adaptation(folder):
    rewrite(folder, adaptation={"lora": 2, "prefix": 3})


def no_weights(folder):
    (folder / "weights.safetensors").unlink()


def truncated(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def other_shape(folder):
    weights = weights_of(folder)
    first = min(weights)
    put_weights(folder, weights | {first: torch.zeros(7, 7)})


def unknown_weight(folder):
    put_weights(folder, weights_of(folder) | {"nose": torch.zeros(2)})


def no_safetensors(folder):
    (folder / "weights.safetensors").write_bytes(b"PK" * 100)
    rewrite(folder, weights={"sha256": file_sha256(folder / "weights.safetensors")})


def another_base(folder):
    rewrite(folder, base_model="0" * 32)


def base_gone(folder):
    rewrite(folder, base="clip:/nowhere/at/all")


REFUSALS = [
    (no_description, "has no encoder.json, so there is no finished encoder in it; make it with"),
    (torn_description, "encoder.json does not describe an encoder"),
    (another_format, "has format 'mmrec-encoder/9', expected 'mmrec-encoder/1'"),
    (a_list, "encoder.json does not describe an encoder"),
    (no_base, "encoder.json does not describe an encoder"),
    (unknown_adaptation, "encoder.json does not describe an encoder"),
    (no_weights, "weights.safetensors cannot be read"),
    (truncated, "weights.safetensors is not the file that encoder.json tells of"),
    (other_shape, "1 weights of .* do not fit the encoder that it was made from, such as model"),
    (unknown_weight, "1 weights of .* do not fit .* such as nose"),
    (no_safetensors, "weights.safetensors cannot be read"),
    (another_base, "with the fingerprint 00000000, and what that names now has"),
    (base_gone, "names the folder /nowhere/at/all, which does not exist"),
]


@pytest.mark.parametrize(("damage", "told"), REFUSALS)
def test_refusals(lora, damage, told):
    damage(lora)
    with pytest.raises(UserError, match=told) as refusal:
        create_encoder(f"tuned:{lora}")
    assert "\n" not in str(refusal.value)


def test_the_table_of_refusals_is_whole():
    assert len({damage for damage, _ in REFUSALS}) == 13


def test_a_folder_that_is_not_there():
    with pytest.raises(UserError, match=r"the folder /nowhere/at/all has no encoder\.json"):
        create_encoder("tuned:/nowhere/at/all")


def test_a_base_whose_weights_have_changed(tmp_path):
    spec = write_tiny_clip(tmp_path / "base")
    save(create_encoder(spec), "lora", tmp_path / "tuned")
    load_tuned(tmp_path / "tuned")
    write_tiny_clip(tmp_path / "base", seed=1)
    with pytest.raises(UserError, match="bring the former back, or tune it again with --overwrite"):
        load_tuned(tmp_path / "tuned")


def test_only_low_rank_adapters_can_be_merged(saved, tmp_path):
    with pytest.raises(UserError, match="has no LoRA adapters, so there is nothing to merge"):
        merge_folder(saved["bottlenecks"][1], tmp_path / "merged", {})
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("fails", ["save_file", "write_json"])
def test_nothing_finished_is_left_if_writing_fails(plain, lora, monkeypatch, fails):
    """Also over an older encoder: its recipe must not stand beside other weights."""
    recipe, encoder = tune(plain, "all")

    def failing(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tuned, fails, failing)
        with pytest.raises(OSError, match="No space"):
            save_tuned(lora, recipe, trained_weights(encoder), {})
    assert "encoder.json" not in {path.name for path in lora.iterdir()}
    assert not list(lora.glob(".*.tmp"))
    with pytest.raises(UserError, match="no finished encoder in it"):
        load_tuned(lora)
    save_tuned(lora, recipe, trained_weights(encoder), {})
    assert load_tuned(lora).fingerprint() == encoder.fingerprint()


def test_projections_only_where_no_space_is_shared(plain):
    assert with_defaults(Adaptation(), plain).projection == 0
    assert with_defaults(Adaptation(projection=7), plain).projection == 7
    control = create_encoder("random:4")
    assert with_defaults(Adaptation(), control).projection == 256
    assert with_defaults(Adaptation(projection=0), control).projection == 0


def test_inputs_differ_by_item(plain):
    """Or else all of the comparisons above would say little."""
    inputs_of(plain)
    for vectors in vectors_of(plain).values():
        assert (vectors[0] - vectors[1]).abs().max() > 1e-2

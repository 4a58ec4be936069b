"""What mmrec-train refuses of an encoder in the loop: one line, nothing half done."""

import pytest
import torch
from support.live import EVENTFUL, QUICK, history_of, setting_words, write_live_shop

from pipelines.checkpoints import Checkpoint
from pipelines.end_to_end import EncodedFeatures


@pytest.fixture(autouse=True)
def shop(tmp_path):
    return write_live_shop(tmp_path)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs" / "shop"


@pytest.fixture
def cannot(refused, runs):
    """A run that must be refused before its folder is made; gives the error line."""

    def call(words, *arguments, settings=()):
        line = refused(f"train {words}", *arguments, *setting_words(*QUICK[:2], *settings))
        assert not runs.exists()
        return line

    return call


@pytest.fixture
def diverges(refused, spec):
    """A run that must end in an error line while it is trained; gives that line."""

    def call(*settings, model="vbpr", encoder=spec, words=()):
        options = ("--encoder", encoder, "--model", model, "--run", "r", *words)
        return refused("train --end-to-end", *options, *setting_words(*QUICK, *settings))

    return call


def test_an_encoder_and_its_regime_need_each_other(cannot, spec):
    for words in ("--end-to-end", "--feature-source end-to-end"):
        assert "the regime end-to-end needs --encoder SPEC" in cannot(f"{words} --model vbpr")
    line = cannot("--feature-source refresh --model vbpr")
    assert "the regime refresh needs --encoder SPEC" in line
    for words in ("", "--feature-source tuned"):
        line = cannot(f"--model vbpr {words} --encoder", spec)
        assert "only --feature-source end-to-end or --feature-source refresh can have --enc" in line
    line = cannot("--model vbpr --itc-weight 0.1")
    assert "can have the settings end_to_end" in line
    line = cannot("--model vbpr --feature-source refresh --itc-weight 0.1 --encoder", spec)
    assert "only --feature-source end-to-end can have itc_weight" in line


@pytest.mark.parametrize("regime", ["frozen", "tuned", "refresh"])
def test_two_regimes_at_once_are_wrong_usage(mmrec, spec, runs, regime):
    outcome = mmrec("train --end-to-end --model vbpr --feature-source", regime, "--encoder", spec)
    assert outcome.code == 2
    assert "Give one of --end-to-end and --feature-source" in outcome.error
    assert not runs.exists()


def test_a_run_that_is_resumed_keeps_its_regime(mmrec):
    outcome = mmrec("train --resume r --end-to-end --itc-weight 0.1")
    assert outcome.code == 2
    assert "leave out --end-to-end, --itc-weight" in outcome.error


def test_settings_that_are_no_table(cannot, spec):
    for words in ("", "--itc-weight 0.1"):
        words = f"--end-to-end --model vbpr {words} --encoder"
        assert "end_to_end" in cannot(words, spec, settings=["end_to_end=3"])


@pytest.mark.parametrize("model", ["lightgcn", "popularity", "itemknn"])
def test_models_that_learn_nothing_of_features(cannot, spec, model):
    line = cannot(f"--end-to-end --model {model} --encoder", spec)
    why = "is not trained" if model == "itemknn" else "uses no features"
    assert f"{model} {why}, so no features can be learned with it" in line


def test_features_that_are_not_the_encoders(cannot, mmrec, spec):
    assert mmrec("extract --workers 0 --encoder random:16 --features other").code == 0
    line = cannot("--end-to-end --model vbpr --features other --encoder", spec)
    assert f"'other' were made by random:16, and training is to start from {spec}" in line
    for name in ("random", "shuffled:other"):
        line = cannot(f"--end-to-end --model vbpr --features {name} --encoder", spec)
        assert f"--features {name} goes with cached features only" in line
    assert "unknown feature set" in cannot(
        "--end-to-end --model vbpr --features nothing --encoder", spec
    )


def test_features_without_the_projection_that_is_added(cannot, mmrec, spec):
    assert mmrec("extract --workers 0 --features own --encoder", spec).code == 0
    words = "--end-to-end --model vbpr --features own --encoder"
    line = cannot(words, spec, settings=["end_to_end.projection=8"])
    assert "'own' lack the projection that is to be added" in line
    # That of the ITC term of two towers that have never met is added without being asked for.
    assert mmrec("extract --workers 0 --features noise --encoder random:16").code == 0
    line = cannot("--end-to-end --model vbpr --features noise --itc-weight 0.1 --encoder random:16")
    assert "'noise' lack the projection that is to be added" in line


def test_features_of_pictures_that_have_gone_or_come(cannot, mmrec, shop, spec):
    picture = shop / "images" / "8.png"
    content = picture.read_bytes()
    words = "--end-to-end --model vbpr --features own --encoder"
    extract = "extract --overwrite --workers 0 --features own --encoder"
    assert mmrec(extract, spec).code == 0
    picture.unlink()
    told = "'own' were made when other items had a usable image"
    assert f"{told} (37, now 36)" in cannot(words, spec)
    assert mmrec(extract, spec).code == 0
    picture.write_bytes(content)
    assert f"{told} (36, now 37)" in cannot(words, spec)
    (shop / "images" / "9.png").unlink()
    assert f"{told} (36, now 36)" in cannot(words, spec)


def test_itc_needs_both_modalities(cannot, spec):
    words = "--end-to-end --model vbpr --itc-weight 0.1 --modalities text --encoder"
    line = cannot(words, spec)
    assert "--itc-weight contrasts pictures with texts; the modalities are text" in line


def test_modalities_that_the_encoder_has_not(cannot, spec):
    line = cannot("--end-to-end --model vbpr --modalities fused --encoder", spec)
    assert "this catalogue has image, text; asked for fused" in line
    assert "sound" in cannot("--end-to-end --model vbpr --modalities sound --encoder", spec)


def test_nothing_to_train(cannot, spec):
    assert "of random:16" in cannot("--end-to-end --model vbpr --encoder", "random:16")
    line = cannot("--end-to-end --model vbpr --encoder", spec, settings=["end_to_end.train=none"])
    assert f"nothing of {spec} is trained" in line


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("end_to_end.train=wrong_name", "'wrong_name' of what is trained fits no weight of clip:"),
        ("end_to_end.train=(", "found '('"),
        ("end_to_end.encoder_rat=1", "did you mean 'end_to_end.encoder_rate'"),
        ("end_to_end.encoder_rate=0", "encoder_rate"),
        ("end_to_end.encoder_rate=nan", "encoder_rate"),
        ("end_to_end.chunk_size=-1", "chunk_size"),
        ("end_to_end.max_age=0", "max_age"),
        ("end_to_end.precision=fp16", "precision"),
    ],
)
def test_settings_that_are_wrong(cannot, spec, setting, told):
    line = cannot("--end-to-end --model vbpr --encoder", spec, settings=[setting])
    assert told in line


@pytest.mark.parametrize("warm", [0, 1])
def test_a_model_that_sees_features_only_once(diverges, runs, warm):
    """FREEDOM without its modality terms: the graph is built before training."""
    line = diverges("model.reg=0", f"end_to_end.warm_epochs={warm}", model="freedom")
    assert not (runs / "r" / "history.jsonl").exists()  # no epoch went by
    assert "the loss does not depend on the" in line
    assert "train with --feature-source frozen" in line
    assert not (runs / "r" / "metrics.json").exists()


@pytest.mark.parametrize(
    "pace",
    [("end_to_end.warmup_steps=0",), ("train.batch_size=8",)],
    ids=["at once", "after the usual warm-up"],
)
@pytest.mark.parametrize(
    "form", [(), ("end_to_end.projection=8", "end_to_end.train=all")], ids=["plain", "unit length"]
)
@pytest.mark.parametrize("model", ["vbpr", "freedom"])
def test_a_rate_of_100(diverges, runs, pace, form, model):
    line = diverges(*pace, *form, model=model, words=("--encoder-rate", 100))
    assert "diverges after step " in line or "not finite after step " in line
    assert "in epoch " in line
    assert "smaller --encoder-rate" in line
    assert not (runs / "r" / "metrics.json").exists()
    assert not (runs / "r" / "encoder").exists()


def test_a_rate_of_100_for_what_is_added(diverges, runs):
    """Vectors that mean nothing under projections, which are all that is trained."""
    settings = ("end_to_end.projection=8", "end_to_end.learning_rate=100")
    line = diverges(*settings, "end_to_end.warmup_steps=0", encoder="random:16")
    assert "the encoder diverges after step " in line
    assert "a smaller end_to_end.learning_rate" in line


def overflow(features):
    """Weights that no arithmetic can hold."""
    weight = next(iter(features.weights.values()))
    weight.data.fill_(torch.finfo(weight.dtype).max)


def not_numbers(features):
    next(iter(features.weights.values())).data.fill_(torch.nan)


def too_large(features):
    for weight in features.weights.values():
        weight.data.mul_(1e3)


@pytest.mark.parametrize("damage", [overflow, not_numbers, too_large])
@pytest.mark.parametrize("step", [9, 12])
def test_the_last_good_checkpoint_stays(diverges, mmrec, runs, monkeypatch, damage, step):
    """The encoder is lost in the first or the last step of epoch 3, which is not validated."""
    push = EncodedFeatures.backward

    def damaged(self):
        push(self)
        if int(self.steps) == step:
            damage(self)

    words = ("--checkpoint-seconds", 0)
    with monkeypatch.context() as patch:
        patch.setattr(EncodedFeatures, "backward", damaged)
        settings = ("train.max_epochs=4", "train.evaluate_every=2")
        line = diverges(*EVENTFUL, *settings, words=words)
    assert f"after step {step} of its training, in epoch 3" in line
    folder = runs / "r"
    assert not (folder / "metrics.json").exists()
    checkpoint = Checkpoint.load(folder / "checkpoint.pt")
    assert checkpoint is not None
    assert checkpoint.epoch == 2
    assert all(torch.isfinite(w).all() for w in checkpoint.state["weights"].values())
    outcome = mmrec("train --resume r")
    assert outcome.code == 0, outcome.err
    assert "goes on after epoch 2" in outcome.err
    assert len(history_of(folder)) == 4


@pytest.mark.parametrize("evaluated", [1, 5])
def test_lost_in_the_last_step(diverges, monkeypatch, runs, evaluated):
    """No later step tells: the vectors for ranking do."""
    push = EncodedFeatures.backward

    def damaged(self):
        push(self)
        if int(self.steps) == 8:
            not_numbers(self)

    monkeypatch.setattr(EncodedFeatures, "backward", damaged)
    line = diverges(*EVENTFUL, f"train.evaluate_every={evaluated}")
    assert "after step 8 of its training, in epoch 2" in line
    assert not (runs / "r" / "metrics.json").exists()

"""A data set with pictures and texts, and encoders small enough to train a recommender through."""

import json

from support.shop import N_ITEMS, interaction_rows, write_shop
from support.tiny_clip import paint, text_of, two_colours
from support.tuning import change_items

from pipelines.assembling import assemble, with_names
from pipelines.run_config import run_settings
from pipelines.workspace import Workspace
from recommend.evaluate import evaluate, seen_items
from recommend.models import MODELS
from recommend.train import fit

# Items that lack something; i7 lacks both.
NO_PICTURE, NO_TEXT = ("i3", "i7", "i20"), ("i5", "i7")
MULTIMODAL = [n for n, kind in MODELS.items() if kind.uses_features and n != "itemknn"]
# 240 training interactions are four steps an epoch.
QUICK = ("train.max_epochs=2", "train.batch_size=64", "end_to_end.workers=0")
EVENTFUL = ("end_to_end.warmup_steps=0", "end_to_end.encoder_rate=1e-3")


def eventful(regime):
    """The same of a regime, of which some train no encoder."""
    return EVENTFUL if regime == "end-to-end" else ()


def write_live_shop(root, name="shop", rows=None):
    """A data set of 40 items, of which 37 have a picture and 38 a text; gives its folder."""
    folder = write_shop(root, name, rows or interaction_rows())
    (folder / "images").mkdir(exist_ok=True)
    items = [f"i{number}" for number in range(N_ITEMS)]
    for number in range(N_ITEMS):
        paint(*two_colours(number)).save(folder / "images" / f"{number}.png")
    change_items(
        folder,
        text=["" if item in NO_TEXT else text_of(n) for n, item in enumerate(items)],
        image=[None if item in NO_PICTURE else f"{n}.png" for n, item in enumerate(items)],
    )
    return folder


def setting_words(*settings):
    """``--set`` before each setting."""
    return [word for setting in settings for word in ("--set", setting)]


def parts_of(root, encoder=None, *settings, model="vbpr", regime="end-to-end", **given):
    """What a run is trained with, as `mmrec-train` assembles it."""
    given = {"encoder": encoder, "feature_source": regime, "device": "cpu", **given}
    quick = QUICK if encoder else QUICK[:2]
    workspace = Workspace(root)
    config = run_settings(given, model, None, (*quick, *settings))
    return assemble(with_names(config, workspace), workspace)


def train_parts(parts, on_epoch=lambda record: None):
    """Train them, as `mmrec-train` does, and give what `fit` gives."""
    split = parts.log.split
    seen = seen_items(split, "validation", "strict")
    return fit(
        parts.model,
        parts.features,
        parts.sampler,
        lambda embeddings: evaluate(embeddings, split.validation, seen)[0],
        parts.config.train,
        on_epoch,
    )


def state_of(encoder):
    """A copy of all weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}


def moved(before, encoder):
    """The names of the weights and buffers that differ from a copy in any bit."""
    now = encoder.state_dict()
    assert now.keys() == before.keys()
    return {name for name, tensor in now.items() if not tensor.equal(before[name])}


def history_of(run):
    """The records of a run's epochs."""
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def metrics_of(run):
    """A run's metrics.json."""
    return json.loads((run / "metrics.json").read_text())

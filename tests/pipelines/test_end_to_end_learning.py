"""End to end an encoder learns what decides, where frozen vectors do not show it."""

import pytest
from support.hidden_code import GROUPS, ITEMS, USERS, write_hidden_code
from support.live import parts_of, train_parts
from support.tiny_clip import write_tiny_clip

from pipelines.cli import run
from recommend.evaluate import evaluate, seen_items

BUDGET = (
    "train.max_epochs=10",
    "train.patience=10",
    "train.batch_size=128",
    "train.learning_rate=3e-3",
)
ENCODER = ("end_to_end.encoder_rate=1e-3", "end_to_end.warmup_steps=10", "end_to_end.chunk_size=0")
# Twenty drawn from all items.
CHANCE = 20 / ITEMS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("learning")
    write_hidden_code(root)
    return root


@pytest.fixture(scope="module")
def spec(root):
    return write_tiny_clip(root / "clip")


def recall(parts):
    """Recall@20 on the test interactions, at the best epoch of validation."""
    fitted, split = train_parts(parts), parts.log.split
    assert len(fitted.history) == 10
    metrics, _ = evaluate(fitted.embeddings, split.test, seen_items(split, "test", "strict"))
    return metrics.means()["recall@20"]


def test_only_content_finds_what_is_held_out(root):
    """No training interaction of an item in validation or test; each user has four of each."""
    split = parts_of(root, None, regime="frozen", dataset="codes", features="code").log.split
    degrees = split.train.item_degrees
    held_out = set(split.validation.items.tolist()) | set(split.test.items.tolist())
    assert not degrees[sorted(held_out)].any()
    assert len(held_out) == 4 * GROUPS
    assert (len(split.train), len(split.test)) == (12 * USERS, 4 * USERS)


@pytest.mark.slow
def test_at_least_twice_the_recall_of_frozen_vectors(root, spec):
    common = {"dataset": "codes"}
    codes = recall(parts_of(root, None, *BUDGET, regime="frozen", features="code", **common))
    # The task can be solved by whoever knows the codes.
    assert codes > 0.6
    words = ["--dataset", "codes", "--encoder", spec, "--workers", "0", "--root", str(root)]
    assert run("extract", words) == 0
    frozen = recall(parts_of(root, None, *BUDGET, regime="frozen", features="clip", **common))
    assert frozen < 4 * CHANCE
    learned = recall(parts_of(root, spec, *BUDGET, *ENCODER, **common))
    assert learned > 0.25
    assert learned >= 2 * frozen

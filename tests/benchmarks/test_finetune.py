"""The benchmark of fine-tuning on tiny things: its rows by hand, a step, absent data."""

import pytest
import torch
from click.testing import CliRunner
from support.tiny_clip import write_tiny_clip

from benchmarks.finetune import REGIMES, main, retrieval_rows, step_rate
from extract.encoders import create_encoder
from pipelines.finetune_config import FinetuneConfig


def test_recalls_stand_beside_those_before():
    told = {
        "retrieval": {"before": {"test": {"image_to_text@1": 0.1}},
                      "after": {"test": {"image_to_text@1": 0.4}}},
        "held_out": {"test": 50}, "epoch": 3, "seconds": 9.5, "weights": {"parameters": 7},
    }  # fmt: skip
    rows = {row.name: (row.value, row.reference) for row in retrieval_rows("x", told)}
    assert rows == {
        "x/image_to_text@1": (0.4, 0.1),
        "x/pairs": (50, None),
        "x/epoch": (3, None),
        "x/seconds": (9.5, None),
        "x/parameters": (7, None),
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_measured(precision, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.finetune.TOKENS", 16)
    encoder = create_encoder(write_tiny_clip(tmp_path))
    pairs, flops = step_rate(encoder, torch.device("cpu"), precision, 4, 2, 1)
    assert pairs > 0
    assert flops > 1000


def test_regimes_are_settings():
    for regime in REGIMES.values():
        FinetuneConfig(out="x", encoder="offline", **regime)


@pytest.mark.parametrize(("part", "folder"), [("fashion", "hm_fashion"), ("films", "ml100k")])
def test_absent_data_are_left_out_and_said_to_be(part, folder, tmp_path):
    words = ["--data", str(tmp_path), "--only", part, "--workspace", str(tmp_path / "ws")]
    outcome = CliRunner().invoke(main, words)
    assert outcome.exit_code == 0
    assert f"{folder} is left out: not under" in outcome.stderr

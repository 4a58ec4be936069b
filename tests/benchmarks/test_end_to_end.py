"""The benchmark of end-to-end training on tiny things: its rows by hand, a step, the regimes."""

import copy
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from support.tiny_clip import write_gallery, write_tiny_clip

from benchmarks import end_to_end, end_to_end_films, end_to_end_memory, end_to_end_speed, films
from benchmarks.end_to_end_films import REGIMES, half_interval, regime_rows, settings
from benchmarks.live_step import (
    LiveStep,
    gradients_by_name,
    made_up_inputs,
    operations,
    plain_step,
)
from benchmarks.material import ENCODERS
from extract.encoders import create_encoder
from extract.encoders.adaptation import Adaptation, adapt
from extract.finetune.optimizer import choose_trained
from extract.finetune.options import TuneOptions
from pipelines.progress import Reporter
from pipelines.workspace import Workspace, read_json

CPU = torch.device("cpu")
ITEMS, TOKENS = 7, 12  # of which the tiny CLIP takes 16


@pytest.fixture(scope="module")
def clip_spec(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def encoder(clip_spec):
    return create_encoder(clip_spec)


@pytest.fixture
def inputs(encoder):
    return made_up_inputs(encoder, ITEMS, CPU, tokens=TOKENS)


def test_every_item_has_a_picture_and_a_text(inputs):
    [pictures] = inputs.batches("image", [np.arange(ITEMS)])
    [texts] = inputs.batches("text", [np.arange(ITEMS)])
    assert pictures.shape == (ITEMS, 3, 32, 32)
    assert texts["input_ids"].shape == (ITEMS, TOKENS)
    assert len(pictures.reshape(ITEMS, -1).unique(dim=0)) == ITEMS
    assert len(texts["input_ids"].unique(dim=0)) == ITEMS


def test_of_a_partly_frozen_encoder_states_are_kept():
    encoder = end_to_end_speed.last_blocks(ENCODERS["offline"]())
    trained = [name for name, weight in encoder.named_parameters() if weight.requires_grad]
    assert any("blocks.6" in name for name in trained)
    assert any("layer.5" in name for name in trained)
    assert len(trained) < len(list(encoder.parameters())) / 2
    inputs = made_up_inputs(encoder, 3, CPU, tokens=TOKENS)
    for name in ("image", "text"):
        assert len(inputs.trained[name]) < len(encoder.stages(name))
    step = LiveStep(inputs, 2)
    step.gradients()
    assert set(gradients_by_name(encoder)) == set(trained)


def test_a_step_is_that_of_a_plain_graph_and_changes_the_weights(inputs):
    """The loss of VBPR on vectors that the encoder gives of all items at once."""
    step = LiveStep(inputs, 2)
    encoder = inputs.encoder
    other, model = copy.deepcopy(encoder), copy.deepcopy(step.model)
    rows = np.arange(ITEMS)
    tables = {
        "image": other.encode_image(next(inputs.batches("image", [rows]))),
        "text": other.encode_text(next(inputs.batches("text", [rows]))),
    }
    sum(model.loss(step.batch, tables).values()).backward()
    wanted = gradients_by_name(other)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in wanted.values()))
    clipped = min(1.0, 1.0 / norm)  # end_to_end.clip_norm
    before = [weight.detach().clone() for weight in encoder.parameters()]
    step()
    found = gradients_by_name(encoder)
    assert set(found) == set(wanted)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, clipped * wanted[name], rtol=1e-3, atol=1e-6)
    moved = zip(encoder.parameters(), before, strict=True)
    assert sum(not torch.equal(weight, old) for weight, old in moved) >= len(found) - 1


@pytest.mark.parametrize("chunk", [0, 3])
def test_the_reference_trains_the_same_weights(inputs, chunk):
    """Of the sum of all vectors, whatever the chunks."""
    other = copy.deepcopy(inputs.encoder)
    for name, tower in (("image", other.encode_image), ("text", other.encode_text)):
        tower(next(inputs.batches(name, [np.arange(ITEMS)]))).sum().backward()
    plain_step(inputs, chunk)()
    found, wanted = gradients_by_name(inputs.encoder), gradients_by_name(other)
    assert set(found) == set(wanted)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-4)


def test_operations_of_a_linear_tower_by_hand(encoder):
    """Of what is added behind the frozen towers: a matrix of 16 x 8 for either modality."""
    encoder, added = adapt(encoder, Adaptation(projection=8))
    choose_trained(encoder, added, TuneOptions())
    # A product forward, one for the weights, and one for the norm before them, which is trained.
    made = made_up_inputs(encoder, 2, CPU, tokens=TOKENS)
    assert operations(made) == 2 * (3 * 2 * 16 * 8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_speed_beside_the_reference(inputs, precision, monkeypatch):
    monkeypatch.setattr(end_to_end_speed, "matrix_rate", lambda device, dtype: 1e9)
    rows = {row.name: row for row in end_to_end_speed.speed_rows("x", inputs, precision, 3, 1)}
    assert set(rows) == {"x/end_to_end", "x/end_to_end/chunk-3", "x/end_to_end/flops"}
    floor = 1 / rows["x/end_to_end/flops"].value
    for name in ("x/end_to_end", "x/end_to_end/chunk-3"):
        assert rows[name].speedup == pytest.approx(rows[name].value / rows[name].reference)
        assert rows[name].floor == pytest.approx(floor)
        assert rows[name].of_floor == pytest.approx(rows[name].value / floor)


def test_differences_by_hand(tmp_path):
    first, second, third = (tmp_path / f"{name}.safetensors" for name in "abc")
    save_file({"w": torch.tensor([3.0, 4.5]), "b": torch.tensor([1.0])}, first)
    save_file({"w": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0])}, second)
    assert end_to_end_memory.largest_difference(first, second) == pytest.approx(0.5 / 5)
    assert end_to_end_memory.largest_difference(second, second) == 0
    save_file({"w": torch.tensor([3.0, 4.0])}, third)
    with pytest.raises(ValueError, match="not the same weights"):
        end_to_end_memory.largest_difference(first, third)


def test_memory_rows(clip_spec, tmp_path, monkeypatch):
    """One of the two processes is a real one."""
    real, chunks = end_to_end_memory.apart, []

    def apart(*arguments):
        chunks.append(arguments[arguments.index("--chunk") + 1])
        if len(chunks) == 1:
            told = real(*arguments)
            assert told["peak"] > 10 * told["growth"] > 0
        else:
            assert CliRunner().invoke(end_to_end_memory.main, arguments).exit_code == 0
        size = {"8": 2**21, "0": 2**23}[chunks[-1]]
        return {"peak": size, "growth": size / 2}

    monkeypatch.setattr(end_to_end_memory, "apart", apart)
    monkeypatch.setattr(end_to_end_memory, "ENCODERS", {})
    rows = list(end_to_end_memory.memory_rows("cpu", True, "image", "fp32", clip_spec))
    assert chunks == ["8", "0"]
    name = f"memory/{clip_spec}"
    told = {row.name.removeprefix(name): (row.value, row.reference) for row in rows}
    difference, _ = told.pop("/difference")
    assert 0 < difference < 1e-4  # the same gradients, in another order of adding
    assert told == {
        "/chunk-8": (2, 8),
        "/chunk-all": (8, 8),
        "/ratio": (0.25, None),
        "/chunk-8/growth": (1, 4),
        "/chunk-all/growth": (4, 4),
        "/ratio/growth": (0.25, None),
    }
    assert rows[0].unit == "MB, 64 items' image in fp32"


def test_the_interval_of_three_by_hand():
    # Of 1, 2, 3 the deviation is 1; Student's t of two degrees of freedom is 4.3027.
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)


def test_rows_of_a_regime_by_hand(tmp_path):
    def write(name, recall, seconds, peak=None):
        folder = tmp_path / name
        folder.mkdir()
        told = {"test": {"recall@20": recall, "ndcg@20": 2 * recall}, "seconds": seconds}
        told["selection"] = {"epoch": 4}
        (folder / "metrics.json").write_text(json.dumps(told))
        if peak:
            (folder / "peak.json").write_text(json.dumps({"bytes": peak * 2**20}))
        return folder

    frozen = [write(f"f{seed}", 0.1 * (seed + 1), 2) for seed in range(3)]
    tuned = [write(f"t{seed}", 0.1 * (seed + 1) + 0.05, 6, 100 + seed) for seed in range(3)]
    rows = {row.name: row for row in regime_rows("x", tuned, frozen)}
    half = 0.1 * 4.3027 / math.sqrt(3)
    values = {
        "x/recall@20": 0.25,
        "x/recall@20/interval": half,
        "x/recall@20/gain": 0.05,
        "x/recall@20/gain/interval": 0,
        "x/ndcg@20": 0.5,
        "x/ndcg@20/interval": 2 * half,
        "x/ndcg@20/gain": 0.1,
        "x/ndcg@20/gain/interval": 0,
        "x/seconds": 6,
        "x/epoch": 4,
        "x/peak": 102,
    }
    assert {name: row.value for name, row in rows.items()} == pytest.approx(values, abs=1e-5)
    assert rows["x/recall@20"].reference == pytest.approx(0.2)
    assert rows["x/seconds"].reference == 2
    alone = {row.name for row in regime_rows("x", tuned[:1], frozen[:1])}
    assert not any("interval" in name or "gain" in name for name in alone)


def test_regimes_train_for_as_long_and_never_stop_early():
    every = {regime: settings("vbpr", regime, 2, "cpu") for regime in REGIMES}
    assert len(every) == 4
    trains = [config.train for config in every.values()]
    assert all(train == trains[0] for train in trains)
    assert trains[0].patience > trains[0].max_epochs
    assert len({config.run for config in every.values()}) == 4
    assert every["frozen"].encoder is None
    assert every["refresh"].end_to_end.train == ()
    own = every["end-to-end"]
    assert own.encoder == own.features == "pair_ft"
    assert own.end_to_end.warm_epochs < own.train.max_epochs


def test_the_films_patterns_fit_the_pair():
    encoder, _ = adapt(ENCODERS["offline"](), Adaptation(projection=8))
    choose_trained(encoder, (), TuneOptions(train=end_to_end_films.TRAINED["train"]))
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    for part in ("blocks.6", "conv_head", "bn2", "layer.5", "heads"):
        assert any(part in name for name in trained), part
    assert not any("blocks.5" in name or "layer.4" in name for name in trained)


@pytest.fixture
def tiny_films(tmp_path, monkeypatch, clip_spec):
    """A data set of the films' name, and settings under which all of it takes seconds."""
    folder = write_gallery(tmp_path, name="films")
    generator = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", part)
        for user in range(12)
        for item, part in zip(
            generator.choice(42, 8, replace=False), ["train"] * 6 + ["validation", "test"],
            strict=True,
        )
    ]  # fmt: skip
    columns = zip(("user_id", "item_id", "split"), zip(*rows, strict=True), strict=True)
    log = pa.table({name: list(column) for name, column in columns})
    pq.write_table(log, folder / "interactions.parquet")
    tuning = {"encoder": clip_spec, "epochs": 1, "batch_size": 16, "workers": 0}
    monkeypatch.setattr(films, "TUNING", {**tuning, "holdout": (0.2, 0.2), "projection": 8})
    monkeypatch.setattr(end_to_end_films, "WARM_EPOCHS", 1)
    monkeypatch.setattr(end_to_end_films, "LIVE_EPOCHS", 1)
    monkeypatch.setattr(end_to_end_films, "ENCODER", {"chunk_size": 8, "workers": 0})
    own = {"train": (r"visual.*resblocks\.1", "heads"), "encoder_rate": 1e-3, "warmup_steps": 1}
    monkeypatch.setattr(end_to_end_films, "TRAINED", own)
    made = []

    def apart(workspace, *arguments):
        """Not apart, so that it is as tiny."""
        made.append(arguments)
        words = [str(workspace.root), *map(str, arguments)]
        outcome = CliRunner().invoke(end_to_end_films.main, words, catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output

    monkeypatch.setattr(end_to_end_films, "apart", apart)
    return made


def test_films_in_four_regimes_and_not_again(tiny_films, tmp_path):
    def measured(models, seeds):
        reporter = Reporter(quiet=True)
        found = end_to_end_films.films(Workspace(tmp_path), "cpu", reporter, models, seeds)
        return {row.name: row for row in found}

    rows = measured(("vbpr",), (1,))
    assert [arguments[:3] for arguments in tiny_films] == [("vbpr", each, 1) for each in REGIMES]
    for regime in REGIMES:
        told = read_json(tmp_path / "runs" / "films" / f"vbpr-{regime}-s1" / "metrics.json")
        assert told["feature_source"] == regime
        row = rows[f"films/vbpr/{regime}/ndcg@20"]
        assert row.value == told["test"]["ndcg@20"]
        assert row.reference == rows["films/vbpr/frozen/ndcg@20"].value
        assert rows[f"films/vbpr/{regime}/peak"].value > 100
        weights = told.get("encoder", {}).get("trained_weights")
        assert (weights or 0) > 0 if regime == "end-to-end" else not weights
    tiny_films.clear()
    assert set(measured(("vbpr",), (1,))) == set(rows)
    assert tiny_films == []


def test_absent_films_are_left_out_and_said_to_be(tmp_path):
    words = ["--data", str(tmp_path), "--only", "films", "--workspace", str(tmp_path / "ws")]
    outcome = CliRunner().invoke(end_to_end.main, words)
    assert outcome.exit_code == 0
    assert "ml100k is left out: not under" in outcome.stderr


def test_quick_leaves_out_the_films_and_parts_are_chosen(tmp_path, monkeypatch):
    calls = []

    def part(name):
        return lambda *arguments: calls.append((name, *arguments)) or []

    for name in ("memory_rows", "speed", "_films"):
        monkeypatch.setattr(end_to_end, name, part(name))

    def called(*words):
        calls.clear()
        file = tmp_path / "rows.json"
        outcome = CliRunner().invoke(
            end_to_end.main, [*words, "--device", "cpu", "--json", str(file)]
        )
        assert outcome.exit_code == 0, outcome.output
        assert json.loads(file.read_text()) == []
        return list(calls)

    memory, speed = ("memory_rows", "cpu", True, "image", "fp32"), ("speed", CPU, True)
    assert called("--quick") == [memory, speed]
    assert called("--quick", "--only", "speed") == [speed]
    assert [name for name, *_ in called()] == ["memory_rows", "speed", "_films"]
    both = called("--only", "memory", "--modalities", "image,text", "--precision", "bf16")
    assert both == [("memory_rows", "cpu", False, "image,text", "bf16")]
    [films_call] = called("--only", "films", "--model", "freedom", "--seed", "0", "--seed", "2")
    assert films_call[-2:] == (("freedom",), (0, 2))

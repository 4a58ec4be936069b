"""The benchmark of recommenders, at tiny sizes."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import floors, recommend, scale, simulated, training_speed
from benchmarks.epochs import Epoch, Plan, Stopwatch, by_turns
from benchmarks.floors import Machine, Work, step_work
from benchmarks.simulated import Size, simulated_features, simulated_split
from recommend.features import FeatureStore
from recommend.models import MODELS
from recommend.models.lightgcn import LightGCN, LightGCNConfig
from recommend.train import trainable


@pytest.mark.parametrize(
    "size",
    [Size(60, 70, 400, {"image": 6, "text": 5}), Size(40, 12, 240, {"a": 4}), Size(9, 20, 27, {})],
)
def test_simulated_data_have_the_counts_that_were_asked_for(size):
    split = simulated_split(size)
    assert [len(part) for part in split] == [size.pairs, 0, size.users]
    assert split.train.user_degrees.min() >= 3
    assert split.train.user_degrees.max() <= size.items // 2
    assert (split.test.user_degrees == 1).all()
    assert not set(split.train.keys) & set(split.test.keys)
    assert (np.diff(split.train.keys) > 0).all()
    store = simulated_features(size)
    assert {name: table.shape for name, table in store.tables.items()} == {
        name: (size.items, dim) for name, dim in size.dims.items()
    }


CPU = torch.device("cpu")


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="10 users with 3 to 5 items each do not have 20 pairs"):
        simulated_split(Size(10, 10, 20, {}))


def test_the_published_sizes_are_those_of_the_data_sets():
    counts = {name: (size.users, size.items, size.pairs) for name, size in simulated.SIZES.items()}
    assert counts == {"baby": (19_445, 7_050, 118_551), "sports": (35_598, 18_357, 218_409)}
    for size in simulated.SIZES.values():
        assert size.dims == {"image": 4096, "text": 384}


def test_work_at_the_rates_of_a_machine():
    machine = Machine(CPU, bandwidth=10.0, rate=4.0)
    assert (Work(20, 2) + Work(10, 6)).seconds(machine) == 5
    assert (Work(20, 4) * 2).seconds(machine) == 6


@pytest.fixture
def small_arrays(monkeypatch):
    """What a machine is measured by."""
    monkeypatch.setattr(floors, "COPIED", 2**16)
    monkeypatch.setattr(floors, "SIDE", 64)


@pytest.mark.usefixtures("small_arrays")
def test_the_machine_is_measured():
    machine = Machine.measured(CPU)
    assert machine.bandwidth > 1e6
    assert machine.rate > 1e6


def test_lightgcn_s_work_by_hand(batch, data):
    model = LightGCN(LightGCNConfig(embedding_size=8, layers=2), data)
    users, items = batch.users.unique(), batch.items
    read = int(data.train.user_degrees[users].sum() + data.train.item_degrees[items].sum())
    # One whole product of both sides forward and one backward; of the batch's rows, one of each.
    entries = 2 * 2 * 400 + 2 * read
    rows = 2 * 130 + (len(users) + len(items)) + 130
    adam = 7 * 4 * 130 * 8
    assert step_work(model, batch, {}) == Work(entries * (4 * 8 + 8) + rows * 4 * 8 + adam)


def test_floors_of_other_models_are_positive_or_none(batch, data):
    counted = set()
    for name, kind in MODELS.items():
        work = step_work(kind(kind.config_class(), data), batch, data.features.dims)
        if work is not None:
            assert work.bytes > 0
            assert (work.flops > 0) == kind.uses_features
            counted.add(name)
    assert counted == {"lightgcn", "vbpr", "freedom"}


def test_the_stopwatch_leaves_out_the_first_steps():
    watch = Stopwatch(Plan(1, warmup=2, steps=3), 10, CPU)
    assert list(watch.watch(iter(range(10)))) == [0, 1, 2, 3, 4]
    assert watch.started < watch.counting < watch.ended
    assert watch.step == (watch.ended - watch.counting) / 3
    short = Stopwatch(Plan(1, warmup=2, steps=3), 2, CPU)
    assert list(short.watch(iter(range(2)))) == [0, 1]
    assert short.counting == short.started
    assert short.step == (short.ended - short.started) / 2


class Told:
    """A case that takes the seconds it is told."""

    def __init__(self, log, name, steps):
        self.log, self.name, self.steps = log, name, iter(steps)

    def turn(self):
        self.log.append(self.name)
        return Epoch(1.0, next(self.steps), 10)


def test_turns_alternate_and_the_median_counts():
    log, lines = [], []
    cases = {"a": Told(log, "a", [5, 1, 3]), "b": Told(log, "b", [2, 9, 4])}
    epochs = by_turns(cases, 3, lines.append)
    assert log == ["a", "b"] * 3
    assert [epochs[name].seconds for name in "ab"] == [31, 41]
    assert len(lines) == 6


def test_references_are_this_run_s_plain_models_or_scaled_figures():
    epochs = {
        "plain-lightgcn": Epoch(0, 2.8, 1),
        "plain-freedom": Epoch(0, 9.0, 1),
    }
    reference = training_speed._reference
    assert reference("lightgcn", "baby", epochs) == 2.8
    assert reference("freedom", "baby", epochs) == 9.0
    assert reference("mmgcn", "baby", epochs) == pytest.approx(46.0)
    assert reference("bm3", "sports", epochs) == pytest.approx(76.9 * 2.8 / 25)
    assert reference("mgcn", "sports", epochs) is None


@pytest.fixture
def tiny_sizes(monkeypatch, tiny):
    for module in (recommend, scale, simulated):
        monkeypatch.setattr(module, "SIZES", {"baby": tiny, "sports": tiny})
    for name in ("QUICK", "FULL"):
        monkeypatch.setattr(recommend, name, Plan(rounds=2, warmup=1, steps=2, batch_size=128))

    def apart(*arguments):
        """Not apart, so that it is as tiny."""
        outcome = CliRunner().invoke(scale.main, arguments)
        assert outcome.exit_code == 0, outcome.output
        return json.loads(outcome.stdout.splitlines()[-1])

    monkeypatch.setattr(recommend, "apart", apart)
    monkeypatch.setattr(scale, "apart", apart)
    monkeypatch.setattr(recommend, "BATCHES", {1000: 128})


def measured(tmp_path, *arguments):
    file = tmp_path / "rows.json"
    outcome = CliRunner().invoke(
        recommend.main,
        ["--data", str(tmp_path), "--json", str(file), "--device", "cpu", *arguments],
    )
    assert outcome.exit_code == 0, outcome.output
    return {row["name"]: row for row in json.loads(file.read_text())}


def trained_models(data):
    kinds = MODELS.items()
    return [n for n, kind in kinds if trainable(kind(kind.config_class(), data))]


@pytest.mark.usefixtures("tiny_sizes", "small_arrays")
def test_quick_measures_every_trained_model_on_baby(tmp_path, data):
    rows = measured(tmp_path, "--quick")
    plain = ["plain-lightgcn", "plain-freedom", "plain-freedom-frozen"]
    models = trained_models(data)
    assert {"lightgcn", "freedom"} <= set(models)
    assert not {"popularity", "itemknn"} & set(models)
    assert set(rows) == {
        "machine/copy",
        "machine/matmul",
        *(f"{name}/baby/epoch" for name in [*models, *plain]),
        "evaluate/baby",
        "evaluate/baby/peak",
    }
    for row in rows.values():
        assert row["value"] > 0
        assert {"unit", "torch", "cores"} <= row.keys()
    for name in ("lightgcn/baby/epoch", "freedom/baby/epoch", "evaluate/baby"):
        row = rows[name]
        assert row["unit"] == "s"
        assert row["floor"] > 0
        assert row["of_floor"] == pytest.approx(row["floor"] / row["value"])
        assert row["speedup"] == pytest.approx(row["reference"] / row["value"])


@pytest.mark.usefixtures("tiny_sizes", "small_arrays")
def test_the_full_run_has_sports_and_growth(tmp_path, data):
    rows = measured(tmp_path)
    names = set(rows)
    assert {f"{name}/sports/epoch" for name in trained_models(data)} <= names
    assert {"evaluate/sports", "evaluate/sports/peak"} <= names
    growth = {n for n in names if "/1000/" in n}
    whats = ("setup", "epoch", "evaluate", "peak")
    assert growth == {f"{model}/1000/{w}" for model in ("lightgcn", "freedom") for w in whats}
    assert rows["freedom/1000/epoch"]["floor"] > 0


def test_a_real_log_is_taken_where_it_lies(tmp_path):
    folder = tmp_path / "amazon_baby"
    folder.mkdir()
    lines = [f"{u}\t{i}\t5.0\t{(u + i) % 3}" for u in range(6) for i in range(6)]
    (folder / "baby.inter.tsv").write_text("\n".join(["userID\titemID\trating\tx_label", *lines]))
    split = recommend.real_split("baby", tmp_path, recommend.Reporter(quiet=True))
    assert [len(part) for part in split] == [12, 12, 12]
    assert recommend.real_split("sports", tmp_path, recommend.Reporter(quiet=True)) is None


def test_a_process_of_its_own_tells_its_figures():
    told = scale.apart("lightgcn", "1000", "--batch-size", "100", "--device", "cpu")
    assert set(told) == {"setup", "epoch", "evaluate", "bytes", "flops", "peak"}
    assert told["peak"] > 1e7
    assert told["epoch"] > 0


def test_growth_has_the_sizes_that_were_asked_for():
    assert list(scale.BATCHES) == [10**4, 10**5, 10**6, 10**7]
    size = scale.scaled(10**7)
    assert (size.users, size.items) == (10**6, 303_030)
    assert isinstance(simulated_features(scale.scaled(1000)), FeatureStore)

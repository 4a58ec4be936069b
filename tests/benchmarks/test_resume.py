"""Trainings that are killed at random moments and resumed, as `benchmarks.resume` measures it."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import resume
from benchmarks.resume import FOLDER, Outcome, killed_runs, main, results, rows_of, write_shop


@pytest.mark.slow
def test_the_results_are_those_of_undisturbed_runs(tmp_path):
    write_shop(tmp_path, items=80, users=100)
    cases = (("--model", "freedom", "--feature-source", "tuned"),)
    outcome = killed_runs(tmp_path, kills=3, seed=1, cases=cases, epochs=60)
    assert outcome.kills >= 3
    assert outcome.finished
    assert outcome.unequal == []
    assert not (tmp_path / FOLDER).exists()


def test_the_table(tmp_path, monkeypatch):
    outcome = Outcome(kills=20, went_on=15, finished=4, epochs=480, repeated=30)
    monkeypatch.setattr(resume, "write_shop", lambda root: None)
    monkeypatch.setattr(resume, "killed_runs", lambda *arguments: outcome)
    file = tmp_path / "resume.json"
    done = CliRunner().invoke(main, ["--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "resume/unequal_files" in done.output
    told = {row["name"]: row["value"] for row in json.loads(file.read_text())}
    assert told == {row.name: row.value for row in rows_of(outcome)}
    outcome.unequal.append("per_user.parquet")
    assert CliRunner().invoke(main, []).exit_code == 1


def test_times_do_not_count(tmp_path):
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        folder = tmp_path / name
        folder.mkdir()
        for file in resume.FILES:
            (folder / file).write_bytes(b"x")
        (folder / "metrics.json").write_text(json.dumps({"seconds": seconds, "users": 3}))
        record = {"epoch": 1, "seconds": seconds, "validation_seconds": seconds}
        (folder / "history.jsonl").write_text(json.dumps(record) + "\n")
    assert results(tmp_path / "a") == results(tmp_path / "b")
    (tmp_path / "b/metrics.json").write_text(json.dumps({"seconds": 1.0, "users": 4}))
    assert results(tmp_path / "a") != results(tmp_path / "b")

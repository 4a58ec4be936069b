"""mmrec-finetune in several processes, and on a workspace in an object store."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny_clip import write_gallery, write_tiny_clip
from support.tuning import CONTROL, clip_words, losses, told

from pipelines.cli import run
from pipelines.workspace import read_json


@pytest.fixture
def shop(tmp_path):
    return write_gallery(tmp_path)


def test_two_processes_come_to_what_one_does(mmrec, shop, tmp_path):
    """Each has half of every batch; one speaks and writes."""
    words = clip_words(write_tiny_clip(tmp_path / "tiny"))
    words = (*words, "--projection", "8", "--projection-dropout", "0", "--train", "all")
    assert mmrec("finetune --out alone", *words).code == 0
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = ("-m", "pipelines.cli", "finetune", "--out", "both", *words)
    finished = subprocess.run(
        [sys.executable, *launcher, *command, "--root", str(shop.parents[1])],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count(str(shop / "encoders" / "both")) == 1
    assert finished.stderr.count("42 pairs (") == 1
    for ours, theirs in zip(losses(shop, "both"), losses(shop, "alone"), strict=True):
        assert ours["itc"] == pytest.approx(theirs["itc"], rel=1e-3)
    for when in ("before", "after"):
        for part, figures in told(shop, "alone")["retrieval"][when].items():
            assert told(shop, "both")["retrieval"][when][part] == pytest.approx(figures, abs=1e-3)


def test_an_encoder_in_an_object_store(store, shop, capsys):
    for file in (path for path in shop.rglob("*") if path.is_file()):
        target = store / "data" / "shop" / file.relative_to(shop).as_posix()
        target.write_bytes(file.read_bytes())

    def mmrec(words, *arguments):
        name, *rest = words.split()
        code = run(name, [*rest, *arguments, "--root", str(store)])
        assert code == 0, capsys.readouterr().err
        return capsys.readouterr()

    mmrec("finetune --out first", *CONTROL, "--checkpoint-seconds", "0")
    first = store / "data" / "shop" / "encoders" / "first"
    assert {path.name for path in first.iterdir()} == {"encoder.json", "weights.safetensors"}
    assert "finished already" in mmrec("finetune --out first", *CONTROL).err
    again = ("--encoder", "first", "--projection", "0", "--train", "heads", *CONTROL[4:])
    mmrec("finetune --out second", *again)
    second = store / "data" / "shop" / "encoders" / "second"
    assert read_json(second / "encoder.json")["base"] == "tuned:../first"
    mmrec("extract --encoder second --workers 0")
    manifest = read_json(store / "data" / "shop" / "features" / "second" / "manifest.json")
    assert manifest["dims"]["image"] == 8

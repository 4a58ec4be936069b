"""What docs/datasets.md says can be typed, found and done."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.cli import COMMANDS, load_command
from pipelines.downloads import manners
from pipelines.making import PUBLISHED
from pipelines.sources import amazon, amazon_2018, amazon_2023, movielens

TEXT = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```bash\n(.*?)```", TEXT, re.DOTALL)[1]
PATHS = re.findall(r"downloads/(\S+/\S+\.(?:gz|zip))", TEXT)
# A port at which nothing listens.
NOWHERE = "http://127.0.0.1:9"


def test_the_example_of_ten_lines_works(tmp_path):
    assert len(EXAMPLE.splitlines()) == 10
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", EXAMPLE],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    items = pq.read_table(tmp_path / "data/mine/items.parquet").to_pylist()
    assert [(item["item_id"], item["text"], item["image"]) for item in items] == [
        ("lamp", "A lamp, green", "lamp.jpg"),
        ("mug", "A red mug. Holds tea", "mug.jpg"),
        ("rug", "A rug. Blue wool", "rug.jpg"),
    ]
    counts = json.loads((tmp_path / "data/mine/dataset.json").read_text())["counts"]
    assert (counts["train"], counts["validation"], counts["test"]) == (2, 2, 2)
    assert (tmp_path / "runs/mine/itemknn-random-8-s0/metrics.json").is_file()


def test_every_option_that_it_names_exists():
    commands = [load_command(name) for name in COMMANDS]
    commands += load_command("prepare").commands.values()
    known = {word for command in commands for param in command.params for word in param.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert len(named) > 20
    assert named - known == {"--help"}


def test_every_variable_that_it_names_exists():
    modules = (amazon, amazon_2018, amazon_2023, movielens, manners)
    code = "".join(Path(module.__file__).read_text() for module in modules)
    assert set(re.findall(r"MMREC_\w+", TEXT)) == set(re.findall(r'"(MMREC_\w+)"', code))


def test_every_name_that_make_knows_is_told():
    told = TEXT.split("Names that `make` knows:")[1].split("\n\n")[0]
    assert re.findall(r"`([a-z0-9-]+)`", told) == list(PUBLISHED)


def test_every_source_is_told():
    sources = re.findall(r"`([a-z0-9-]+)`", "".join(re.findall(r"(?m)^\| (`.*?) \|", TEXT)))
    assert sorted(sources) == sorted(load_command("prepare").commands)


@pytest.mark.parametrize("folder", ["amazon-2014", "amazon-2018", "amazon-2023", "movielens"])
def test_files_put_there_by_hand_are_found(refused, tmp_path, folder):
    paths = [Path(path) for path in PATHS if path.startswith(f"{folder}/")]
    assert len(paths) == (1 if folder == "movielens" else 2)
    kind, name = folder.replace("-2014", ""), paths[0].parts[1]
    downloads = tmp_path / "downloads"
    words = f"prepare {kind} --dataset {name} --attempts 1 --url {NOWHERE} --downloads {downloads}"
    for path in paths:
        assert f"put the file at {downloads / path} by hand" in refused(words)
        (downloads / path).write_bytes(b"")
    assert "cannot be fetched" not in refused(words)

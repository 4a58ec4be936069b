"""A thousand spoilt files: no crash, no hang, each is pixels or a known problem.

They are opened in a process of its own, which a crash or a hang ends without ending the tests.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support import mutants

ROOT = Path(__file__).parents[2]
POSTERS = ROOT.parent / "shared" / "data" / "ml100k" / "posters_imdb"


def open_all(seed, *arguments):
    """What so many mutants became, by count; fails with what the process said last."""
    command = [sys.executable, mutants.__file__, seed, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout)


def check(told, count):
    found = told["found"]
    assert sum(found.values()) == count
    assert found.keys() <= {"uint8 RGB", "unreadable", "too_large"}
    # Both ways out are taken often, so that neither is tested for nothing.
    assert min(found["uint8 RGB"], found["unreadable"]) > count / 10
    assert told["slowest"] < mutants.SECONDS


def test_a_thousand_mutants_of_every_format():
    told = open_all("7", 1000)
    assert told["files"] == len(mutants.seed_files()) == 19
    check(told, 1000)


@pytest.mark.realdata
def test_a_thousand_mutants_of_real_posters():
    if not POSTERS.is_dir():
        pytest.skip(f"the real posters are not at {os.path.relpath(POSTERS)}")
    check(open_all("8", 1000, POSTERS), 1000)


def test_mutants_come_again_from_their_seed_and_differ_from_their_files():
    files = list(mutants.seed_files().values())
    made = [mutants.mutant(files, random.Random(f"x-{n}")) for n in range(200)]
    assert made == [mutants.mutant(files, random.Random(f"x-{n}")) for n in range(200)]
    assert sum(data in files for data in made) < 20
    assert len(mutants.WAYS) == 6


def test_a_hang_would_be_seen(tmp_path, monkeypatch):
    """A reader that never ends makes the process end."""
    (tmp_path / "sitecustomize.py").write_text(
        "import time, PIL.Image\nPIL.Image.open = lambda *_, **__: time.sleep(99)\n"
    )
    script = Path(mutants.__file__).read_text().replace("SECONDS = 5.0", "SECONDS = 0.2")
    (tmp_path / "quick.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    command = [sys.executable, tmp_path / "quick.py", "1", "3"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode != 0
    assert "Timeout" in finished.stderr

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from support.tuning import CONTROL

from pipelines.cli import run

SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self):
        """The one line of a refusal."""
        lines = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@pytest.fixture
def mmrec(tmp_path, capsys):
    """Run a command in a workspace of its own: mmrec("prepare toy", "--items", 60)."""

    def call(words, *arguments):
        name, *rest = words.split()
        capsys.readouterr()
        code = run(name, [*rest, *map(str, arguments), "--root", str(tmp_path)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def refused(mmrec):
    """Run a command that must end with exit code 1 and one error line; gives that line."""

    def call(words, *arguments):
        outcome = mmrec(words, *arguments)
        assert outcome.code == 1, outcome
        return outcome.error

    return call


@pytest.fixture
def tune(mmrec):
    """Tune the control, which must succeed; gives what the command said."""

    def call(*arguments, out="ft"):
        outcome = mmrec("finetune --out", out, *CONTROL, *arguments)
        assert outcome.code == 0, outcome.err
        return outcome

    return call


@pytest.fixture
def cannot(refused):
    """The same where it must be refused; gives the error line."""

    def call(*arguments, out="ft"):
        return refused("finetune --out", out, *CONTROL, *arguments)

    return call


@pytest.fixture
def write(tmp_path):
    """Write a text file of the test's own from lines."""

    def to(name, *lines, encoding="utf-8"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        return path

    return to


@pytest.fixture
def real_data():
    """The folder of the real data sets; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {os.path.relpath(SHARED_DATA)}")
    return SHARED_DATA

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from support.s3 import BUCKET, CREDENTIALS, s3_server
from support.tiny_clip import write_tiny_clip
from support.tuning import CONTROL

from pipelines.cli import run
from pipelines.roots import open_root
from pipelines.runs import RunFolder

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


@pytest.fixture(scope="session")
def spec(tmp_path_factory):
    """A tiny CLIP of random weights."""
    return write_tiny_clip(tmp_path_factory.mktemp("tiny") / "clip")


@pytest.fixture
def interrupted(mmrec, tmp_path, monkeypatch):
    """Ctrl-C after an epoch is told, before its checkpoint; the next command is not disturbed.

    Of the run r of the data set shop.
    """
    folder = tmp_path / "runs" / "shop" / "r"

    def train(epoch, *arguments):
        record = RunFolder.record

        def dying(self, told):
            record(self, told)
            if told["epoch"] == epoch:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "record", dying)
            outcome = mmrec("train", *arguments)
        assert outcome.code == 130, outcome.err
        assert outcome.error.endswith(f"go on with mmrec-train --resume {folder}")
        assert not (folder / "metrics.json").exists()

    return train


@pytest.fixture
def store(monkeypatch):
    """A server that speaks S3, and no credentials but the test's."""
    module = pytest.importorskip(
        "pipelines.object_store", reason="needs the extra s3", exc_type=ImportError
    )
    pytest.importorskip("moto.server", reason="needs moto and flask, of the extra dev")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        module.Store.clear_instance_cache()  # of the servers of other tests
        yield open_root(f"s3://{BUCKET}/mine")
    module.Store.clear_instance_cache()

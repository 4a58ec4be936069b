import subprocess
import sys

import pytest

from pipelines import cli
from pipelines.cli import COMMANDS, load_command, run


@pytest.fixture
def call(capsys):
    """Run `mmrec`, or `mmrec-NAME`, with words; gives exit code, stdout, stderr."""

    def to(words="", name=None):
        capsys.readouterr()
        code = run(name, words.split())
        return code, *capsys.readouterr()

    return to


@pytest.mark.parametrize(("name", "words"), [(None, ""), ("prepare", ""), (None, "prepare")])
def test_a_group_alone_shows_its_help_as_it_is(call, name, words):
    code, out, err = call(words, name)
    assert (code, err) == (0, "")
    assert out == call(f"{words} --help", name)[1]
    assert out.startswith("Usage: ")
    assert len(out.splitlines()) > 10


SOURCES = load_command("prepare").commands
# The words of every command there is.
WORDS = [*([name] for name in COMMANDS), *(["prepare", source] for source in SOURCES)]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_of_every_command(call, words):
    code, short, _ = call(" ".join([*words, "-h"]))
    assert code == 0
    assert short == call(" ".join([*words, "--help"]))[1]
    # One command by either name.
    name, *rest = words
    dashed = call(" ".join([*rest, "-h"]), name)[1]
    assert dashed.replace(f"Usage: mmrec-{name}", f"Usage: mmrec {name}") == short
    usage, _, what, *_ = short.splitlines()
    assert usage.startswith(f"Usage: mmrec {' '.join(words)} ")
    assert what.strip()
    assert f"\n  mmrec-{' '.join(words)}" in short, "there is no example"


def test_there_are_ten_commands_and_eight_kinds_of_preparing():
    assert (len(COMMANDS), len(SOURCES), len(WORDS)) == (10, 8, 18)


def test_the_group_lists_all_commands_and_imports_none():
    script = (
        "import sys; from pipelines.cli import run; code = run(None, ['--help']); "
        "sys.exit(f'imported: {sys.modules.keys()}' if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, (_, meaning) in COMMANDS.items():
        assert f"\n  {name} " in done.stdout
        assert meaning in done.stdout


@pytest.mark.parametrize("name", ["prepare", "check"])
def test_preparing_and_checking_need_no_torch(name):
    script = (
        "import sys; from pipelines.cli import load_command; load_command(sys.argv[1]); "
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "name", "told"),
    [
        ("trian", None, ["unknown command 'trian'; did you mean 'train'?", "see mmrec --help"]),
        ("tabel", "prepare", ["unknown source 'tabel'; did you mean 'table'?"]),
        ("prepare tabel", None, ["did you mean 'table'?", "see mmrec prepare --help"]),
        ("prepare toy --itmes 3", None, ["'--items'", "see mmrec prepare toy --help"]),
        ("--datset x", "check", ["'--dataset'", "see mmrec-check --help"]),
    ],
)
def test_wrong_usage_names_the_nearest_and_the_help(call, words, name, told):
    code, out, err = call(words, name)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in told:
        assert part in err


def test_a_defect_keeps_its_traceback(monkeypatch, call):
    def broken(name):
        raise MemoryError

    monkeypatch.setattr(cli, "load_command", broken)
    with pytest.raises(MemoryError):
        call("", "check")

import io
import itertools
import re
import sys

import pytest
from rich.console import Console
from rich.text import Text

from pipelines.progress import Reporter, counts_table, plain_table, print_table

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(width=100):
    """A reporter that writes to a terminal, and what it wrote."""
    reporter, file = Reporter(), io.StringIO()
    reporter.console = Console(file=file, force_terminal=True, width=width, _environ={})
    return reporter, lambda: ESCAPES.sub("", file.getvalue())


def test_a_bar_on_a_terminal_shows_name_count_and_rate():
    reporter, written = on_a_terminal()
    seconds = itertools.count(0, 0.5)  # one look at the clock at the start, one per report
    with reporter.bar("image", 40, "pictures", clock=lambda: next(seconds)) as advance:
        advance(10)
        advance()
    last = written().replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("image ")
    assert "11/40" in last
    assert "11.0 pictures/s" in last
    assert "━" in last


def test_a_bar_of_nothing_ends():
    reporter, written = on_a_terminal()
    with reporter.bar("image", 0):
        pass
    assert "0/0" in written()


def test_elsewhere_there_are_lines_at_times_and_at_the_end(capsys):
    now = iter([0, 4, 10, 13, 21, 30])
    with Reporter().bar("text", 40, clock=lambda: next(now)) as advance:
        for count in (8, 12, 6, 4):
            advance(count)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "text: 20 of 40 items, 2.0 items/s, 0:10 left",
        "text: 30 of 40 items, 1.4 items/s, 0:07 left",
        "text: 30 of 40 items, 1.0 items/s",
    ]


def test_quiet_says_nothing(capsys):
    reporter = Reporter(quiet=True)
    reporter.say("x")
    with reporter.bar("text", 1) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["[red]x[/red]", "x[/]", ":smile:", "a" * 300])
def test_lines_are_said_as_they_are(capsys, text):
    Reporter().say(text)
    assert capsys.readouterr().err == f"{text}\n"


CELLS = [r"i1\[/red]", "x[red]", "[/]", ":smile:", "", "  two", "ü 漢"]


@pytest.mark.parametrize("cell", CELLS)
def test_cells_are_shown_as_they_are(capsys, cell):
    print_table(plain_table(("[b]head[/b]", "n"), [(cell, "1")], right=("n",)))
    head, row = capsys.readouterr().out.splitlines()
    assert head.startswith("[b]head[/b]")
    assert row.endswith(" 1")
    assert row[: len(cell)] == cell


def test_what_would_move_the_cursor_is_escaped(capsys):
    print_table(plain_table(("id",), [("a\nb\tc\r\x1b[2J\u2028d",)]))
    assert capsys.readouterr().out.splitlines() == ["id", r"a\nb\tc\r\x1b[2J\u2028d"]


def test_figures_stand_to_the_right(capsys):
    print_table(counts_table({"items": 1234567, "users": 89}))
    assert capsys.readouterr().out.splitlines() == [
        "what       count",
        "items  1,234,567",
        "users         89",
    ]


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_no_figure_is_cut_on_a_narrow_terminal(monkeypatch, terminal):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(sys, "stdout", Terminal())
    names = [f"metric{n}" for n in range(20)]
    rows = [["0.1234"] * 20, ["0.5678"] * 20]
    print_table(plain_table(names, rows, right=names))
    head, *lines = ESCAPES.sub("", sys.stdout.getvalue()).splitlines()
    assert head.split() == names
    assert [line.split() for line in lines] == rows


@pytest.mark.parametrize("file", [Terminal, io.StringIO])
def test_a_long_cell_makes_no_other_line_long(monkeypatch, file):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", file())
    print_table(plain_table(("a", "b"), [("x", "y" * 500), ("x", "z")]))
    lines = ESCAPES.sub("", sys.stdout.getvalue()).splitlines()
    assert [len(line) for line in lines] == [4, 503, 4]


def test_a_styled_cell_keeps_its_colour_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    print_table(plain_table(("level",), [(Text("error", style="red"),)]))
    assert "\x1b[31merror" in sys.stdout.getvalue()

"""Records as JSON and as Python wrote them; whatever a line holds, it does no harm."""

import ast
import json
import random
import subprocess
import sys

import pyarrow as pa
import pytest

from pipelines.sources.loose import leading_id, parse_record

TUTU = (
    "{'asin': '0000031852', 'title': \"Girls' Tutu\", 'price': 3.17, "
    "'imUrl': 'http://ecx.example/I/51.jpg', 'related': {'also_bought': ['00JHONN1S', '00D2K1']}, "
    "'salesRank': {'Toys & Games': 211836}, 'brand': 'Coxlures', "
    "'categories': [['Sports & Outdoors', 'Other Sports', 'Dance']]}"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"a": "x", "b": 5.0, "c": [2], "d": null}', {"a": "x", "b": 5.0, "c": [2], "d": None}),
        ("{'a': 'x', \"b\": \"it's\", 'c': None}", {"a": "x", "b": "it's", "c": None}),
        ("{'a': [True, False, true, false]}", {"a": [True, False, True, False]}),
        ("{'a': [nan, NaN, null, inf, Inf, Infinity]}", {"a": [None] * 6}),
        ('{"a": [NaN, Infinity, -Infinity]}', {"a": [None] * 3}),
        ('{"a": [-NaN, Inf, -Inf ], "b": "\\/ Inf, -NaN"}', {"a": [None] * 3, "b": "/ Inf, -NaN"}),
        ("{'a': [-nan, -inf, -5, -2.5]}", {"a": [None, None, -5, -2.5]}),
        ('{"a": [1e3, 1e999, -1e999]}', {"a": [1000.0, None, None]}),
        ("{'a': 1e999}", {"a": None}),
        ('{"a": [9223372036854775807, -9223372036854775808]}', {"a": [2**63 - 1, -(2**63)]}),
        ('{"a": 9223372036854775808}', {"a": 2.0**63}),
        ("{'a': [9223372036854775808, 0x100000000000000000000]}", {"a": [2.0**63, 2.0**80]}),
        ('{"a": ' + "9" * 5000 + "}", {"a": None}),
        ("{'a': ('x', ('y',))}", {"a": ["x", ["y"]]}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("{'a': 1, 'a': 2}", {"a": 2}),
        ("  {'a': 1,}\t", {"a": 1}),
        ("{'a': 1} # why not", {"a": 1}),
        ("{}", {}),
        (
            "{'a': 'tab\there', 'b': '\\x41\\n\\d\\u00e9\\'\"'}",
            {"a": "tab\there", "b": "A\n\\dé'\""},
        ),
        ('{"a": "\\ud83d\\ude00\\/\\u00e9", "b": "é"}', {"a": "😀/é", "b": "é"}),
    ],
)
def test_what_is_a_record(line, expected):
    assert parse_record(line.encode()) == expected


def test_a_published_line():
    record = parse_record(TUTU.encode())
    assert record["title"] == "Girls' Tutu"
    assert record["categories"] == [["Sports & Outdoors", "Other Sports", "Dance"]]
    assert record["salesRank"] == {"Toys & Games": 211836}


def some_value(generator, depth=0):
    kind = generator.randrange(9 if depth < 3 else 6)
    if kind < 3:
        letters = "ab '\"\\\n\t\x7f/éß\u2028\u200b😀{}[],:#"
        return "".join(generator.choice(letters) for _ in range(generator.randrange(8)))
    if kind == 3:
        return generator.choice([0, -1, 12, 2**40, -(2**62), True, False, None])
    if kind < 6:
        return generator.choice([0.0, -2.5, 1e-7, 1e22, 3.17, generator.random()])
    if kind < 8:
        return [some_value(generator, depth + 1) for _ in range(generator.randrange(4))]
    keys = generator.sample(["a", "it's", 'say "x"', "Toys & Games", "\\", "é", ""], 3)
    return {key: some_value(generator, depth + 1) for key in keys}


def test_records_come_back_however_they_were_written():
    generator = random.Random(0)
    for _ in range(500):
        record = {f"field{k}": some_value(generator) for k in range(generator.randrange(6))}
        written = repr(record)
        assert ast.literal_eval(written) == record
        for line in (written, json.dumps(record), json.dumps(record, ensure_ascii=False)):
            assert parse_record(line.encode()) == record, line


@pytest.mark.parametrize(
    "written",
    ['"\\ud83d"', '"\\ude00 \\ud83d"', "'\\ud83d'", "'\\U0000d83d'", '"\\uD83Dx"'],
)
def test_half_a_character_is_replaced(written):
    for line in (f'{{"a": {written}}}', f'{{"b": [{{"a": {written}}}], "a": {written}}}'):
        record = parse_record(line.encode())
        assert "\ufffd" in record["a"]
        assert "\ufffd" in pa.array([record["a"]], pa.string()).to_pylist()[0]
        assert json.dumps(record, ensure_ascii=False).encode()


def test_both_halves_are_one_character_in_both_forms():
    assert parse_record(b'{"a": "\\ud83d\\ude00"}') == {"a": "😀"}
    assert parse_record(b"{'a': '\\ud83d\\ude00'}") == {"a": "😀"}


NOTHING = [
    *("", " ", "null", "[]", "1", '"a"', "nan", "x", "{", "}", "{}{}", "{} {}", "{},", "\ufeff{}x"),
    *(
        "{'a': 1}, {}",
        "{'a' 1}",
        "{'a': }",
        "{'a': 01}",
        "{'a': word}",
        "{'a': Inf.x}",
        "import os",
    ),
    *("{1: 2}", "{None: 1}", "{b'a': 1}", "{[]: 1}", "{{}: 1}", "{'a': {[]: 1}}", "{'a': {1: 2}}"),
    *("{'a': b'x'}", "{'a': 1j}", "{'a': 1+1}", "{'a': 1+1j}", "{'a': +1}", "{'a': ~1}"),
    *("{'a': not 1}", "{'a': --1}", "{'a': -'x'}", "{'a': -true}", "{'a': ...}", "{'a': 'x"),
    *("{'a': {1, 2}}", "{'a', 'b'}", "{'a': set()}", "{'a': f'x'}", "{'a': f'{x}'}", "{'a': *b}"),
    *("{'a': 1 if 1 else 2}", "{'a': lambda: 1}", "{'a': [x for x in y]}", "{**{'a': 1}}"),
    *("{'a': x.y}", "{'a': x[0]}", "{'a': (y := 1)}", "dict(a=1)", "# -*- coding: utf-7 -*-"),
    *("__import__('os').system('touch owned')", "{'a': __import__('os').system('touch owned')}"),
    *("{'a': open('owned', 'w')}", "{'a': 9**9**9}", "{'a': 'x' * 1000000000}", "{'a': 'x\0'}"),
    *('{"a": "x\0"}', "{'a': '\\N{NO SUCH}'}", "{'a': '\\ud8'}", "{'a': '\\x'}", "{'a':\r1}"),
    *("{'a': 'x' b'y'}", "{'\\x61': 1}", "{u'a': 1}", "{'a' 'b': 1}", "{'''a''': 1}"),
]


@pytest.mark.parametrize("line", NOTHING)
def test_what_is_no_record(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_record(line.encode()) is None
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "line",
    [b"\xff", b'{"a": "\xff"}', b"{'a': '\xe9'}", b'{"a": "\xed\xa0\x80"}', b"\xff\xfe{\0}\0"],
)
def test_what_is_not_utf8_is_no_record(line):
    assert parse_record(line) is None


# In a process of its own, as what they are after is to end it, or to fill the memory.
HOSTILE = r"""
from pathlib import Path
from pipelines.sources.loose import leading_id, parse_record

def harmless(line):
    line = line[: 1 << 20].encode()
    record, first = parse_record(line), leading_id(line, "asin")
    assert record is None or type(record) is dict, line[:80]
    assert first is None or record is None or record["asin"] == first, line[:80]
    return record

for n in (2_000, 200_000, 1_000_000):
    refused = [
        "[" * n, "[" * n + "]" * n, "{'a':" * n, "{'a':" * n + "1" + "}" * n, '{"a":' * n,
        "(" * n + ")" * n, "-" * n + "1", "~" * n + "1", "not " * n + "1", "1+" * n + "1",
        "1**" * n + "1", "9**9**9", "9**" * n + "9", "a" + ".a" * n, "a" + "()" * n,
        "a" + "[0]" * n, "1<" * n + "1", "1 and " * n + "1", "1 if 1 else " * n + "1",
        "lambda:" * n + "1", "0x" + "f" * (n * 2), "1_" * (n * 3) + "1", "f'{" * n, "(yield " * n,
        "f'" + "{" * n + "}" * n + "'", "(x:=" * n + "1" + ")" * n, "*" * n + "a", "[1," * n,
        "[" + "x for x in " * n + "]", "(\n" * n + ")" * n, "'x" + " " * n, chr(0) * n, "#" * n,
    ]
    for part in refused:
        for line in (part, "{'a': " + part + "}", "{'asin': 'x', 'a': " + part + "}"):
            assert harmless(line) is None, (n, line[:80])
    others = [
        "9" * n, "-" + "9" * n, "1e" + "9" * n, "0." + "1" * n, "'a' " * n, "1," * n, "()," * n,
        "{}," * n, "'" + r"\N{DIGIT ONE}" * n + "'", '"' + "\\" * n + '"', '"' + r"\"" * n,
        '"' + r"\ud800" * n + '"', '"' * n, "'" * n, " " * n, ":" * n, "," * n, "\\" * n,
        "Inf," * n, '"Inf' + r"\"" * n, "'" + " " * n, "' " * n, "''" * n + ":", "\\" * n + "':",
    ]
    for part in refused + others:
        for line in (part, "{'a': [" + part + "]}", '{"a": [' + part + "]}", "{'asin': '" + part,
                     "{'asin': 'x', " + part, '{"asin": "x", "Inf": ' + part):
            harmless(line)
# Not getrusage, which counts the process that started this one, too.
print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_hostile_lines_do_not_end_the_process_or_fill_the_memory():
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 400


def test_no_line_writes_a_warning(recwarn):
    for value in (b"'\\d'", b"1or 2", b"1 is 1", b"()()", b"0x1for x in y"):
        parse_record(b"{'a': " + value + b"}")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{'asin': '0000031852', 'title': 'x'}", "0000031852"),
        ('{"asin": "0000031852", "title": "x"}', "0000031852"),
        ("{'asin':'B1','price':1}", "B1"),
        ("  { 'asin' : \"B1\" , 'price': 1}", "B1"),
        ("{'asin': 'é'}", "é"),
        ("{'asin': ''}", ""),
        # The word alone does no harm, nor do escapes elsewhere.
        ("{'asin': 'B1', 'title': 'the asin of a basin \\n: x', 'b': \"'\"}", "B1"),
        # Only parsing can tell.
        ("{'title': 'x', 'asin': 'B1'}", None),
        ("{'asin': 5}", None),
        ("{'asin': 'B\\x31'}", None),
        ('{"asin": "B\\u0031"}', None),
        ("{'asin': 'B' '1'}", None),
        ("{'asin': u'B1'}", None),
        ("{'asin': 'B1' if 0 else 'B2'}", None),
        ("{'asin': 'B1', 'asin': 'B2'}", None),
        ('{"asin": "B1", "asin": "B2"}', None),
        ("{'asin': 'B1', \"asin\": 'B2'}", None),
        ("{'asin': 'B1', '\\x61sin': 'B2'}", None),
        ('{"asin": "B1", "\\u0061sin": "B2"}', None),
        ('{"asin": "B1", "asi\\u006e" : "B2"}', None),
        ("{'asins': 'B1'}", None),
        ("['asin', 'B1']", None),
        ("", None),
    ],
)
def test_the_id_that_a_line_begins_with(line, expected):
    assert leading_id(line.encode(), "asin") == expected


def test_an_id_that_is_not_utf8_is_not_decided():
    assert leading_id(b"{'asin': '\xff'}", "asin") is None


def test_the_id_at_a_glance_is_that_of_the_record():
    generator = random.Random(0)
    keys = ["'asin'", '"asin"', "'as' 'in'", "'a\\x73in'", '"as\\u0069n"', "'''asin'''", "u'asin'"]
    keys += ["('asin')", "'asi' 'n'", "r'asin'", "'asi\\\rn'", "'x'"]
    values = ["'B1'", '"B2"', "'B\\x33'", "'asin'"]
    parts = [*keys, *values, *[": ", ", "] * 3, *"{}[]# 5\\\r'\"", "'b", "c'"]
    seen = decided = 0
    for _ in range(40_000):
        quote = generator.choice("'\"")
        begin = f"{{{quote}asin{quote}: " + generator.choice(["'B1'", '"B2"']) + ", "
        tail = [generator.choice(parts) for _ in range(generator.randrange(8))]
        if generator.random() < 0.5:
            more = tail if generator.random() < 0.2 else []
            tail = [generator.choice(keys), ": ", generator.choice(values), *more]
        line = (begin + "".join(tail) + "}").encode()
        record, first = parse_record(line), leading_id(line, "asin")
        if first is not None and record is not None:
            assert record["asin"] == first, line
            decided += 1
        seen += record is not None
    assert seen > decided > 500

"""Files of reviews, as the published ones are and as they should not be."""

import gzip
import json
import os
import random
import subprocess
import sys

import pyarrow as pa
import pytest

from extract.errors import UserError
from pipelines.progress import Reporter
from pipelines.sources import lines, reviews
from pipelines.sources.reviews import ReviewFields, read_reviews

FIELDS = ReviewFields("reviewerID", "asin", "overall", "unixReviewTime")
SHORT = ReviewFields("u", "i", "r", "t")
# As published: 2014 first, then 2018.
REVIEW = {
    "reviewerID": "A2SUAM1J3GNN3B",
    "asin": "0000013714",
    "reviewerName": 'J. "Jim" McDonald',
    "helpful": [2, 3],
    "reviewText": "I bought this for my husband {who} plays the piano \u2014 [nice].\n",
    "overall": 5.0,
    "summary": "Heavenly Highway Hymns",
    "unixReviewTime": 1252800000,
    "reviewTime": "09 13, 2009",
}
NEWER = {
    "overall": 4.0,
    "vote": "1,234",
    "verified": True,
    "reviewTime": "09 13, 2009",
    "reviewerID": "A2SUAM1J3GNN3C",
    "asin": "0000013714",
    "style": {"Format:": " Hardcover", "asin": "not this one"},
    "unixReviewTime": 1252800001,
    "image": ["https://images.example/1.jpg"],
}


@pytest.fixture
def read(tmp_path):
    """Read lines by way of a file; rows as tuples, and how many lines are unreadable."""

    def of(*written, fields=SHORT, name="reviews.json.gz"):
        path = tmp_path / name
        content = b"".join(
            (line if isinstance(line, bytes) else line.encode()) + b"\n" for line in written
        )
        path.write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
        found = read_reviews(path, fields, Reporter(quiet=True))
        assert found.log.schema == pa.schema(
            dict(user_id="string", item_id="string", rating="float64", timestamp="int64")
        )
        found.log.validate(full=True)
        return [tuple(row.values()) for row in found.log.to_pylist()], found.unreadable

    return of


@pytest.fixture
def at_once(monkeypatch):
    """Nothing may be read line by line."""

    def refuse(line):
        raise AssertionError(line)

    monkeypatch.setattr(reviews, "parse_record", refuse)


@pytest.mark.parametrize("write", [json.dumps, repr, lambda r: json.dumps(r, ensure_ascii=False)])
def test_the_published_forms(read, write):
    expected = [
        ("A2SUAM1J3GNN3B", "0000013714", 5.0, 1252800000),
        ("A2SUAM1J3GNN3C", "0000013714", 4.0, 1252800001),
    ]
    assert read(write(REVIEW), write(NEWER), fields=FIELDS) == (expected, 0)
    assert read(write(NEWER), write(REVIEW), fields=FIELDS, name="r.json") == (expected[::-1], 0)


def test_plain_lines_are_read_in_one_go(read, at_once):
    assert len(read(*[json.dumps(REVIEW), json.dumps(NEWER)] * 50, fields=FIELDS)[0]) == 100


GOOD = '{"u": "a", "i": "b", "r": 5.0, "t": 1}'
ROW = ("a", "b", 5.0, 1)


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ('{"u": "a", "i": "b"}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "r": null, "t": null}', ("a", "b", None, None)),
        ('{"t": 2, "r": 1, "i": "b", "u": "a"}', ("a", "b", 1.0, 2)),
        ('{"u": " ", "i": "\\u00e9\\u0000"}', (" ", "é\0", None, None)),
        ('{"u": "\\ud83d\\ude00", "i": "é"}', ("😀", "é", None, None)),
        ('{"u": "\\ud83d", "i": "b"}', ("\ufffd", "b", None, None)),
        ('{"\\u0075": "a", "i": "b"}', ("a", "b", None, None)),
        # Nested fields of the same names are others.
        ('{"x": {"u": 1, "i": null, "r": "x"}, "u": "a", "i": "b"}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "x": [{"u": "z"}, {"i": "z", "i": "z"}]}', ("a", "b", None, None)),
        # Of keys that stand twice the last one counts.
        ('{"u": "a", "i": "b", "u": "c"}', ("c", "b", None, None)),
        ('{"u": "a", "i": "b", "r": 1, "r": "x"}', ("a", "b", None, None)),
        # Numbers, however they are written; what is none is unknown.
        ('{"u": "a", "i": "b", "r": 4, "t": 1252800000.0}', ("a", "b", 4.0, 1252800000)),
        ('{"u": "a", "i": "b", "r": 1e3, "t": 1e3}', ("a", "b", 1000.0, 1000)),
        ('{"u": "a", "i": "b", "t": -1.5}', ("a", "b", None, -2)),
        ('{"u": "a", "i": "b", "r": NaN, "t": NaN}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "r": -NaN}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b\\/", "r": Inf}', ("a", "b/", None, None)),
        ('{"u": "a", "i": "b", "r": 1e999, "t": 1e999}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "r": "5.0", "t": "1"}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "r": true, "t": false}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "r": [5], "t": {}}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "t": 9223372036854775807}', ("a", "b", None, 2**63 - 1)),
        ('{"u": "a", "i": "b", "t": 9223372036854775808}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "r": 9223372036854775808}', ("a", "b", 2.0**63, None)),
        ('{"u": "a", "i": "b", "r": ' + "9" * 5000 + "}", ("a", "b", None, None)),
        # The other form.
        ("{'u': 'a', 'i': \"b's\", 'r': 4.0, 't': 3, 'x': nan}", ("a", "b's", 4.0, 3)),
        ("{'u': 'a', 'i': 'b', 'r': None, 't': nan}", ("a", "b", None, None)),
        ('{"u": "a", "i": "b",}', ("a", "b", None, None)),
        # No such records.
        ('{"i": "b"}', None),
        ('{"u": "a", "i": null}', None),
        ('{"u": "a", "i": ""}', None),
        ('{"u": 5, "i": "b"}', None),
        ('{"u": "a", "i": ["b"]}', None),
        ('{"u": "a", "i": {"i": "b"}}', None),
        ('{"u": "a", "i": "b", "i": 5}', None),
        ("{}", None),
        ("null", None),
        ("[]", None),
        ("word", None),
        ('{"u": "a", "i": "b"} {"u": "c", "i": "d"}', None),
        ('{"u": "a", "i": "b"} null', None),
        ('null {"u": "a", "i": "b"}', None),
        ('{"u": "a", "i": "b"', None),
        ('{"u": "a", "i": "b", "x": "tab\t"}', ("a", "b", None, None)),
        ('{"u": "a", "i": "b", "x": "\0"}', None),
        ('{"u": "a", "i": "b", "x": 05}', None),
        ('{"u": "a", "i": "b", "x": ' + "[" * 5000 + "]" * 5000 + "}", None),
        (b'{"u": "a", "i": "b", "x": "\xff"}', None),
        (b'{"u": "a", "i": "b", "x": "\xed\xa0\x80"}', None),
        ('{"u": "a", "i": "b", "x": "' + "y" * (1 << 20) + '"}', None),
    ],
)
@pytest.mark.parametrize("may_be_plain", [True, False])
def test_one_odd_line_among_good_ones(read, monkeypatch, line, row, may_be_plain):
    if not may_be_plain:
        monkeypatch.setattr(reviews, "_is_plain", lambda block: False)
    for place in range(3):
        written, expected = [GOOD, GOOD], [ROW, ROW]
        written.insert(place, line)
        expected.insert(place, row)
        found = [one for one in expected if one]
        assert read(*written) == (found, len(expected) - len(found))


def test_blank_lines_are_no_lines(read):
    assert read("", GOOD, "  ", "\t", GOOD, "", "") == ([ROW, ROW], 0)
    assert read("word", "", "", "", GOOD) == ([ROW], 1)


def test_a_record_over_two_lines_is_none(read):
    # Two lines and two records, yet neither line is one.
    assert read(GOOD, GOOD, GOOD, '{"u":"a","i":"b"}{"u":"c",', '"i":"d"}') == ([ROW] * 3, 2)
    assert read(GOOD, GOOD, '{"u":"a",', '"i":"b"}') == ([ROW, ROW], 2)
    assert read(GOOD, GOOD, '{"u":"a","i":"b"} {"u":"c","x":', '{},"i":"d"}') == ([ROW, ROW], 2)


STRINGS = [
    *('"a"', '"b\\u00e9"', '"é😀"', '"\\u0000x"', '"\\ud83d\\ude00"', '"\\/\\"\\\\"', '"}{]["'),
    *('"Inf, -NaN]"', '"\x7f\u2028"', '""', '" "', '"\\ud83d"', '"\\ude00z"', "'q'", '"a\tb"'),
    *('"a\\q"', '"\\u12"', '"x" "y"', '"\\U00000041"'),
]
NUMBERS = [
    *("5", "5.0", "0", "1252800000", "1.5", "-0.0", "1e3", "1E-3", "0.1", "123456789.1234567891"),
    *("1e999", "-1e999", "1e-400", "NaN", "-NaN", "Infinity", "-Infinity", "Inf", "-Inf", "nan"),
    *("05", "5.", ".5", "+5", "5e", "1_0", "0x10", "1252800000.7", "-1.5", "9007199254740993"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 30, "9" * 5000),
    *("1.7976931348623157e308", "1.7976931348623159e308", "2.2250738585072011e-308", "Infinit"),
]
OTHERS = [
    *("null", "true", "[1]", "false", "True", "None", "[]", "{}", '{"u": "z", "i": 1}', "[1,]"),
    *('[{"u": "z"}]', "[" * 460 + "]" * 460, "[" * 2000 + "]" * 2000, '{"a": 1,}', "{1: 2}", "tr"),
]
WHOLE_LINES = [
    *("", "  ", "null", "[]", '"s"', "{}", "{} null", "null {}", '\ufeff{"u":"a","i":"b"}', "}{"),
    *('{"u":"a","i":"b"}{"u":"c","i":"d"}', '{"u":"a","i":', '"b"}', '{"u":"a","i":"b"}}', "\r"),
    *("{'u':'a','i':'b'}", '{"u":"a","i":"b"},', '{"u":"a"} {"i":"b"}', '{"u":"a","i":"b"}//'),
]
LETTERS = ['"', "{", "}", "[", "]", ",", ":", "\\", "\0", "\n", "\r", "x", ""]
COMMON = {"u": STRINGS[:9], "i": STRINGS[:9], "r": NUMBERS[:9], "t": NUMBERS[:4], "x": OTHERS[:3]}


def some_line(generator):
    """A record; one in four with something odd."""
    odd = generator.random() < 0.25
    if odd and generator.random() < 0.2:
        return generator.choice(WHOLE_LINES)
    fields = [(name, COMMON[name]) for name in COMMON if generator.random() < 0.97]
    if odd and generator.random() < 0.3:
        fields.append(generator.choice([*COMMON.items()]))
    generator.shuffle(fields)
    written = [f'"{name}": {generator.choice(values)}' for name, values in fields]
    if odd and written:
        name = generator.choice(["u", "i", "r", "t", "x", "\\u0075", "q\\q"])
        value = generator.choice(STRINGS + NUMBERS + OTHERS)
        written[generator.randrange(len(written))] = f'"{name}":{value}'
    line = "{" + ",".join(written) + "}"
    if odd and generator.random() < 0.2:
        place = generator.randrange(len(line))
        end = place + generator.randrange(3)
        line = line[:place] + generator.choice(LETTERS) + line[end:]
    return line


def test_both_ways_give_the_same_rows():
    generator = random.Random(0)
    fast = 0
    for _ in range(4000):
        text = "\n".join(some_line(generator) for _ in range(generator.randint(1, 4)))
        block = text.encode("utf-8", "surrogatepass")
        if generator.random() < 0.02:
            block = block.replace(b"a", b"\xff", 1)
        slowly = reviews._one_by_one(block, SHORT)
        at_once = reviews._at_once(block, SHORT) if reviews._is_plain(block) else None
        if at_once is not None:
            assert readable(at_once) == readable(slowly), block
            fast += 1
    assert 1000 < fast < 3000


def readable(rows):
    """Rows with both ids, each with its number in the block."""
    return [
        (number, *row.values())
        for number, row in enumerate(rows.to_pylist())
        if row["user_id"] and row["item_id"]
    ]


def naive_row(line):
    """What the test takes for a review, one line after the other."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    ids = record.get("u"), record.get("i")
    if not all(isinstance(name, str) and name for name in ids):
        return None
    return (*ids, float(record["r"]), record["t"])


def test_large_files_are_those_of_a_naive_reading(read, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 5000)
    generator = random.Random(1)
    written = []
    for number in range(3000):
        odd = generator.random()
        record = {"u": f"user {number % 97}é", "i": f"{number % 89:05}", "r": number / 7}
        record |= {"t": number, "text": "some words " * generator.randrange(30)}
        if odd < 0.005:
            del record["i"]
        written.append(json.dumps(record)[: None if odd < 0.995 else 40])
    rows = [naive_row(line) for line in written]
    found, unreadable = read(*written)
    assert found == [row for row in rows if row]
    assert unreadable == rows.count(None) > 10


def test_a_file_of_something_else_is_refused(read):
    with pytest.raises(UserError) as refusal:
        read(GOOD, "word " * 100, "{'u': 'a'}", "x")
    told = str(refusal.value)
    assert "is no file of reviews: 3 of 4 lines are no record with texts in 'u' and 'i'" in told
    assert "word word" in told
    assert len(told) < 400
    assert read(GOOD, GOOD, "word", "x")[1] == 2  # half is not most


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"asin": "b", "u": "a"}', """'{"asin": "b", "u": "a"}'"""),
        ("a\x1b[31m\rb", r"'a\x1b[31m\rb'"),
        (b"\xff\xfe", "'\ufffd\ufffd'"),
        ("x" * (1 << 21), "longer than 1,048,576 bytes"),
    ],
)
def test_the_first_unreadable_line_is_told_in_one_line(read, line, told):
    with pytest.raises(UserError) as refusal:
        read(line, line, GOOD)
    assert str(refusal.value).endswith(f"the first of them is {told}")


@pytest.mark.parametrize("written", [[], ["", "  "]])
def test_an_empty_file_is_refused(read, written):
    with pytest.raises(UserError, match="has no lines"):
        read(*written)


def test_a_torn_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "reviews.json.gz"
    with pytest.raises(UserError, match="there is no file"):
        read_reviews(path, SHORT, Reporter(quiet=True))
    path.write_bytes(gzip.compress((GOOD + "\n").encode() * 1000)[:-9])
    with pytest.raises(UserError, match="whole gzip file"):
        read_reviews(path, SHORT, Reporter(quiet=True))


def test_progress_is_told_in_bytes_of_the_file(tmp_path, capsys):
    path = tmp_path / "reviews.json.gz"
    content = b"".join(
        b'{"u": "a", "i": "b", "x": "%s"}\n' % os.urandom(500).hex().encode() for _ in range(5000)
    )
    path.write_bytes(gzip.compress(content, 1))
    size = path.stat().st_size // 1_000_000
    assert size >= 2
    read_reviews(path, SHORT, Reporter())
    assert f"reviews.json.gz: {size} of {size} MB" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much a process held")
def test_memory_does_not_grow_with_the_text(tmp_path):
    """By ten times as much text the memory grows by what the rows take, and little more."""
    program = (
        "import sys; from pathlib import Path\n"
        "from pipelines.progress import Reporter\n"
        "from pipelines.sources.reviews import ReviewFields, read_reviews\n"
        "fields = ReviewFields('reviewerID', 'asin', 'overall', 'unixReviewTime')\n"
        "read_reviews(Path(sys.argv[1]), fields, Reporter(quiet=True))\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    peaks = []
    for count in (20_000, 200_000):
        path = tmp_path / "reviews.json.gz"
        line = json.dumps(REVIEW | {"reviewText": "such words as people write " * 20}) + "\n"
        path.write_bytes(gzip.compress(line.encode() * 1000, 1) * (count // 1000))
        told = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
        ).stdout
        peaks.append(int(told))
    assert peaks[1] - peaks[0] < 40 << 10  # KiB, of 140 MB more text

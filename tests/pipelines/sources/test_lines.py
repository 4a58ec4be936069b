"""Lines of files, compressed or not, as a naive reading of the whole text gives them."""

import gzip
import tracemalloc

import numpy as np
import pytest

from extract.errors import UserError
from pipelines.sources import lines
from pipelines.sources.lines import ahead, lines_of, read_blocks, read_lines


@pytest.fixture
def file(tmp_path):
    def write(content, name="lines.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        return path

    return write


@pytest.mark.parametrize("name", ["lines.gz", "lines.json"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"\n\na\n\n", [b"", b"", b"a", b""]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\rb\n\rc\n", [b"a\rb", b"\rc"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
        (
            "a\u2028b\x0bc\x0c\x85\n\xff\0\n".encode("latin-1", "replace"),
            [b"a?b\x0bc\x0c\x85", b"\xff\0"],
        ),
    ],
)
def test_what_ends_a_line(file, name, content, expected):
    assert list(read_lines(file(content, name))) == expected


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 64])
def test_chunks_leave_no_trace(file, chunk, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", chunk)
    generator = np.random.default_rng(chunk)
    for _ in range(30):
        content = bytes(generator.choice([*b"ab\n\n\r"], size=generator.integers(1, 60)).tolist())
        text = content.replace(b"\r\n", b"\n")
        expected = text.removesuffix(b"\n").split(b"\n")
        longest = int(generator.integers(1, 8))
        path = file(content, "lines.txt")
        assert list(read_lines(path, longest)) == [
            line if len(line) <= longest else None for line in expected
        ]
        assert b"\n".join(read_blocks(path)) == text.removesuffix(b"\n")


def test_a_line_that_is_too_long_is_none(file):
    path = file(b"abc\nabcd\nabcde\nabc\r\nabcd\r\nab")
    assert list(read_lines(path, 3)) == [b"abc", None, None, b"abc", None, b"ab"]
    assert lines_of(b"abc\nabcd", 3) == [b"abc", None]


@pytest.mark.parametrize("ending", [b"", b"\nlast\n"])
def test_a_line_without_end_takes_no_memory(tmp_path, ending):
    path = tmp_path / "endless.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"first\n")
        for _ in range(100):
            stream.write(bytes(1 << 20))
        stream.write(ending)
    tracemalloc.start()
    found = list(read_lines(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [b"first", None, *ending.split()]
    assert peak < 30 << 20


def test_several_gzip_files_in_one_are_read_one_after_the_other(tmp_path):
    path = tmp_path / "lines.gz"
    path.write_bytes(gzip.compress(b"a\nb") + gzip.compress(b"") + gzip.compress(b"c\n"))
    assert list(read_lines(path)) == [b"a", b"bc"]


# Without the time, which would be another one in each process that runs the tests.
WHOLE = gzip.compress(b"one line\n" * 1000, mtime=0)


@pytest.mark.parametrize(
    "content",
    [WHOLE[:2], WHOLE[:9], WHOLE[:-1], WHOLE[:-8], WHOLE[:40], WHOLE + b"rest", WHOLE + WHOLE[:20]],
    ids=["magic", "head", "-1", "-8", "40", "rest", "a second one"],
)
def test_a_torn_file_is_refused(tmp_path, content):
    path = tmp_path / "lines.gz"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"lines\.gz should be a whole gzip file, found: .*fetch it"
    ):
        list(read_lines(path))


def test_a_flipped_byte_is_seen(tmp_path):
    path = tmp_path / "lines.gz"
    path.write_bytes(WHOLE[:-6] + bytes([WHOLE[-6] ^ 1]) + WHOLE[-5:])
    with pytest.raises(UserError, match="whole gzip file"):
        list(read_lines(path))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        list(read_lines(tmp_path / "nothing.gz"))


def test_how_far_it_has_read_is_told(file, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 1000)
    path = file(b"x" * 99 + b"\n" + b"y" * 8899 + b"\n", "lines.txt")
    told = []
    assert sum(map(len, read_blocks(path, tell=told.append))) == 9000 - 2
    assert told == [1000 * k for k in range(1, 10)]
    compressed = file(b"line\n" * 100_000)
    assert list(read_blocks(compressed, tell=told.append))
    assert told[-1] == compressed.stat().st_size


def test_what_is_made_ahead_comes_in_order_and_with_its_error():
    def values():
        yield 1
        yield 2
        raise UserError("torn")

    found = []
    with pytest.raises(UserError, match="torn"):
        found.extend(ahead(values()))
    made = ahead(iter([b"", b"a", b"b"]))
    assert next(made) == b""
    assert list(made) == [b"a", b"b"]


def test_leaving_early_closes_the_file(file, recwarn):
    reading = read_lines(file(b"line\n" * 100_000))
    assert next(reading) == b"line"
    reading.close()
    assert not recwarn.list

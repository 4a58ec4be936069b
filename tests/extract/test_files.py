import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extract.files import (
    digest,
    file_sha256,
    is_remote,
    is_running,
    local_copy,
    move,
    read_parquet,
    replacing,
    sweep,
    write_json,
)


def test_a_files_digest_is_that_of_the_standard(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180-2
    assert file_sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_lists_of_strings_with_equal_letters_have_other_digests():
    found = {digest(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], [])}
    assert len(found) == 5
    assert {len(one) for one in found} == {32}
    assert digest(["\ud800"])  # half a pair, which is in some file names


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"b": 1})
    write_json(path, {"c": [2]})
    assert path.read_text() == '{\n  "c": [\n    2\n  ]\n}\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_on_an_error_the_old_file_stays(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_and_its_new_name_are_flushed_in_that_order(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    write_json(tmp_path / "a", {})
    assert flushed == [f"{tmp_path}/.a.{os.getpid()}.tmp", str(tmp_path)]


def test_what_killed_processes_left_is_swept_up(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from extract.files import replacing
with replacing(Path({str(tmp_path / "part.parquet")!r})) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -9
    kept = {f".own.{os.getpid()}.tmp", ".notes.tmp", "a.tmp", "part-00000.parquet"}
    for name in kept:
        (tmp_path / name).touch()
    assert len(list(tmp_path.iterdir())) == len(kept) + 1
    assert sweep(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert sweep(tmp_path) == sweep(tmp_path / "absent") == 0


def test_a_process_is_known_by_its_number():
    assert is_running(os.getpid())
    assert is_running(1)  # of another user, often
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_running(ended.pid)


def test_a_file_moves_over_another(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    move(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "new"


def test_a_file_on_disk_is_its_own_copy(tmp_path):
    assert not is_remote(tmp_path)
    with local_copy(tmp_path / "a") as copy:
        assert copy == tmp_path / "a"


def test_a_table_is_read_whole_or_by_columns(tmp_path):
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet") == table
    assert read_parquet(tmp_path / "t.parquet", ["b"]) == table.select(["b"])
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "u.parquet")

"""The commands on a workspace in an object store: a real server on 127.0.0.1."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.s3 import BUCKET, CREDENTIALS, free_port, s3_server

from extract import leases
from extract.errors import UserError
from extract.files import is_remote, local_copy, move, read_parquet, remove_others, replacing
from extract.holders import Holder
from extract.locking import locked
from extract.parts import parts_of
from extract.shards import ShardReader
from pipelines import journal
from pipelines.cli import run
from pipelines.progress import Reporter
from pipelines.roots import open_path, open_root, tell_store_error
from pipelines.sources import pictures
from pipelines.sources.pictures import write_pictures
from pipelines.workspace import write_table

store_module = pytest.importorskip(
    "pipelines.object_store", reason="needs the extra s3", exc_type=ImportError
)
pytest.importorskip("moto.server", reason="needs moto and flask, of the extra dev")

PREPARE = ("prepare", "toy", "--items", "50", "--users", "60")
EXTRACT = ("extract", "--encoder", "random:16", "--shard-rows", "8", "--workers", "1")
DIES_AFTER_THREE = """
import os, signal, sys
from extract.shards import ShardWriter
from pipelines.cli import run

write = ShardWriter.write

def dying(self, *arguments):
    shard = write(self, *arguments)
    if len(self.shards) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return shard

ShardWriter.write = dying
run(sys.argv[1], sys.argv[2:])
"""
TRAINING_DIES = """
import os, signal, sys
from pipelines.cli import run
from pipelines.runs import RunFolder

keep = RunFolder.keep

def dying(self, made_from, seconds, state):
    keep(self, made_from, seconds, state)
    if state["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.keep = dying
run(sys.argv[1], sys.argv[2:])
"""
RUN_FILES = {"config.toml", "history.jsonl", "log.txt", "ids.parquet", "metrics.json"} | {
    "embeddings.safetensors",
    "model.safetensors",
    "per_user.parquet",
    "recommendations.parquet",
}


@pytest.fixture(scope="module")
def server():
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No credentials or servers but those of the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def root(server, monkeypatch, request):
    """A prefix of the test's own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    return open_root(f"s3://{BUCKET}/{request.node.name}")


@pytest.fixture
def mmrec(capsys):
    """Run a command on a root; it must succeed. Gives what it wrote."""

    def call(root, words, *arguments, code=0):
        name, *rest = words.split()
        capsys.readouterr()
        found = run(name, [*rest, *map(str, arguments), "--root", str(root)])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return captured

    return call


@pytest.fixture
def refused(mmrec):
    """Run mmrec-runs on a root that must be refused in one line; gives it."""

    def call(root):
        store_module.Store.clear_instance_cache()
        (line,) = mmrec(root, "runs", code=1).err.splitlines()
        assert line.startswith("error: ")
        return line

    yield call
    # What comes next finds its own server and keys in the environment.
    store_module.Store.clear_instance_cache()


def names(root):
    """All keys below a root."""
    prefix = root.path + "/"
    return sorted(key.removeprefix(prefix) for key in root.fs.find(root.path))


@pytest.fixture(scope="module")
def shop(server):
    """A data set of the toy shop with features, made by the commands in the object store."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": server}).items():
            patch.setenv(name, value)
        store_module.Store.clear_instance_cache()
        for command in (PREPARE, EXTRACT):
            assert run(command[0], [*command[1:], "--root", f"s3://{BUCKET}/shop"]) == 0
    return f"s3://{BUCKET}/shop"


class TestCommands:
    def test_from_features_to_recommendations(self, mmrec, root, shop, tmp_path):
        root = open_root(shop)
        assert "missing pictures" in mmrec(root, "check").out
        train = "train --model vbpr --features random-16 --set train.max_epochs=2 --run r"
        folder = mmrec(root, train).out.splitlines()[-1]
        assert folder == f"{root}/runs/toy/r"
        assert "vbpr" in mmrec(root, "runs").out
        mmrec(root, "evaluate r --json", tmp_path / "metrics.json")
        told = json.loads((root / "runs/toy/r/metrics.json").read_text())
        assert json.loads((tmp_path / "metrics.json").read_text())["test"] == told["test"]
        lists = mmrec(root, "recommend", folder, "--top", 3).out
        assert len(lists.splitlines()) == 1 + 3 * told["users"]
        mmrec(root, "recommend r --top 3 --out", root / "lists.tsv")
        assert (root / "lists.tsv").read_text() == lists
        assert set(names(root / "runs/toy/r")) == RUN_FILES
        history = (root / "runs/toy/r/history.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in history] == [1, 2]
        assert (root / "runs/toy/r/log.txt").read_text().splitlines()[-1].startswith("done in")
        again = mmrec(root, "train --config", f"{folder}/config.toml").out
        assert again.splitlines()[-1] == folder

    def test_the_files_are_those_of_a_disk(self, mmrec, root, shop, tmp_path):
        for name, *arguments in (PREPARE, EXTRACT):
            mmrec(tmp_path, name, *arguments)
        local, remote = tmp_path / "data/toy", open_root(shop) / "data/toy"
        files = [str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()]
        assert len(files) > 48 + 3 + 7
        assert names(remote) == sorted(files)
        for name in files:
            if name.endswith((".jpg", ".parquet")):
                assert (remote / name).read_bytes() == (local / name).read_bytes()

    def test_the_root_may_be_in_the_environment(self, root, monkeypatch, capsys):
        monkeypatch.setenv("MMREC_ROOT", str(root))
        assert run("runs", []) == 1
        assert f"found none under {root}/data" in capsys.readouterr().err

    def test_matrices_become_features(self, mmrec, root, tmp_path, write):
        rows = ["userID\titemID\tx_label"]
        rows += [f"{user}\t{(user + step) % 5}\t{step}" for user in range(6) for step in range(3)]
        mmrec(root, "prepare inter --dataset five --interactions", write("five.inter", *rows))
        np.save(tmp_path / "t.npy", np.eye(5, 3) + 1)
        mmrec(root, "prepare features --features given --text", tmp_path / "t.npy")
        (batch,) = ShardReader(root / "data/five/features/given")
        assert batch.vectors["text"].tolist() == (np.eye(5, 3) + 1).tolist()

    def test_pictures_take_the_place_of_earlier_ones(self, root, monkeypatch):
        monkeypatch.setattr(pictures, "UPLOADED_AT_ONCE", 2)
        for letters in ("abcde", "cdefg"):
            draws = {f"{x}.jpg": partial(Path.write_text, data=letters) for x in letters}
            write_pictures(root, draws, Reporter(quiet=True))
        assert names(root) == [f"{letter}.jpg" for letter in "cdefg"]
        assert {path.read_text() for path in root.iterdir()} == {"cdefg"}


class TestResume:
    def test_a_killed_training_goes_on(self, mmrec, root, shop):
        root = open_root(shop)
        train = "train --model vbpr --features random --set train.max_epochs=4"
        mmrec(root, f"{train} --run whole")
        words = f"{train} --run killed --checkpoint-seconds 0 --root {root}".split()
        killed = subprocess.run([sys.executable, "-c", TRAINING_DIES, *words], check=False)
        assert killed.returncode == -signal.SIGKILL
        whole, folder = root / "runs/toy/whole", root / "runs/toy/killed"
        assert {"checkpoint.pt", ".lock"} < set(names(folder))
        assert "goes on after epoch 2" in mmrec(root, "train --resume killed").err
        assert set(names(folder)) == RUN_FILES
        for name in ("embeddings.safetensors", "per_user.parquet"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes()
        history = (folder / "history.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in history] == [1, 2, 3, 4]
        assert "epoch    2" in (folder / "log.txt").read_text()

    def test_a_killed_extraction_goes_on(self, mmrec, root, shop):
        root = open_root(shop)
        folder = root / "data/toy/features/killed"
        arguments = [*EXTRACT, "--features", "killed", "--root", str(root)]
        killed = subprocess.run([sys.executable, "-c", DIES_AFTER_THREE, *arguments], check=False)
        assert killed.returncode == -signal.SIGKILL
        done = [name for name in names(folder) if name.startswith("part-")]
        written = {name: (folder / name).stat().st_mtime for name in done}
        assert len(done) == 3
        assert ".lock" in names(folder)
        train = mmrec(root, "train --model vbpr --features killed", code=1)
        assert "unfinished" in train.err
        assert f"{8 * len(done)} reused" in mmrec(root, *arguments[:-2]).err
        assert {name: (folder / name).stat().st_mtime for name in done} == written
        assert sum(len(batch.item_ids) for batch in ShardReader(folder)) == 50
        for name in names(folder):
            if name.endswith(".parquet"):
                whole = folder.with_name("random-16") / name
                assert (folder / name).read_bytes() == whole.read_bytes()
        assert ".lock" not in names(folder)

    def test_a_changed_catalogue_takes_what_is_unchanged(self, mmrec, root, shop, tmp_path):
        """Shards move aside and back in the store as they do on a disk."""
        for place in (open_root(shop), tmp_path):
            if place == tmp_path:
                mmrec(place, *PREPARE)
            items = place / "data/toy/items.parquet"
            whole = read_parquet(items)
            one = [*EXTRACT, "--features", "changing"]
            mmrec(place, *one)
            write_table(items, whole.slice(3))
            told = mmrec(place, *one).err
            assert "(47 reused, 0 new, 0 changed, 3 removed)" in told
            write_table(items, whole)
        folders = [place / "data/toy/features/changing" for place in (open_root(shop), tmp_path)]
        files = [{path.name: path.read_bytes() for path in each.iterdir()} for each in folders]
        assert files[0].keys() == files[1].keys()
        assert len(files[0]) == 6 + 2
        for name in files[0].keys() - {"manifest.json"}:
            assert files[0][name] == files[1][name]


HOLD = """
import sys, time
from extract.locking import locked
from pipelines.roots import open_path
with locked(open_path(sys.argv[1]), "extracting features to"):
    print("held", flush=True)
    time.sleep(60)
"""


class TestLock:
    def test_it_is_told_while_held_and_free_when_the_holder_is_killed(self, root):
        command = [sys.executable, "-c", HOLD, str(root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UserError) as refused, locked(root, "preparing"):
                pass
            holder.kill()
        assert str(refused.value).startswith(f"another process ({holder.pid} on ")
        assert f"is extracting features to {root}; wait" in str(refused.value)
        with locked(root, "preparing"):
            assert Holder.parse((root / ".lock").read_bytes()).process == os.getpid()
        assert names(root) == []

    def test_one_of_another_machine_is_taken_over_when_it_is_not_renewed(self, root, monkeypatch):
        (root / ".lock").write_text(Holder("preparing", host="elsewhere").dump())
        with pytest.raises(UserError, match="on elsewhere since"), locked(root, "preparing"):
            pass
        time.sleep(1.1)
        monkeypatch.setattr(leases, "ABANDONED_AFTER", 0.5)
        with locked(root, "preparing"):
            assert Holder.parse((root / ".lock").read_bytes()).host != "elsewhere"

    def test_of_two_that_take_it_over_one_succeeds(self, root):
        """Both found the same abandoned lock; the second one finds it changed."""
        (root / ".lock").write_text("torn")
        first, second = (leases._Lease(root / ".lock", Holder("preparing")) for _ in range(2))
        there = first._find()
        assert there == second._find()._replace(age=there.age)
        assert [each._put({"IfMatch": there.version}) for each in (first, second)] == [True, False]
        absent = leases._Lease(root / "absent", Holder("preparing"))
        assert not absent._put({"IfMatch": there.version})  # removed meanwhile

    def test_a_write_that_is_sent_twice_is_known_for_our_own(self, root):
        """A client that got no answer sends it again, and then meets its own object."""

        class Twice:
            def __init__(self, store):
                self.store = store

            def __getattr__(self, name):
                return getattr(self.store, name)

            def pipe_file(self, *given, **condition):
                self.store.pipe_file(*given, **condition)
                return self.store.pipe_file(*given, **condition)

        lease = leases._Lease(root / ".lock", Holder("preparing"))
        lease._store = Twice(lease._store)
        lease.take()
        for _ in range(2):
            lease._renew()
        assert not lease.lost
        assert Holder.parse((root / ".lock").read_bytes()) == lease.holder
        lease.check()
        lease.give_back()
        assert names(root) == []

    def test_who_lost_it_is_told_at_the_end_where_no_interrupt_came(self, root):
        other = Holder("preparing", host="elsewhere").dump()

        def lose():
            with locked(root, "preparing"):
                (root / ".lock").write_text(other)

        with pytest.raises(UserError, match="another one took"):
            lose()
        assert (root / ".lock").read_text() == other

    def test_it_is_renewed_while_held(self, root, monkeypatch):
        monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)
        with locked(root, "preparing"):
            end = time.monotonic() + 10
            while Holder.parse((root / ".lock").read_bytes()).renewed < 2:
                assert time.monotonic() < end

    def test_who_lost_it_is_interrupted(self, root, monkeypatch):
        monkeypatch.setattr(leases, "RENEWED_EVERY", 0.05)
        other = Holder("preparing", host="elsewhere").dump()

        def lose():
            with locked(root, "preparing"):
                (root / ".lock").write_text(other)
                time.sleep(60)

        start = time.monotonic()
        with pytest.raises(UserError, match="another one took"):
            lose()
        assert time.monotonic() - start < 50  # the sleep was cut short
        assert (root / ".lock").read_text() == other


class TestRefusals:
    def test_a_bucket_that_is_not_there(self, refused, root):
        assert "there is no bucket 'absent-bucket'" in refused("s3://absent-bucket/a")

    def test_keys_that_the_server_does_not_know(self, refused, monkeypatch):
        with s3_server(checks_credentials=True) as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            error = refused(f"s3://{BUCKET}")
        assert f"{url} refuses the bucket '{BUCKET}'" in error
        assert "check AWS_ACCESS_KEY_ID" in error

    def test_no_keys(self, refused, monkeypatch, root):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "credentials; set AWS_ACCESS_KEY_ID" in refused(f"s3://{BUCKET}")

    def test_a_server_that_is_down(self, refused, monkeypatch):
        url = f"http://127.0.0.1:{free_port()}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        start = time.monotonic()
        assert f"{url} is out of reach" in refused(f"s3://{BUCKET}")
        assert time.monotonic() - start < 10
        with pytest.raises(Exception, match="connect") as error:
            open_path(f"s3://{BUCKET}/a").read_bytes()
        assert "is out of reach" in tell_store_error(error.value)
        assert tell_store_error(ValueError("ours")) is None

    def test_a_server_that_does_not_answer(self, refused, monkeypatch):
        monkeypatch.setattr(store_module, "SECONDS_TO_ANSWER", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            assert f"{url} is out of reach" in refused(f"s3://{BUCKET}")

    @pytest.mark.parametrize("root", ["gs://bucket/a", "s3://", "s3:///a"])
    def test_other_roots(self, refused, root):
        assert refused(root) == f"error: expected a path or s3://BUCKET/PREFIX, found '{root}'"

    def test_without_its_libraries(self, refused, monkeypatch):
        monkeypatch.setitem(sys.modules, "pipelines.object_store", None)
        assert "pip install 'mmrec[s3]'" in refused(f"s3://{BUCKET}")

    def test_a_local_root_needs_none_of_them(self):
        script = "import sys, pipelines.workspace, pipelines.cli; print(*sys.modules)"
        out = subprocess.check_output([sys.executable, "-c", script], text=True).split()
        assert "pipelines.roots" in out
        assert not {"upath", "s3fs", "botocore"} & set(out)


class TestFiles:
    def test_an_object_is_replaced_whole_or_stays(self, root):
        path = root / "new" / "a"
        with replacing(path) as temporary:
            temporary.write_text("old")

        def fail():
            with replacing(path) as temporary:
                temporary.write_text("half of the n")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert path.read_text() == "old"
        assert names(root) == ["new/a"]

    def test_an_object_moves_over_another_and_is_copied_to_disk(self, root):
        for name in ("a", "b", "c"):
            (root / name).write_text(name)
        move(root / "a", root / "b")
        assert names(root) == ["b", "c"]
        with local_copy(root / "b") as copy:
            assert not is_remote(copy)
            assert copy.read_text() == "a"
        assert not copy.exists()
        with pytest.raises(FileNotFoundError), local_copy(root / "absent"):
            pass
        remove_others(root, ["c"])
        assert names(root) == ["c"]

    def test_columns_of_a_table_are_fetched_alone(self, root):
        values = np.random.default_rng(0).standard_normal((2, 1000))
        table = pa.table({"a": values[0], "b": values[1]})
        with replacing(root / "t.parquet") as temporary:
            pq.write_table(table, temporary)
        assert read_parquet(root / "t.parquet") == table
        assert read_parquet(root / "t.parquet", ["b"]) == table.select(["b"])
        with pytest.raises(FileNotFoundError):
            read_parquet(root / "absent.parquet")

    def test_a_journal_is_there_before_its_end(self, root, monkeypatch):
        monkeypatch.setattr(journal, "SECONDS_BETWEEN_UPLOADS", 0)
        (root / "log").write_text("of an earlier run")
        log = journal.Journal(root / "log")
        log.write("one")
        assert (root / "log").read_text() == "one\n"
        log.write("two")
        log.close()
        assert (root / "log").read_text() == "one\ntwo\n"

    def test_a_forked_process_reads(self, root):
        """As workers do that decode pictures: connections do not survive a fork."""
        (root / "a").write_text("x")
        assert (root / "a").read_text() == "x"
        reader, writer = os.pipe()
        if os.fork() == 0:  # pragma: no cover
            os.write(writer, (root / "a").read_bytes())
            os._exit(0)
        os.close(writer)
        assert os.read(reader, 10) == b"x"
        os.close(reader)
        os.wait()


def test_a_name_that_looks_like_a_pattern_means_itself(root):
    """Removing `a[1]` must not remove `a1`, nor `*` everything."""
    folder = root / "f[1]"
    for name in ("a1", "a[1]", "*", "part-00000.parquet"):
        (folder / name).write_text(name)
    assert [path.name for path in parts_of(folder)] == ["part-00000.parquet"]
    (folder / "a[1]").unlink()
    (folder / "*").unlink()
    assert names(folder) == ["a1", "part-00000.parquet"]
    with pytest.raises(FileNotFoundError):
        (folder / "a[1]").unlink()
    (folder / "a[1]").write_text("again")
    remove_others(folder, ["a1"])
    assert names(folder) == ["a1"]

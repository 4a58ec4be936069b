"""An extraction that dies at each single step that changes the disk, and is run again."""

import contextlib
import itertools
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from extract.encoders.random import RandomEncoder
from pipelines.cli import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
STEPS = ("rename", "replace", "unlink", "rmdir", "mkdir")
DIED = 99


def write_items(root, rows):
    columns = (list(column) for column in zip(*rows, strict=True))
    table = pa.table(dict(zip(("item_id", "text", "image"), columns, strict=True)))
    pq.write_table(table, root / "data" / "shop" / "items.parquet")


def old_rows():
    return [(f"i{n}", f"text {n}", f"{n}.png" if n % 5 else "gone.png") for n in range(8)]


def new_rows():
    """One item more, in front; the others the other way round, one changed, some gone."""
    rows = [("new", "a new one", "17.png"), *old_rows()[::-1][:6]]
    rows[3] = (rows[3][0], "another text", rows[3][2])
    return rows


def extract(root, die_at=None):
    """Extract in a process of its own, which dies before that step; gives its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        count = itertools.count()

        def dying(step):
            def call(*arguments, **options):
                if next(count) == die_at:
                    os._exit(DIED)
                return step(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, dying(getattr(os, name)))
        asked, log = RandomEncoder.encode_text, os.open(root / "log", os.O_CREAT | os.O_APPEND | 1)

        def encode_text(self, tokens):
            os.write(log, b"." * len(tokens["input_ids"]))
            return asked(self, tokens)

        RandomEncoder.encode_text = encode_text
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            words = "--encoder random:4 --workers 0 --quiet --shard-rows 4"
            code = run("extract", [*words.split(), "--root", str(root)])
    finally:
        os._exit(code)


def shards(features):
    return {path.name: path.read_bytes() for path in features.rglob("*.parquet")}


def test_whatever_the_step_the_same_command_ends_with_the_same_shards(tmp_path):
    root, features = tmp_path, tmp_path / "data/shop/features/random-4"
    (root / "data" / "shop" / "images").mkdir(parents=True)
    (root / "data" / "shop" / "dataset.json").write_text("{}")
    for number in range(18):
        path = root / "data" / "shop" / "images" / f"{number}.png"
        Image.new("RGB", (8, 8), (14 * number, 0, 0)).save(path)
    write_items(root, old_rows())
    assert extract(root) == 0
    shutil.copytree(features, root / "before")
    write_items(root, new_rows())
    assert extract(root) == 0
    expected = shards(features)
    for step in itertools.count():
        shutil.rmtree(features)
        shutil.copytree(root / "before", features)
        (root / "log").unlink()
        code = extract(root, die_at=step)
        if code == 0:  # it has fewer steps
            break
        assert code == DIED
        assert extract(root) == 0, step
        assert shards(features) == expected, step
        # Two are new or changed; what was encoded when it died may be encoded once more.
        assert (root / "log").stat().st_size <= 4, step
        left = {path.name for path in features.iterdir() if path.suffix != ".parquet"}
        assert left == {"manifest.json"}, step
    assert step > 20

"""A command on a folder that another process is writing."""

import pytest
from support.shop import write_features, write_shop

from extract.locking import locked

TRAIN = "train --model popularity --run r"


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("prepare toy --items 50 --users 60 --dataset other", "data/other"),
        ("extract --encoder random:4", "data/shop/features/random-4"),
        (TRAIN, "runs/shop/r"),
    ],
)
def test_the_second_is_told_and_writes_nothing(refused, tmp_path, command, folder):
    write_features(write_shop(tmp_path))
    with locked(tmp_path / folder, "testing"):
        before = {path.name for path in (tmp_path / folder).iterdir()}
        error = refused(command)
        assert {path.name for path in (tmp_path / folder).iterdir()} == before
    assert error.startswith("error: another process (")
    assert error.endswith(f"is testing {tmp_path / folder}; wait until it has ended, or end it")


def test_other_runs_may_be_trained_meanwhile(mmrec, tmp_path):
    write_shop(tmp_path)
    with locked(tmp_path / "runs/shop/other", "testing"):
        assert mmrec(TRAIN).code == 0


def test_readers_are_not_kept_out(mmrec, tmp_path):
    write_shop(tmp_path)
    assert mmrec(TRAIN).code == 0
    with locked(tmp_path / "runs/shop/r", "testing"), locked(tmp_path / "data/shop", "testing"):
        for command in ("check", "runs", "evaluate r", "recommend r"):
            assert mmrec(command).code == 0

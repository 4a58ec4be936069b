import numpy as np
import pytest

from extract.ledger import Problem, read_ledger
from extract.manifest import items_digest
from extract.shards import ShardReader, ShardWriter

FEATURES = "prepare features --dataset shop --features given"


@pytest.fixture
def shop(mmrec, write):
    """A data set with the items 0, 10 and 2, in this order."""
    log = write("log.inter", "userID\titemID\tx_label", "0\t10\t0", "0\t2\t1", "0\t0\t2")
    assert mmrec("prepare inter --dataset shop --interactions", log).code == 0


@pytest.fixture
def save(tmp_path):
    def to(name, matrix):
        np.save(tmp_path / name, matrix)
        return tmp_path / name

    return to


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data/shop/features/given"


@pytest.mark.usefixtures("shop")
class TestMatrices:
    def test_rows_go_to_the_items_of_their_number(self, mmrec, save, folder):
        image = np.arange(33.0).reshape(11, 3) + 1
        text = np.eye(11, 4, dtype=np.float16) + np.float16(0.5)
        outcome = mmrec(FEATURES, "--image", save("i.npy", image), "--text", save("t.npy", text))
        assert outcome.code == 0
        (batch,) = ShardReader(folder)
        assert batch.item_ids == ["0", "10", "2"]
        assert np.array_equal(batch.vectors["image"], image[[0, 10, 2]])
        assert np.array_equal(batch.vectors["text"], text[[0, 10, 2]])
        manifest = ShardReader(folder).manifest
        assert manifest.dims == {"image": 3, "text": 4}
        assert manifest.items_digest == items_digest(["0", "10", "2"])
        assert manifest.encoder["spec"] == "npy"
        assert manifest.normalized == {"image": False, "text": False}

    def test_unit_rows_are_told(self, mmrec, save, folder):
        assert mmrec(FEATURES, "--fused", save("f.npy", np.eye(11))).code == 0
        manifest = ShardReader(folder).manifest
        assert manifest.normalized == {"fused": True}
        assert manifest.fusion == "given"

    @pytest.mark.parametrize(
        ("value", "problem"),
        [(0.0, "zero"), (np.nan, "not_finite"), (np.inf, "not_finite"), (1e300, "not_finite")],
    )
    def test_useless_rows_are_recorded_absences(self, mmrec, save, folder, value, problem):
        image = np.ones((11, 3))
        image[10] = value
        assert mmrec(FEATURES, "--image", save("i.npy", image)).code == 0
        (batch,) = ShardReader(folder)
        assert batch.present["image"].tolist() == [True, False, True]
        assert read_ledger(folder) == [Problem("10", "image", problem, "row of the matrix")]

    def test_other_numbers_give_another_fingerprint_and_content(self, mmrec, save, folder):
        seen = []
        for matrix in (np.ones((11, 3)), np.full((11, 3), 2.0)):
            assert mmrec(FEATURES, "--overwrite", "--image", save("i.npy", matrix)).code == 0
            reader = ShardReader(folder)
            (batch,) = reader
            seen.append((reader.manifest.encoder["fingerprint"], batch.content[0]))
        assert seen[0][0] != seen[1][0]
        assert seen[0][1] != seen[1][1]

    def test_the_same_matrices_may_come_again(self, mmrec, save, folder):
        options = ("--image", save("i.npy", np.ones((11, 3))))
        assert mmrec(FEATURES, *options).code == 0
        before = (folder / "part-00000.parquet").read_bytes()
        assert mmrec(FEATURES, *options).code == 0
        assert (folder / "part-00000.parquet").read_bytes() == before

    def test_features_of_something_else_are_not_replaced(self, mmrec, refused, save, folder):
        writer = ShardWriter(folder, {})
        writer.finish(
            encoder={"spec": "clip:A", "fingerprint": "0123456789"},
            normalized={},
            fusion=None,
            items_digest="",
            seconds=1,
        )
        image = save("i.npy", np.ones((11, 3)))
        error = refused(FEATURES, "--image", image)
        assert "holds features of clip:A (fingerprint 01234567), not of npy (finger" in error
        assert "--features" in error
        assert "--overwrite" in error
        assert ShardReader(folder).manifest.encoder["spec"] == "clip:A"
        assert mmrec(FEATURES, "--image", image, "--overwrite").code == 0
        other = save("j.npy", np.full((11, 3), 2.0))
        assert "holds features of npy" in refused(FEATURES, "--image", other)

    def test_too_few_rows_are_told_with_both_numbers(self, refused, save, folder):
        error = refused(FEATURES, "--image", save("i.npy", np.ones((10, 3))))
        assert "has 10 rows" in error
        assert "needs 11" in error
        assert not folder.exists()

    def test_rows_of_no_item_are_told(self, mmrec, save):
        outcome = mmrec(FEATURES, "--image", save("i.npy", np.ones((11, 3))))
        assert "8 rows belong to no item" in outcome.err

    @pytest.mark.parametrize(
        "matrix",
        [
            np.ones(11),
            np.ones((11, 2, 2)),
            np.array([["a"]] * 11),
            np.ones((11, 2), complex),
            np.ones((11, 2), bool),
        ],
    )
    def test_arrays_that_are_no_matrix_of_numbers(self, refused, save, matrix):
        assert "(rows, dim) array of numbers" in refused(FEATURES, "--image", save("i.npy", matrix))

    def test_files_that_are_no_array(self, refused, save, tmp_path):
        pickled = save("p.npy", np.array([{"a": 1}] * 11, object))
        assert "not a whole .npy file" in refused(FEATURES, "--image", pickled)
        torn = save("t.npy", np.ones((11, 3)))
        torn.write_bytes(torn.read_bytes()[:-8])
        assert "not a whole .npy file" in refused(FEATURES, "--image", torn)
        torn.write_bytes(b"")
        assert "not a whole .npy file" in refused(FEATURES, "--image", torn)
        np.savez(tmp_path / "z.npz", np.ones(3))
        assert "an .npz" in refused(FEATURES, "--image", tmp_path / "z.npz")
        assert "there is no file" in refused(FEATURES, "--image", tmp_path / "nothing.npy")

    def test_no_file_is_told(self, refused):
        assert "--image, --text or --fused" in refused(FEATURES)

    def test_unknown_data_set(self, refused):
        error = refused("prepare features --dataset shp --features given")
        assert "did you mean 'shop'?" in error


@pytest.mark.parametrize("item", ["B00", "007", "1.0", "-1", "²"])
def test_items_without_numbers_have_no_row(mmrec, refused, write, save, item):
    log = write("log.inter", "userID\titemID\tx_label", f"0\t{item}\t0", "0\t2\t1")
    assert mmrec("prepare inter --dataset shop --interactions", log).code == 0
    error = refused(FEATURES, "--image", save("i.npy", np.ones((11, 3))))
    assert "1 of 2 item ids are not plain whole numbers" in error
    assert repr(item) in error

import pytest

from extract.files import digest, file_sha256, replacing, write_json


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

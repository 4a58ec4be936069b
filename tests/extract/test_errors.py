import pytest

from extract.errors import unknown_name


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("fox", ["dog", "box"], "unknown thing 'fox'; did you mean 'box'? known: box, dog"),
        ("FOX", ["dog", "box"], "unknown thing 'FOX'; did you mean 'box'? known: box, dog"),
        ("zzz", ["dog", "box"], "unknown thing 'zzz'; known: box, dog"),
        ("fox", [], "unknown thing 'fox'; there is no thing yet"),
    ],
)
def test_the_nearest_name_and_all_names(name, known, told):
    assert str(unknown_name("thing", name, known)) == told


def test_what_else_may_be_done_comes_last():
    told = str(unknown_name("thing", "fox", ["box"], "Or make one"))
    assert told.endswith("known: box. Or make one")


def test_twelve_names_are_all_told():
    told = str(unknown_name("thing", "x", [f"name{n:02d}" for n in range(12)]))
    assert told.endswith("name10, name11")


def test_a_long_list_is_cut_and_more_guesses_are_told():
    known = [f"model{n}_{size}" for n in range(500) for size in ("small", "large")]
    told = str(unknown_name("thing", "model77_lagre", known))
    # The three that differ least, as anyone would find them.
    assert told.startswith("unknown thing 'model77_lagre'; did you mean 'model77_large' or 'model")
    assert told.count(" or ") == 2
    assert told.endswith("... and 988 more")
    assert told.count(", ") == 12
    assert len(told) < 400

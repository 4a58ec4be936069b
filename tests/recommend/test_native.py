"""The compiled loops: built once, and done without where they cannot be built."""

import pytest

from recommend import native


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.kernels.cache_clear()
    yield tmp_path / "mmrec"
    native.kernels.cache_clear()


def test_they_are_built_once(folder, monkeypatch):
    if native.kernels() is None:
        pytest.skip("there is no C compiler with OpenMP here")
    built = list(folder.iterdir())
    assert [path.suffix for path in built] == [".so"]
    native.kernels.cache_clear()
    monkeypatch.setattr(native, "_build", lambda library: pytest.fail("built twice"))
    assert native.kernels() is not None


@pytest.mark.parametrize(("name", "value"), [("CC", "no-such-compiler"), ("MMREC_KERNELS", "0")])
def test_without_a_compiler_or_by_wish_there_are_none(folder, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert native.kernels() is None
    assert not folder.exists() or not list(folder.iterdir())


def test_a_source_that_does_not_compile_leaves_nothing(folder, monkeypatch, tmp_path):
    broken = tmp_path / "broken.c"
    broken.write_text("this is not C")
    monkeypatch.setattr(native, "SOURCE", broken)
    assert native.kernels() is None
    assert not list(folder.iterdir())

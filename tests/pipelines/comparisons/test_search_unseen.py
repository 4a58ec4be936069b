"""A search cannot see the test: its pairs are absent from what it is handed, not just unused."""

import gc
from types import CellType, FunctionType, MethodType, ModuleType

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, issparse
from support.searching import run_search, settings, studies, trials_of
from support.shop import N_ITEMS, interaction_rows, write_features, write_shop

from extract.errors import UserError
from pipelines.assembling import assemble, with_names
from pipelines.comparisons.searching import search as module
from pipelines.loading import load_log
from pipelines.training_job import fit_parts
from pipelines.workspace import Workspace
from recommend.interactions import Interactions

ONLY_IN_TEST = "v-only-in-test"
ITEMS = [f"i{item}" for item in range(N_ITEMS)]


def without_test():
    return [row for row in interaction_rows() if row[2] != "test"]


def other_test():
    """Each user's test item is another one, and a user comes along that has nothing else."""
    known = without_test()
    taken = {(user, item) for user, item, _ in known}
    rows = []
    for user in sorted({user for user, *_ in known}):
        old = next(i for u, i, part in interaction_rows() if u == user and part == "test")
        new = next(i for i in reversed(ITEMS) if (user, i) not in taken and i != old)
        rows.append((user, new, "test"))
    return [(ONLY_IN_TEST, "i0", "test"), *known, *rows]


@pytest.fixture
def workspace(tmp_path):
    """Write a workspace with given interactions; gives its root."""

    def write(name, rows):
        write_features(write_shop(tmp_path / name, rows=rows))
        return tmp_path / name

    return write


@pytest.mark.parametrize("model", ["bpr", "freedom"])
def test_the_test_rows_decide_nothing(workspace, model):
    roots = [
        workspace("as it is", interaction_rows()),
        workspace("without", without_test()),
        workspace("others", other_test()),
    ]
    chosen = [run_search(root, settings(model)) for root in roots]
    assert chosen[0] == chosen[1] == chosen[2]
    first, *others = (trials_of(root / "search.db") for root in roots)
    assert len(first) == 6
    assert others == [first, first]
    # Not even the study's name, a digest of all that decides the search, tells them apart.
    assert len({name for root in roots for name in studies(root / "search.db")}) == 1


def test_a_validation_row_decides(workspace):
    """The test above can fail."""
    rows = interaction_rows()
    kept = [row for row in rows if row != next(r for r in rows if r[2] == "validation")]
    one, other = workspace("one", rows), workspace("other", kept)
    assert run_search(one) != run_search(other)
    assert studies(one / "search.db").keys() != studies(other / "search.db").keys()


def test_a_training_needs_the_test_rows_that_a_search_does_not(workspace):
    root = workspace("without", without_test())
    with pytest.raises(UserError, match="has no test interaction"):
        assemble(with_names(settings(), Workspace(root)), Workspace(root))


def test_a_search_needs_validation_rows(workspace):
    rows = [row for row in interaction_rows() if row[2] != "validation"]
    with pytest.raises(UserError, match="has no validation interaction"):
        run_search(workspace("blind", rows))


def test_part_of_a_log_is_the_log_without_the_other_part(workspace):
    dataset = Workspace(workspace("others", other_test())).dataset("shop")
    whole, part = load_log(dataset), load_log(dataset, ("train", "validation"))
    assert len(part.split.test) == 0
    assert ONLY_IN_TEST in whole.users.ids
    assert part.users.ids.tolist() == sorted(set(whole.users.ids.tolist()) - {ONLY_IN_TEST})
    assert part.items == whole.items
    for name in ("train", "validation"):
        here, there = getattr(part.split, name), getattr(whole.split, name)
        assert np.array_equal(part.users.ids[here.users], whole.users.ids[there.users])
        assert np.array_equal(here.items, there.items)


def reachable(*roots):
    """Every object that can be reached, but for code: modules, classes and globals."""
    seen, todo, found = set(), list(roots), []
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, ModuleType | type):
            continue
        seen.add(id(each))
        found.append(each)
        if isinstance(each, FunctionType):
            todo += [each.__closure__, each.__defaults__, each.__kwdefaults__, each.__dict__]
        elif isinstance(each, MethodType):
            todo += [each.__self__, each.__func__]
        elif isinstance(each, CellType):
            todo.append(each.cell_contents)
        elif isinstance(each, torch.Tensor):
            todo.append(each.detach().cpu().to_dense().numpy())
        else:
            todo += gc.get_referents(each)
    return found


def told_of_test(objects, log, test):
    """What among the objects tells of test pairs, of a log with the same rows.

    Args:
        objects: All of them.
        log: Whose rows they have.
        test: Pairs of user row and item row.
    """
    shape = len(log.users), len(log.items)
    keys = {user * shape[1] + item for user, item in test}
    places = tuple(np.array(sorted(test)).T)
    told = []
    for each in objects:
        if isinstance(each, Interactions) and keys & set(each.keys.tolist()):
            told.append(each)
        if issparse(each) and each.shape == shape and csr_array(each)[places].sum():
            told.append(each)
        # Keys above all rows can be nothing else.
        of_keys = isinstance(each, np.ndarray) and each.dtype == np.int64 and each.ndim == 1
        if of_keys and {key for key in keys if key > max(shape)} & set(each.tolist()):
            told.append(each)
        if isinstance(each, np.ndarray) and each.shape == shape and each[places].any():
            told.append(each)
        if isinstance(each, np.ndarray) and each.dtype.kind == "U" and ONLY_IN_TEST in each:
            told.append(each)
        if isinstance(each, str) and each == ONLY_IN_TEST:
            told.append(each)
    return told


def test_nothing_that_a_trial_is_handed_tells_of_the_test(workspace, monkeypatch):
    root = workspace("others", other_test())
    dataset = Workspace(root).dataset("shop")
    whole = load_log(dataset)
    name_of = whole.users.ids[whole.split.test.users]
    handed = []

    def spy(parts, checkpoint, on_epoch):
        assert len(parts.log.split.test) == 0
        test = {
            (int(parts.log.users.find([user])[0]), int(item))
            for user, item in zip(name_of, whole.split.test.items, strict=True)
            if user != ONLY_IN_TEST
        }
        assert len(test) == 30
        objects = reachable(parts, checkpoint, on_epoch)
        handed.append(len([each for each in objects if isinstance(each, Interactions)]))
        assert told_of_test(objects, parts.log, test) == []
        return fit_parts(parts, checkpoint, on_epoch)

    monkeypatch.setattr(module, "fit_parts", spy)
    run_search(root, settings("freedom"), trials=2)
    assert handed == [3, 3]  # training, validation, and a test part of nothing


def test_the_walk_would_find_it(workspace):
    """Of the parts of a training, which do hold the test, in all its forms."""
    root = workspace("others", other_test())
    parts = assemble(with_names(settings("freedom"), Workspace(root)), Workspace(root))
    split = parts.log.split
    assert split.test.matrix.nnz == len(split.test.keys)  # both are kept from now on
    test = set(zip(split.test.users.tolist(), split.test.items.tolist(), strict=True))

    def closure():
        return parts

    told = told_of_test(reachable(closure), parts.log, test)
    kinds = {type(each) for each in told}
    assert kinds == {Interactions, csr_array, np.ndarray}
    assert any(isinstance(each, np.ndarray) and each.dtype.kind == "U" for each in told)
    assert any(isinstance(each, np.ndarray) and each.dtype == np.int64 for each in told)

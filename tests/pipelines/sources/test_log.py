"""How a log is split when the settings ask for the split of the MMRec toolbox."""

import pyarrow as pa
import pytest

from extract.errors import UserError
from pipelines.config import resolve
from pipelines.sources.log import SplitConfig, split_log

LOG = pa.table({"user_id": ["u"] * 25, "item_id": [f"{item:02d}" for item in range(25)]})


def test_the_split_of_the_toolbox_by_name():
    config = resolve(SplitConfig, {"split": "mmrec", "seed": 4})
    labels = split_log(LOG, config)["split"].to_pylist()
    assert {label: labels.count(label) for label in labels} == {
        "train": 20,
        "validation": 2,
        "test": 3,
    }
    other = split_log(LOG, resolve(SplitConfig, {"split": "mmrec", "seed": 5}))
    assert other["split"].to_pylist() != labels


@pytest.mark.parametrize("ratios", ["0.7,0.1,0.2", "0.8,0.2"])
def test_it_has_no_other_ratios(ratios):
    with pytest.raises(UserError, match="mmrec has a rule of its own"):
        resolve(SplitConfig, {"split": "mmrec", "ratios": ratios})


def test_the_ratios_that_it_has_may_be_said():
    assert resolve(SplitConfig, {"split": "mmrec", "ratios": "0.8,0.1,0.1"}).split == "mmrec"
    assert resolve(SplitConfig, {"split": "random", "ratios": "0.7,0.1,0.2"}).ratios[0] == 0.7

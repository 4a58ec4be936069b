"""Numbers and axes, by hand."""

import math

import pytest

from pipelines.pages import numbers
from pipelines.pages.axes import axis, differences, round_step


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.37214, ".3721"), (-0.0102, "−.0102"), (1.0, "1.0000"), (0.0, ".0000"), (-0.00001, ".0000"),
     (None, "–"), (math.nan, "–"), (12.5, "12.5000")],
)  # fmt: skip
def test_share(value, text):
    assert numbers.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0102, "+.0102"), (-0.0102, "−.0102"), (0.0, ".0000"), (None, "–")]
)
def test_signed(value, text):
    assert numbers.signed(value) == text


def test_other_numbers():
    assert [numbers.probability(p) for p in (0.0004, 0.001, 0.0314, 1.0, None)] == [
        "<.001", ".001", ".031", "1.000", "–",
    ]  # fmt: skip
    assert [numbers.duration(s) for s in (48, 733, 12_600)] == ["48 s", "12 min", "3.5 h"]
    assert [numbers.percent(x) for x in (0.95, 0.999, 0.31, None)] == [
        "95 %",
        "99.9 %",
        "31 %",
        "–",
    ]
    assert numbers.beyond("novelty@20", 3.217) == "3.22"
    assert numbers.beyond("popularity@20", 161.44) == "161.4"
    assert numbers.beyond("gini@20", 0.81) == ".8100"
    assert [numbers.metric(m) for m in ("ndcg@20", "recall@5")] == ["NDCG@20", "recall@5"]


def test_places_on_an_axis():
    line = axis([0.0, 1.0])  # with 3 % of room, and 4 % of the width left free
    assert (line.low, line.high) == (-0.03, 1.03)
    assert line.at(0.5) == 50
    assert line.at(-0.03) == 4
    assert line.at(5) == 96
    assert [text for _, text in line.ticks()] == ["0", ".5", "1.0"]
    assert [x for x, _ in line.ticks()] == pytest.approx([6.6, 50, 93.4], abs=0.02)


def test_an_axis_of_one_number_of_none_and_around_zero():
    assert axis([0.4]).at(0.4) == 50
    assert axis([None, math.nan]).at(0.5) == 50
    line = axis([0.01, 0.02], zero=True)
    assert line.low < 0 < line.high
    assert [text for _, text in line.ticks(sign=True)] == ["0", "+.01", "+.02"]


@pytest.mark.parametrize(("least", "step"), [(0.3, 0.5), (0.11, 0.2), (0.5, 0.5), (6, 10), (1, 1)])
def test_round_steps(least, step):
    assert round_step(least) == pytest.approx(step)


def test_what_is_far_beyond_the_usual_differences_is_outside():
    line = differences([-0.01, 0.02, 0.03, -0.04, -0.9, None])  # the median size is .03
    assert line.outside(-0.9)
    assert line.at(-0.9) == 4
    assert not any(line.outside(x) for x in (-0.01, 0.02, 0.03, -0.04, 0))
    assert not differences([]).outside(0)
    assert not differences([0.0, 0.0, 0.5]).outside(0)

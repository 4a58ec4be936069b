"""Numbers and lists in sentences."""

from pipelines.comparisons.words import figure, listed, p_value, percent


def test_figures_as_they_stand_in_sentences():
    assert [figure(x) for x in (0.1234, -0.002, 1.0, -0.00001, 0, None)] == [
        ".1234",
        "-.0020",
        "1.0000",
        ".0000",
        ".0000",
        "–",
    ]
    assert [figure(x, 2, signed=True) for x in (0.1, -12.345, 0.001)] == ["+.10", "-12.35", ".00"]
    assert [p_value(p) for p in (0.31, 0.0996, 0.0006, 0.0004, 1.0)] == [
        "p .31",
        "p .100",
        "p < .001",
        "p < .001",
        "p 1.00",
    ]
    assert [percent(x) for x in (0.95, 0.999, 0.9)] == ["95 %", "99.9 %", "90 %"]
    assert [listed(list(x)) for x in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]

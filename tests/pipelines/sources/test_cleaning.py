import pytest

from pipelines.sources.cleaning import clean_text, first_url, path_of, price_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3 < 5 and 6 > 2", "3 < 5 and 6 > 2"),
        ("I <3 it, size <M>, <b and c> d", "I <3 it, size <M>, <b and c> d"),
        ("one<br />two<BR>three<p>four</p>", "one two three four"),
        ("<a href=\"x>y\" class='a b' id=c >link</a>", "link"),
        ("Ball &amp; Bat &#34;A&#x41;&quot;", 'Ball & Bat "AA"'),
        ("&amp;lt;b&amp;gt;R&amp;amp;D&amp;lt;/b&amp;gt;", "R&D"),
        ("&amp;amp;amp;amp;", "&amp;"),
        (" one\n\t two\u00a0&nbsp;three ", "one two three"),
        ("Sch\u00f6n", "Sch\u00f6n"),
        (["One.", "", None, "<br>", "Two."], "One. Two."),
        (42, "42"),
        ("nancy", "nancy"),
        *((nothing, None) for nothing in (None, "", " ", "NaN", "nan", float("nan"), [], {}, True)),
    ],
)
def test_text(value, expected):
    assert clean_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9.99, 9.99),
        (12, 12.0),
        ("$85.00", 85.0),
        ("$1,299.50", 1299.5),
        ("1,29", None),
        ("from 1.99", None),
        ("$5.99 - $12.50", None),
        (".a-box-inner{padding:0 14px}", None),
        *((nothing, None) for nothing in (None, "", "None", float("nan"), float("inf"), True, [])),
    ],
)
def test_price(value, expected):
    assert price_of(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([["Baby", "Toys &amp; Co"], ["Other"]], ["Baby", "Toys & Co"]),
        (["Baby", "", "Toys"], ["Baby", "Toys"]),
        *((nothing, None) for nothing in (None, [], [[]], [""], "Baby", {})),
    ],
)
def test_path(value, expected):
    assert path_of(value) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((" http://a ", "http://b"), "http://a"),
        (([], ["http://b", "http://c"], "http://d"), "http://b"),
        ((None, "", "nan", 7, [None], ["http://e"]), "http://e"),
        ((None, []), None),
    ],
)
def test_url(values, expected):
    assert first_url(*values) == expected


def test_a_hostile_text_takes_no_time():
    for piece in ("<a x=", "<b ", "<a x='", "&amp;", "<"):
        assert len(clean_text(piece * (1_000_000 // len(piece)))) > 100_000

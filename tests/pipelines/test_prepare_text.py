import math

import pytest

from extract.errors import UserError
from pipelines.sources.templates import TextTemplate, plain_text


def fill(template, **row):
    return TextTemplate(template, lambda name: name).fill(row)


@pytest.mark.parametrize(
    ("template", "title", "year", "text"),
    [
        ("{title}. {year}", "T", "Y", "T. Y"),
        ("{title}. {year}", "T", None, "T"),
        ("{title}. {year}", None, "Y", "Y"),
        ("{title}. {year}", None, None, None),
        ("{title} ({year})", "T", "Y", "T (Y)"),
        ("{title} ({year})", "T", None, "T"),
        ("{title} ({year})", None, "Y", "(Y)"),
        ("Title: {title}. Year: {year}", "T", None, "Title: T"),
        ("Title: {title}. Year: {year}", None, "Y", "Year: Y"),
        ("{title} [{year}]!", "T", None, "T!"),
        ("{title}{year}", "T", "Y", "TY"),
        ("{year}{year} {title}", "T", "Y", "YY T"),
        ("{title}, {year}", "{year}", "Y", "{year}, Y"),
        ("{title}, {year}", "(.,", None, "(.,"),
    ],
)
def test_absent_fields_leave_no_holes(template, title, year, text):
    assert fill(template, title=title, year=year) == text


def test_brackets_stay_around_what_is_there():
    assert fill("{a} ({b}). {c}", a="A", b="B", c=None) == "A (B)"
    assert fill("{a} ({b}). {c}", a="A", b=None, c="C") == "A. C"
    assert fill("{a} ({b}). {c}", a=None, b=None, c="C") == "C"


@pytest.mark.parametrize("value", [None, "", "  \n", math.nan, [], [None, ""]])
def test_nothing_is_nothing(value):
    assert plain_text(value) is None


def test_values_that_are_no_text():
    assert plain_text(3) == "3"
    assert plain_text(["one", None, " two "]) == "one two"


def test_a_template_needs_a_field():
    with pytest.raises(UserError, match="curly brackets"):
        TextTemplate("words", str)

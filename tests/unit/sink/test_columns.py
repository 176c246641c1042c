"""Which columns may be configured, and what they are called."""

import pytest
from pydantic import ValidationError

from eventferry.sink.columns import Column, ColumnOptions, check_name, check_table, steps_of


@pytest.mark.parametrize("name", ["a", "_", "größe", "x" * 63, "URL_2"])
def test_plain_names_are_taken(name):
    """Letters of any script, digits and underscores, up to 63 bytes."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "9", "a b", 'a"b', "a'b", "a;--", "a\n", "a\x00", "x" * 64, "ä" * 32, "a.b", "a-b"]
)
def test_other_names_are_refused(name):
    """Nothing that would have to be quoted, that a database cuts, or that is more than a name."""
    with pytest.raises(ValueError, match="is not a usable name"):
        check_name(name)


def test_a_table_may_have_a_schema():
    """One dot at most, and names on both sides of it."""
    assert check_table("public.events") == "public.events"
    for name in ("a.b.c", ".a", "a.", 'a"."b', "a..b"):
        with pytest.raises(ValueError, match=r"is not a (table|usable name)"):
            check_table(name)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"Url": "a", "url": "b"}, "in case only"),
        ({"EVENT": "a"}, "every table has"),
        ({"batch_id": "a"}, "every table has"),
        ({"a": ""}, "is not a path"),
        ({"a": "b..c"}, "is not a path"),
        ({"a": "b\x00"}, "NUL"),
        ({"a": {"path": []}}, "at least 1"),
        ({"a": {"path": "a", "type": "VARCHAR"}}, "type"),
        ({"a": {"path": "a", "size": 1}}, "size"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns, words):
    """Twins, what the table has itself, paths that lead nowhere, unknown types and keys."""
    with pytest.raises(ValidationError, match=words):
        ColumnOptions(columns=columns)


def test_default_columns_may_be_redefined():
    """`event_time` and `event_type` are there; one of that name, in whatever case, takes its place."""
    assert list(ColumnOptions().all_columns()) == ["event_time", "event_type"]
    mine = ColumnOptions(columns={"Event_Type": "kind", "url": "attributes.url"}).all_columns()
    assert list(mine) == ["event_time", "Event_Type", "url"]
    assert mine["Event_Type"] == Column(path=("kind",), type="text")


def test_paths_are_dotted_or_pointers():
    """A pointer reaches keys that hold dots and slashes."""
    assert steps_of("attributes.url") == ("attributes", "url")
    assert steps_of("/a.b/c~1d/e~0f/") == ("a.b", "c/d", "e~f", "")

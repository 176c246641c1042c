"""What the create form asks for, whatever is typed into it."""

import datetime as dt

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from eventferry.console import draft
from eventferry.console.draft import Draft, Unfit
from eventferry.console.forms import Form
from eventferry.exports.wanted import Wanted
from eventferry.query import Scope
from eventferry.query.scope import ALL

PART = 1024

FIELDS = [
    *("once", "name", "range", "first", "last", "timezone", "timeframe", "words", "match", "filter_json", "format"),
    *("condition_field", "condition_op", "condition_value", "condition_kind", "compression", "formula_guard", "email"),
    *("tenants", "projects", "collections"),
]
WORDS = [
    *(
        "days",
        "timeframe",
        "all",
        "other",
        "2026-01-02",
        "9999-12-31",
        "0000-00-00",
        "last_7_days",
        "any",
        "csv",
        "gzip",
    ),
    *("parquet", "on", "in", "regex", "number", "NaN", "1e999", "[]", "{}", '[{"field": "a", "eq": 1}]'),
]
TYPED = st.text(max_size=20) | st.sampled_from(WORDS)


def ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(dt.datetime(year, month, day, hour, tzinfo=dt.UTC).timestamp() * 1000)


def asked(realm: Scope = ALL, **fields: str) -> Wanted:
    return draft.wanted(Draft("x", **{"first": "2026-03-29", "last": "2026-03-29", **fields}), realm, PART)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.sampled_from(FIELDS), TYPED), max_size=30),
    st.sampled_from([ALL, Scope(("a", "b"), None, ())]),
)
def test_any_form_is_an_export_or_a_list_of_mistakes(pairs: list[tuple[str, str]], realm: Scope) -> None:
    filled = draft.from_form(Form(tuple(pairs)))
    try:
        found = draft.wanted(filled, realm, PART)
    except Unfit as error:
        assert error.mistakes
        assert all(error.mistakes.values())
    else:
        start, end = found.selection.start_ms, found.selection.end_ms
        assert start is None or end is None or start < end


def test_days_are_whole_and_end_included_in_the_zone_that_was_chosen() -> None:
    # Clocks in Vienna go forward on that day: it has 23 hours.
    selection = asked(timezone="Europe/Vienna").selection
    assert (selection.start_ms, selection.end_ms) == (ms(2026, 3, 28, 23), ms(2026, 3, 29, 22))


def test_a_missing_last_day_means_the_first_one() -> None:
    selection = asked(last="").selection
    assert (selection.start_ms, selection.end_ms) == (ms(2026, 3, 29), ms(2026, 3, 30))


@freeze_time("2026-03-05T12:00:00Z")
def test_every_timeframe_of_the_list_means_something() -> None:
    for word in draft.TIMEFRAMES:
        words = {"words": "last_3_months"} if word == "other" else {}
        selection = asked(range="timeframe", timeframe=word, **words).selection
        assert selection.start_ms is not None and selection.end_ms is not None
        assert selection.start_ms < selection.end_ms <= ms(2026, 3, 5, 12), word


def test_all_events_have_no_range_and_what_stands_in_hidden_fields_does_not_count() -> None:
    selection = asked(range="all", first="nonsense", words="nonsense").selection
    assert (selection.start_ms, selection.end_ms) == (None, None)
    assert asked(format="parquet", compression="gzip").output.compression == "none"
    assert asked(format="json").output.formula_guard is False


def test_every_mistake_is_found_at_once() -> None:
    with pytest.raises(Unfit) as caught:
        asked(first="31.12.2026", timezone="Nowhere", format="xls", name="x" * 300, filter_json="[1]", email="a@@b")
    assert set(caught.value.mistakes) >= {"first", "timezone", "format", "name", "filter_json", "email"}


def test_names_are_split_at_commas_only_where_they_are_typed() -> None:
    typed = Draft("x", range="all", names={"collections": ("a, b,,a",)})
    assert draft.wanted(typed, ALL, PART).selection.scope == Scope(collections=("a", "b"))
    ticked = Draft("x", range="all", names={"collections": ("a,b",)})
    realm = Scope(collections=("a,b", "c"))
    assert draft.wanted(ticked, realm, PART).selection.scope == Scope(collections=("a,b",))


def test_conditions_and_json_at_once_are_refused() -> None:
    both = Draft("x", range="all", rows=(draft.Row("a", "eq", "1"),), filter_json="[]")
    with pytest.raises(Unfit, match="instead of the conditions"):
        draft.wanted(both, ALL, PART)

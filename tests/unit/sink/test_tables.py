"""A table is compared with what is configured, and what became of the columns is counted."""

import pytest

from eventferry.sink import SinkMisconfigured
from eventferry.sink.registry import make_sink
from eventferry.sink.rows import Rows
from eventferry.sink.tables import Fit, count_columns, fit_columns, no_table, values_in

WANTED = {"n": "bigint", "event": "json", "batch_id": "text"}
WHOLE = {"n": "bigint", "event": "json", "batch_id": "text"}


def fit(there, contract="evolve", **more):
    return fit_columns(WANTED, there, contract, "table t", lambda added: f"ADD {', '.join(added)}", **more)


@pytest.mark.parametrize("contract", ["evolve", "freeze", "discard"])
def test_a_table_with_all_columns_is_taken_as_it_is(contract):
    """Under every contract; names are compared without their case."""
    assert fit(WHOLE, contract) == Fit({}, ("n",), ())


def test_a_lacking_column_meets_the_contract():
    """evolve adds it, discard leaves it out, freeze holds with one statement for all that is lacking."""
    there = {"batch_id": "text", "event": "json"}
    assert fit(there) == Fit({"n": "bigint"}, ("n",), ())
    assert fit(there, "discard") == Fit({}, (), ("n",))
    with pytest.raises(SinkMisconfigured, match=r"lacks the columns 'n', 'event', .* or run: ADD n, event$"):
        fit({"batch_id": "text"}, "freeze")


def test_what_every_table_needs_is_never_left_out():
    """The raw event, the batch's id, and what a type needs beside them."""
    with pytest.raises(SinkMisconfigured, match=r"lacks the column 'event', .*'discard'; .* run: ADD event$"):
        fit({"batch_id": "text"}, "discard")
    with pytest.raises(SinkMisconfigured, match=r"lacks the column 'n'"):
        fit({"batch_id": "text", "event": "json"}, "discard", needed=["n"])


def test_another_type_holds_under_every_contract():
    """Both types are named; for the event the option is, where it may have that type."""
    with pytest.raises(SinkMisconfigured, match=r"column 'n' of table t is text, but bigint is configured; configure"):
        fit({**WHOLE, "n": "text"}, "discard")
    with pytest.raises(SinkMisconfigured, match='set event_as = "text", or another table'):
        fit({**WHOLE, "event": "varchar(9)"}, event_as={"varchar": "text"})
    assert fit({**WHOLE, "n": "int8"}, is_fit=lambda present, wanted: present == wanted or present == "int8").written


def test_a_missing_table_comes_with_both_ways_out():
    """The option, and the statement, which stands last and can be copied."""
    assert (
        str(no_table("t", "CREATE TABLE t ()")) == "there is no table t; set create = true, or run: CREATE TABLE t ()"
    )


def test_only_what_happened_is_counted():
    """By column; zeros leave no trace."""
    sink = make_sink("console", "s", {})
    discarded = values_in(Rows([[1, None, 2], [None, None, None], [3, 3, 3]]), ["a", "b", "c"], ["a", "b"])
    count_columns(sink, {"c": 4, "d": 0}, discarded, ["e"])
    assert sink.counts == {("values.misfitted", "c"): 4, ("values.discarded", "a"): 2, ("columns.added", "e"): 1}

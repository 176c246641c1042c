"""Saved queries: kept as written, for the keys that cover them, a thousand a key."""

from collections.abc import Iterator

import pytest
from tests.desks import ANA, desk_at, key

from eventferry.exports import queries
from eventferry.exports.desk import Desk
from eventferry.exports.refusals import NotFound, NotPossible

QUERY = {"filter": [{"field": "a", "eq": 1}], "timeframe": "yesterday"}


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with desk_at(tmp_path) as desk:
        yield desk


def test_a_query_is_kept_as_it_was_written(desk):
    """It is found again, changed and forgotten."""
    saved = queries.save(desk, ANA, "daily", QUERY, notes="n", tags=["t"])
    assert queries.get(desk, ANA, saved.id) == saved
    assert (saved.query, saved.tags, saved.notes) == (QUERY, ("t",), "n")
    changed = queries.change(desk, ANA, saved.id, name="weekly", tags=["u", "v"])
    assert (changed.name, changed.tags, changed.query) == ("weekly", ("u", "v"), QUERY)
    queries.delete(desk, ANA, saved.id)
    with pytest.raises(NotFound, match=f"there is no query {saved.id}"):
        queries.get(desk, ANA, saved.id)


def test_a_query_exists_for_keys_that_cover_it(desk):
    """For others it can neither be seen nor changed nor deleted, in the words of an unknown id."""
    saved = queries.save(desk, key("acme", tenants=("acme",)), "daily", QUERY)
    beta = key("beta", tenants=("beta",))
    assert queries.list_page(desk, beta).rows == []
    for act in (queries.get, queries.delete, queries.change):
        with pytest.raises(NotFound, match=f"there is no query {saved.id}"):
            act(desk, beta, saved.id)
    assert queries.list_page(desk, ANA).rows == [saved]


def test_lists_are_pages_from_the_newest_on(desk):
    """The last page says that there is no other."""
    ids = [queries.save(desk, ANA, f"q{number}", QUERY).id for number in range(5)]
    first = queries.list_page(desk, ANA, limit=3)
    second = queries.list_page(desk, ANA, limit=3, after=first.next)
    assert [each.id for each in first.rows + second.rows] == ids[::-1]
    assert second.next is None


def test_a_key_keeps_so_many_queries(desk, monkeypatch):
    """One more is refused with the remedy."""
    monkeypatch.setattr(queries, "MOST", 2)
    for name in "ab":
        queries.save(desk, ANA, name, QUERY)
    with pytest.raises(NotPossible, match="delete some first"):
        queries.save(desk, ANA, "c", QUERY)
    assert queries.save(desk, key("bob"), "c", QUERY)

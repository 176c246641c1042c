"""The service over saved queries: who may see which, and how many a key may keep."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from eventferry.exports import visibility
from eventferry.exports.desk import Desk
from eventferry.exports.refusals import NotFound, NotPossible
from eventferry.exports.wanted import Requester
from eventferry.ledger import saved_queries
from eventferry.ledger.saved_queries import SavedQuery
from eventferry.query.scope import ALL, Scope

MOST = 1000  # of one key


@dataclass(frozen=True, slots=True)
class QueryPage:
    """Some saved queries, newest first; `next` is the `after` of the next page, None where this is the last."""

    rows: list[SavedQuery]
    next: int | None


def save(
    desk: Desk,
    key: Requester,
    name: str,
    query: Mapping[str, Any],
    *,
    notes: str = "",
    tags: Sequence[str] = (),
    scope: Scope = ALL,
) -> SavedQuery:
    """Keep a query, as it was written, for the part of `scope` that is the key's. Raises NotPossible."""
    with desk.ledger.write() as tx:
        if saved_queries.count_of_key(tx, key.id) >= MOST:
            raise NotPossible("name", f"this key has saved {MOST:,} queries, the most it may; delete some first")
        return saved_queries.insert(
            tx,
            id=str(uuid.uuid4()),
            key_id=key.id,
            key_filter=visibility.stored_filter(key.filter),
            scope=visibility.stored_scope(visibility.owner_scope(key.realm, scope)),
            name=name,
            notes=notes,
            tags=list(tags),
            query=dict(query),
        )


def get(desk: Desk, key: Requester, query_id: str) -> SavedQuery:
    """The query, if it exists for this key. Raises NotFound."""
    with desk.ledger.read() as tx:
        return _find(tx, key, query_id)


def list_page(desk: Desk, key: Requester, *, limit: int = 50, after: int | None = None) -> QueryPage:
    """The queries that exist for this key, newest first; `after` is the `next` of the page before."""
    with desk.ledger.read() as tx:
        whose = {each for each in saved_queries.owners(tx) if visibility.may_see(key, *each)}
        rows = saved_queries.page(tx, whose, limit=limit + 1, before_seq=after)
    return QueryPage(rows[:limit], rows[limit - 1].seq if len(rows) > limit else None)


def change(desk: Desk, key: Requester, query_id: str, scope: Scope | None = None, **values: Any) -> SavedQuery:
    """Set name, notes, tags or query anew, and for whose events it is. Raises NotFound."""
    assert values.keys() <= {"name", "notes", "tags", "query"}, values
    if scope is not None:
        values["scope"] = visibility.stored_scope(visibility.owner_scope(key.realm, scope))
    with desk.ledger.write() as tx:
        _find(tx, key, query_id)
        saved_queries.change(tx, query_id, **values)
        return _find(tx, key, query_id)


def delete(desk: Desk, key: Requester, query_id: str) -> None:
    """Forget the query. Raises NotFound."""
    with desk.ledger.write() as tx:
        _find(tx, key, query_id)
        saved_queries.delete(tx, query_id)


def _find(tx: sa.Connection, key: Requester, query_id: str) -> SavedQuery:
    found = saved_queries.get(tx, query_id)
    if found is None or not visibility.may_see(key, found.scope, found.key_filter):
        raise NotFound(f"there is no query {query_id}")
    return found

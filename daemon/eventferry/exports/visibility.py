"""Whose an export or a saved query is: its scope and the filter of its key decide which keys see it."""

import json

from eventferry.exports.wanted import Requester
from eventferry.query.expression import And, Expression, as_data
from eventferry.query.scope import Names, Scope


def stored_filter(filter_: Expression | None) -> str | None:
    """A key's filter as rows keep it; equal filters give equal texts."""
    return None if filter_ is None else json.dumps(as_data(filter_))


def stored_scope(scope: Scope) -> str:
    """A scope as rows keep it; equal scopes give equal texts."""
    return json.dumps(in_order(scope).to_data())


def owner_scope(realm: Scope, asked: Scope) -> Scope:
    """Whose the answer to a request for `asked` is.

    Where nothing of it lies in the realm the answer is empty, but not everybody's: it belongs to the whole realm.
    """
    found = asked.narrowed(realm)
    pairs = ((found.tenants, realm.tenants), (found.projects, realm.projects), (found.collections, realm.collections))
    return Scope(*(own if names == () else names for names, own in pairs))


def may_see(key: Requester, scope: str, key_filter: str | None) -> bool:
    """Whether what belongs to that stored scope, made under that stored filter, exists for this key."""
    own = stored_filter(key.filter)
    return in_order(key.realm).covers(Scope.from_data(json.loads(scope))) and own in (None, key_filter)


def in_order(scope: Scope) -> Scope:
    """The same scope with its names sorted, each once: scopes are compared by their names."""
    return Scope(*(_sorted(names) for names in (scope.tenants, scope.projects, scope.collections)))


def both(one: Expression | None, other: Expression | None) -> Expression | None:
    """What satisfies each of the filters that there are."""
    return And((one, other)) if one is not None and other is not None else (other if one is None else one)


def _sorted(names: Names) -> Names:
    return None if names is None else tuple(sorted(set(names)))

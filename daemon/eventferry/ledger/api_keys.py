"""Keys of the pull side as the ledger holds them: who may ask for what, and a hash of each secret."""

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from eventferry.ledger import pull_tables as t

_k = t.api_keys.c


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key. Times are epoch ms; `realm` and `filter` are what JSON holds of them."""

    id: str
    handle: str
    secret_hash: str = field(repr=False)  # SHA-256, hex
    name: str
    owner: str
    scopes: tuple[str, ...]
    realm: dict[str, Any]
    filter: list[Any] | None
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    used_ms: int | None = None


_COLUMNS = [_k[name] for name in KeyRow.__slots__]


def _read(row: Any) -> KeyRow:
    values = dict(row._mapping)
    values["scopes"] = tuple(json.loads(row.scopes))
    values["realm"] = json.loads(row.realm)
    values["filter"] = None if row.filter is None else json.loads(row.filter)
    return KeyRow(**values)


def insert(tx: sa.Connection, row: KeyRow) -> None:
    """Write a new key down."""
    values = {name: getattr(row, name) for name in KeyRow.__slots__}
    values["scopes"] = json.dumps(row.scopes)
    values["realm"] = json.dumps(row.realm)
    values["filter"] = None if row.filter is None else json.dumps(row.filter)
    tx.execute(sa.insert(t.api_keys).values(**values))


def by_handle(tx: sa.Connection, handle: str) -> KeyRow | None:
    """The key whose tokens carry this handle, whatever its state; None where there is none."""
    found = tx.execute(sa.select(*_COLUMNS).where(_k.handle == handle)).one_or_none()
    return None if found is None else _read(found)


def by_id(tx: sa.Connection, key_id: str) -> KeyRow | None:
    """The key of that id, whatever its state; None where there is none."""
    found = tx.execute(sa.select(*_COLUMNS).where(_k.id == key_id)).one_or_none()
    return None if found is None else _read(found)


def all_keys(tx: sa.Connection) -> list[KeyRow]:
    """Every key there ever was, oldest first."""
    return [_read(row) for row in tx.execute(sa.select(*_COLUMNS).order_by(_k.created_ms, _k.id))]


def revoke(tx: sa.Connection, key_id: str, now_ms: int) -> bool:
    """From now on the key opens nothing; False where it was revoked before."""
    where = (_k.id == key_id) & _k.revoked_ms.is_(None)
    return bool(tx.execute(sa.update(t.api_keys).where(where).values(revoked_ms=now_ms)).rowcount)


def set_expiry(tx: sa.Connection, key_id: str, expires_ms: int | None) -> None:
    """When the key ends by itself; None: never."""
    tx.execute(sa.update(t.api_keys).where(_k.id == key_id).values(expires_ms=expires_ms))


def note_use(tx: sa.Connection, key_id: str, now_ms: int) -> None:
    """Remember that the key was used; never an earlier time than the one known."""
    where = (_k.id == key_id) & (_k.used_ms.is_(None) | (_k.used_ms < now_ms))
    tx.execute(sa.update(t.api_keys).where(where).values(used_ms=now_ms))

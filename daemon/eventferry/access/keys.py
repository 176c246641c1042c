"""Keys: made, presented as tokens, and told apart from what is none.

A token is `ef_<handle>_<secret><checksum>`: 12 characters by which the key is found, 43 of a secret of 256 bits, 6 of a
checksum, by which most typing errors are refused without a look into the ledger. All are of 0-9, A-Z, a-z, so that it
passes through headers, URLs and application passwords as it is. Of the secret only its SHA-256 is kept: it is random,
so there is nothing that a slow hash would make harder to guess.
"""

import contextlib
import hashlib
import hmac
import re
import secrets
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eventferry import clock
from eventferry.access.base62 import to_base62
from eventferry.errors import EventferryError, UsageError
from eventferry.ledger import api_keys
from eventferry.ledger.api_keys import KeyRow
from eventferry.query.expression import Expression, as_data, from_data
from eventferry.query.scope import ALL, Names, Scope

if TYPE_CHECKING:
    import sqlalchemy as sa

    from eventferry.ledger import Ledger

SCOPES: Final = ("events", "exports", "admin")
TOKEN: Final = re.compile(r"ef_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
USE_MS = 60_000  # how exact used_ms is: one write a minute, not one a request
LONGEST_NAME = 200

_HANDLE, _SECRET, _CHECKSUM = 12, 43, 6
_NOBODY = hashlib.sha256(b"").digest()  # what an unknown key's secret is compared with, so that it takes as long


class Refused(EventferryError):
    """The token opens nothing. Why is not told: unknown, mistyped, expired and revoked ones look the same."""

    def __init__(self) -> None:
        super().__init__("the key is not valid")


@dataclass(frozen=True, slots=True)
class Key:
    """Who asks, and what may be asked. Times are epoch ms. It holds no secret."""

    id: str  # UUID
    handle: str
    name: str
    owner: str
    scopes: frozenset[str]  # of SCOPES
    realm: Scope = ALL
    filter: Expression | None = None  # ANDed to everything that it asks
    created_ms: int = 0
    expires_ms: int | None = None
    revoked_ms: int | None = None
    used_ms: int | None = None  # exact to a minute

    def may(self, scope: str) -> bool:
        """Whether it was given this scope; admin holds every other one."""
        return scope in self.scopes or self.is_admin

    @property
    def is_admin(self) -> bool:
        """Whether it sees what other keys made, within its own realm."""
        return "admin" in self.scopes

    def state(self, now_ms: int) -> str:
        """active, expired or revoked."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expires_ms is not None and self.expires_ms <= now_ms else "active"


def create_key(
    tx: "sa.Connection",
    *,
    name: str,
    owner: str,
    scopes: Iterable[str],
    realm: Scope = ALL,
    filter: Expression | None = None,
    expires_ms: int | None = None,
) -> tuple[Key, str]:
    """A new key and its token, which cannot be had again. Raises UsageError."""
    kept = frozenset(scopes)
    _check(name, owner, kept, realm)
    now = clock.now_ms()
    if expires_ms is not None and expires_ms <= now:
        raise UsageError("the key would have expired already; name a time to come")
    handle = _random_base62(_HANDLE)
    secret = to_base62(int.from_bytes(secrets.token_bytes(32)), _SECRET)
    row = KeyRow(
        id=str(uuid.uuid4()),
        handle=handle,
        secret_hash=_hash(secret).hex(),
        name=name,
        owner=owner,
        scopes=tuple(sorted(kept)),
        realm=realm.to_data(),
        filter=None if filter is None else as_data(filter),
        created_ms=now,
        expires_ms=expires_ms,
    )
    api_keys.insert(tx, row)
    return _key(row), f"ef_{handle}_{secret}{_checksum(handle, secret)}"


def authenticate(ledger: "Ledger", token: str) -> Key:
    """The key that the token belongs to. Raises Refused, whatever is wrong with the token.

    Notes that the key was used, at most once a minute.
    """
    handle, secret = _parse(token)
    with ledger.read() as tx:
        row = api_keys.by_handle(tx, handle)
    known = _NOBODY if row is None else bytes.fromhex(row.secret_hash)
    matches = hmac.compare_digest(_hash(secret), known)
    now = clock.now_ms()
    if row is None or not matches or (key := _key(row)).state(now) != "active":
        raise Refused()
    if key.used_ms is None or now - key.used_ms >= USE_MS:
        _note_use(ledger, key.id, now)
    return key


def find_keys(tx: "sa.Connection", named: str) -> list[Key]:
    """The keys that `named` may mean: one by its id, handle or whole token, else all of that name, oldest first."""
    token = TOKEN.fullmatch(named)
    handle = token[1] if token else named
    rows = api_keys.all_keys(tx)
    exact = [row for row in rows if handle in (row.id, row.handle)]
    return [_key(row) for row in exact or rows if exact or row.name == named]


def list_keys(tx: "sa.Connection") -> list[Key]:
    """Every key there ever was, oldest first."""
    return [_key(row) for row in api_keys.all_keys(tx)]


def get_key(tx: "sa.Connection", key_id: str) -> Key | None:
    """The key of that id, whatever its state; None where there is none."""
    row = api_keys.by_id(tx, key_id)
    return None if row is None else _key(row)


def revoke_key(tx: "sa.Connection", key_id: str) -> bool:
    """From now on the key opens nothing; False where it was revoked before."""
    return api_keys.revoke(tx, key_id, clock.now_ms())


def set_expiry(tx: "sa.Connection", key_id: str, expires_ms: int | None) -> None:
    """The key ends then; None: it does not expire."""
    api_keys.set_expiry(tx, key_id, expires_ms)


def _note_use(ledger: "Ledger", key_id: str, now: int) -> None:
    # Who asks is not made to fail by a full disk: when a key was last used is only good to know.
    with contextlib.suppress(Exception), ledger.write() as tx:
        api_keys.note_use(tx, key_id, now)


def _parse(token: object) -> tuple[str, str]:
    """Handle and secret of what may be a token. Raises Refused."""
    found = TOKEN.fullmatch(token) if isinstance(token, str) and len(token) < 100 else None
    if found is None or found[3] != _checksum(found[1], found[2]):
        raise Refused()
    return found[1], found[2]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _checksum(handle: str, secret: str) -> str:
    return to_base62(zlib.crc32(f"{handle}_{secret}".encode()), _CHECKSUM)


def _random_base62(length: int) -> str:
    return to_base62(secrets.randbelow(62**length), length)


def _key(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        handle=row.handle,
        name=row.name,
        owner=row.owner,
        scopes=frozenset(row.scopes),
        realm=Scope.from_data(row.realm),
        filter=None if row.filter is None else from_data(row.filter),
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
        used_ms=row.used_ms,
    )


def _check(name: str, owner: str, scopes: frozenset[str], realm: Scope) -> None:
    """Raise UsageError where a key cannot be made of this."""
    for what, text in (("name", name), ("owner", owner)):
        if not text.strip() or len(text) > LONGEST_NAME or not text.isprintable():
            raise UsageError(
                f"{text[:50]!r} is not the {what} of a key; write 1 to {LONGEST_NAME} printable characters"
            )
    if ":" in owner:
        raise UsageError(
            f"{owner!r} cannot be the owner of a key: clients present it as a user name, which has no colon"
        )
    unknown = sorted(scopes - {*SCOPES})
    if unknown or not scopes:
        raise UsageError(
            f"{unknown[0]!r} is not a scope" if unknown else "a key needs a scope: events, exports or admin"
        )
    _check_names("tenant", realm.tenants)
    _check_names("project", realm.projects)
    _check_names("collection", realm.collections)


def _check_names(what: str, names: Names) -> None:
    if names == ():
        raise UsageError(f"a key for no {what} at all opens nothing; name one, or leave {what}s out for all of them")
    for name in names or ():
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise UsageError(f"{name[:50]!r} is not a {what}; write 1 to {LONGEST_NAME} printable characters")

"""Objects that were listed but could not be read: since when, why, and whether they were read in the end."""

from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import tables as t
from eventferry.ledger.objects import hash_key

# So begins the reason of what is read in vain because it is not all there: the file is at fault, not its store.
NOT_WHOLE = "not whole yet: "


@dataclass(frozen=True, slots=True)
class Unread:
    """Files that were tried to read and wait for another try: how many, and the oldest one with its reason."""

    files: int
    key: str
    reason: str | None


def unread_since(tx: sa.Connection, source_id: int, seen_ms: int) -> Unread | None:
    """What of the source was seen at that time or before, and is not handed out by its store to this day."""
    waiting = (  # next_ms is 0 until an object was postponed
        t.objects.c.source_id == source_id,
        t.objects.c.state == "seen",
        t.objects.c.next_ms > 0,
        t.objects.c.seen_ms <= seen_ms,
        sa.func.coalesce(t.objects.c.reason, "").not_like(f"{NOT_WHOLE}%"),
    )
    columns = (sa.func.count().over().label("files"), t.objects.c.key, t.objects.c.reason)
    oldest = sa.select(*columns).where(*waiting).order_by(t.objects.c.seen_ms, t.objects.c.id).limit(1)
    row = tx.execute(oldest).one_or_none()
    return None if row is None else Unread(*row)


def is_taken(tx: sa.Connection, source_id: int, key: str) -> bool:
    """Whether the last version of the key is in the log."""
    newest = (
        sa.select(t.objects.c.state)
        .where(t.objects.c.source_id == source_id, t.objects.c.key_hash == hash_key(key))
        .order_by(t.objects.c.id.desc())
        .limit(1)
    )
    return tx.execute(newest).scalar_one_or_none() in ("indexed", "unchanged")

"""Sends: which message goes to which channel, and how far each got. All inside the caller's transaction."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from eventferry.ledger import tables as t
from eventferry.ledger.alerts import ENDS, MESSAGE_COLUMNS, StoredMessage, read_message
from eventferry.logs import redact

_m = t.messages.c
_s = t.sends.c

_OF_A_CAUSE = ("problem", "reminder", *ENDS)

# A persisted time further ahead than any back-off means that the clock was set back: due at once.
LONGEST_WAIT_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class DueSend:
    """A message that a channel should get now."""

    channel: str
    attempts: int  # earlier ones
    message: StoredMessage


def route(
    tx: sa.Connection, choose: Callable[[StoredMessage, frozenset[str]], Iterable[str]]
) -> list[tuple[StoredMessage, tuple[str, ...]]]:
    """Give every new message to the channels that `choose` names, oldest first.

    `choose` gets the message and the channels which were told of the problem that it continues.
    """
    done = []
    for row in tx.execute(sa.select(*MESSAGE_COLUMNS).where(_m.routed.is_(False)).order_by(_m.id)).all():
        message = read_message(row)
        channels = tuple(choose(message, _told(tx, message)))
        if message.kind in ENDS:
            _drop_unsent(tx, message)
        _drop_refused(tx, message)
        for channel in channels:
            tx.execute(sa.insert(t.sends).values(message_id=message.id, channel=channel, state="pending", next_ms=0))
        tx.execute(sa.update(t.messages).where(_m.id == message.id).values(routed=True))
        done.append((message, channels))
    return done


def _told(tx: sa.Connection, message: StoredMessage) -> frozenset[str]:
    if message.kind not in ("reminder", *ENDS):
        return frozenset()
    told = sa.select(_s.channel).join(t.messages, _m.id == _s.message_id)
    # Who was spared the problem, or was not even tried, is spared its end. A try that failed may have arrived.
    tried = _s.attempts > 0 if message.kind in ENDS else sa.true()
    where = sa.or_(_s.state == "sent", sa.and_(_s.state == "pending", tried))
    return frozenset(tx.execute(told.where(*_earlier_words(message), where).distinct()).scalars())


def _earlier_words(message: StoredMessage) -> tuple[sa.ColumnElement[bool], ...]:
    """What was written of the same cause since it is so."""
    is_said = _m.kind.in_(["problem", "reminder"])
    return (_m.cause == message.cause, _m.id < message.id, _m.created_ms >= message.since_ms, is_said)


def _drop_unsent(tx: sa.Connection, end: StoredMessage) -> None:
    """What is over need not be said any more where nobody tried yet to say it; its end is not said either."""
    untried = (_s.state == "pending", _s.attempts == 0)
    earlier = _s.message_id.in_(sa.select(_m.id).where(*_earlier_words(end)))
    tx.execute(sa.update(t.sends).where(*untried, earlier).values(state="dropped"))


def _drop_refused(tx: sa.Connection, message: StoredMessage) -> None:
    """What a channel refused for its own sake is not tried any more once there is later news of the same cause."""
    refused = (_s.state == "pending", _s.refused.is_(True))
    earlier = sa.select(_m.id).where(_m.cause == message.cause, _m.id < message.id, _m.kind.in_(_OF_A_CAUSE))
    tx.execute(sa.update(t.sends).where(*refused, _s.message_id.in_(earlier)).values(state="failed"))


def is_anything_due(tx: sa.Connection, now_ms: int) -> bool:
    """Whether a message waits for its channels, or a channel for a message."""
    unrouted = sa.select(_m.id).where(_m.routed.is_(False)).limit(1)
    first = sa.not_(_is_behind(now_ms))
    pending = sa.select(_s.message_id).join(t.messages, _m.id == _s.message_id).where(*_due(now_ms), first).limit(1)
    return any(tx.execute(one).first() is not None for one in (unrouted, pending))


def due_sends(tx: sa.Connection, channel: str, now_ms: int, limit: int = 500) -> list[DueSend]:
    """What `channel` should get now, oldest first: of one cause nothing overtakes what was said earlier."""
    chosen = sa.select(*MESSAGE_COLUMNS, _s.attempts).join(t.sends, _m.id == _s.message_id)
    first = sa.not_(_is_behind(now_ms))
    rows = tx.execute(chosen.where(_s.channel == channel, *_due(now_ms), first).order_by(_m.id).limit(limit))
    return [DueSend(channel, row.attempts, read_message(row)) for row in rows]


def _due(now_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (_s.state == "pending", sa.or_(_s.next_ms <= now_ms, _s.next_ms > now_ms + LONGEST_WAIT_MS))


def _is_behind(now_ms: int) -> sa.ColumnElement[bool]:
    """Whether an earlier message of the same cause waits for another try at the same channel.

    One that was refused for its own sake holds nothing up: what follows may well be taken.
    """
    earlier, send = t.messages.alias("earlier"), t.sends.alias("earlier_send")
    waits = sa.and_(
        send.c.state == "pending",
        send.c.refused.is_(False),
        send.c.next_ms > now_ms,
        send.c.next_ms <= now_ms + LONGEST_WAIT_MS,
    )
    same = sa.and_(send.c.channel == _s.channel, earlier.c.cause == _m.cause, earlier.c.id < _m.id)
    return sa.exists().where(waits, earlier.c.id == send.c.message_id, same)


def record_sent(tx: sa.Connection, message_id: int, channel: str, now_ms: int) -> None:
    """The channel took the message."""
    _change(tx, message_id, channel, state="sent", sent_ms=now_ms, attempts=_s.attempts + 1, error=None)


def record_failed(
    tx: sa.Connection, message_id: int, channel: str, error: str, next_ms: int | None, *, refused: bool = False
) -> None:
    """The channel did not take the message, `refused` for its own sake; it is tried again at `next_ms`, if any."""
    change = {"state": "failed"} if next_ms is None else {"next_ms": next_ms}
    said = redact(error)[:500]
    _change(tx, message_id, channel, attempts=_s.attempts + 1, error=said, refused=refused, **change)


def record_suppressed(tx: sa.Connection, message_ids: Collection[int], channel: str, now_ms: int) -> None:
    """The channel's rate cap kept these messages back for good."""
    for message_id in message_ids:
        _change(tx, message_id, channel, state="suppressed", sent_ms=now_ms)


def add_send(tx: sa.Connection, message_id: int, channel: str) -> None:
    """Give a message to one channel, past all rules; nobody else gets it."""
    tx.execute(sa.insert(t.sends).values(message_id=message_id, channel=channel, state="pending", next_ms=0))
    tx.execute(sa.update(t.messages).where(_m.id == message_id).values(routed=True))


def postpone(tx: sa.Connection, channel: str, next_ms: int) -> None:
    """Let everything that waits for `channel` wait until then: it is the channel that does not work."""
    earlier = (_s.channel == channel, _s.state == "pending", _s.next_ms < next_ms)
    tx.execute(sa.update(t.sends).where(*earlier).values(next_ms=next_ms))


def drop_unknown_channels(tx: sa.Connection, known: Collection[str]) -> int:
    """End what waits for channels that are no longer configured; returns how many sends."""
    orphaned = (_s.state == "pending", _s.channel.not_in(list(known)))
    done = tx.execute(sa.update(t.sends).where(*orphaned).values(state="failed", error="no longer configured"))
    return done.rowcount


def recent_sent_count(tx: sa.Connection, channel: str, since_ms: int, now_ms: int, except_event: str = "") -> int:
    """Messages that `channel` took in that time."""
    count = sa.select(sa.func.count()).select_from(t.sends.join(t.messages, _m.id == _s.message_id))
    within = (_s.sent_ms > since_ms, _s.sent_ms <= now_ms, _m.event != except_event)
    return int(tx.execute(count.where(_s.channel == channel, _s.state == "sent", *within)).scalar_one())


def suppressed_count(tx: sa.Connection, channel: str, since_ms: int) -> int:
    """Messages that the rate cap of `channel` kept back since then."""
    chosen = (_s.channel == channel, _s.state == "suppressed", _s.sent_ms > since_ms)
    return int(tx.execute(sa.select(sa.func.count()).select_from(t.sends).where(*chosen)).scalar_one())


def is_forgettable(before_ms: int) -> sa.ColumnElement[bool]:
    """Messages older than that which wait for nobody."""
    waiting = sa.exists().where(_s.message_id == _m.id, _s.state == "pending")
    return sa.and_(_m.created_ms < before_ms, _m.routed.is_(True), sa.not_(waiting))


def forget(tx: sa.Connection, message_ids: Collection[int]) -> int:
    """Delete messages with their sends; returns how many."""
    tx.execute(sa.delete(t.sends).where(_s.message_id.in_(message_ids)))
    return tx.execute(sa.delete(t.messages).where(_m.id.in_(message_ids))).rowcount


def prune_messages(tx: sa.Connection, before_ms: int) -> int:
    """Forget messages older than that which wait for nobody; returns how many."""
    return forget(tx, tx.execute(sa.select(_m.id).where(is_forgettable(before_ms))).scalars().all())


def _change(tx: sa.Connection, message_id: int, channel: str, **values: object) -> None:
    tx.execute(sa.update(t.sends).where(_s.message_id == message_id, _s.channel == channel).values(**values))

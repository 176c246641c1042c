"""Makes calls of events and requests of calls, within Segment's limits."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import msgspec

from eventferry.sink import Batch
from eventferry.sink.identity import event_ids
from eventferry_sinks.segment.mapping import Event, fill
from eventferry_sinks.segment.options import SegmentOptions

LARGEST_REQUEST = 500_000  # bytes; documented as 500 KB
LARGEST_CALL = 32 * 1024  # bytes
MOST_CALLS = 2500  # in a request
_LONGEST_ID = 64  # characters of an event's own id; with the source and the kind of the call less than 100


class _Unfit(Exception):
    """Segment would drop the call, without a word or with all others of its request."""


@dataclass
class Made:
    """The calls of a batch, in order, as JSON; the events of which none are made, and values that did not fit."""

    calls: list[bytes] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    misfits: Counter[str] = field(default_factory=Counter)


class Caller:
    """Makes the calls of one sink."""

    def __init__(self, options: SegmentOptions) -> None:
        self._options = options
        self._kinds = options.compiled()
        self._pages = {msgspec.json.encode(each) for each in options.page_types}
        # Segment compares ids over all sources and workspaces: what one source has would be dropped by the next.
        key = options.write_key.get_secret_value().encode()
        self._source = hashlib.blake2b(key, digest_size=5).hexdigest()

    def make(self, batch: Batch) -> Made:
        """All calls of a batch. Events of which Segment would drop a call are refused whole."""
        made = Made()
        for position, (line, identity) in enumerate(zip(batch.lines(), event_ids(batch), strict=True)):
            try:
                made.calls += self._calls_of(line, identity, made.misfits)
            except _Unfit as unfit:
                made.refused[position] = str(unfit)
            except msgspec.MsgspecError:
                made.refused[position] = "the event cannot be read as JSON"
        return made

    def _calls_of(self, line: bytes, identity: str, misfits: Counter[str]) -> list[bytes]:
        event = Event(line)
        main = "page" if event.raw("event_type") in self._pages else "track"
        identity = self._own_id(event) or identity
        calls, groups = [], 0
        for kind, takes in self._kinds:
            if kind in ("page", "track") and kind != main:
                continue
            fields, unfit = fill(takes, event)
            misfits.update(unfit)
            # Segment drops what has an id that it has seen: the calls of one event need ids of their own.
            name = kind
            if kind == "group":
                groups += 1
                name = f"group{groups}"
                if _is_empty(fields.get("groupId")):
                    continue
            call = msgspec.json.encode({"type": kind, "messageId": f"{identity}-{self._source}-{name}", **fields})
            _check(kind, {key for key, value in fields.items() if not _is_empty(value)}, call)
            calls.append(call)
        return calls

    def _own_id(self, event: Event) -> str | None:
        path = self._options.message_id
        raw = event.raw(path) if path is not None else None
        if raw is None:
            return None
        value = msgspec.json.decode(raw) if raw[:1] == b'"' else raw.decode()
        return value if 0 < len(value) <= _LONGEST_ID and value.isprintable() else None


def _is_empty(value: Any) -> bool:
    """Whether there is no value, or an empty text, which Segment takes for none."""
    return not value or (isinstance(value, msgspec.Raw) and bytes(value) == b'""')


def _check(kind: str, fields: Set[str], call: bytes) -> None:
    """`fields` are the keys of what says something."""
    if not {"userId", "anonymousId"} & fields:
        raise _Unfit(f"{kind} has neither userId nor anonymousId: the mapping finds none in this event")
    if kind == "track" and "event" not in fields:
        raise _Unfit("track has no event: the mapping finds no name in this event")
    if len(call) >= LARGEST_CALL:
        raise _Unfit(f"{kind} has {len(call)} bytes, Segment takes less than {LARGEST_CALL}")


def requests_of(calls: Iterable[bytes]) -> Iterator[bytes]:
    """The bodies of as few requests as these calls need."""
    waiting: list[bytes] = []
    size = len(b'{"batch":[]}')
    room = LARGEST_REQUEST - size
    for call in calls:
        if waiting and (len(call) + 1 > room or len(waiting) == MOST_CALLS):
            yield b'{"batch":[' + b",".join(waiting) + b"]}"
            waiting, room = [], LARGEST_REQUEST - size
        waiting.append(call)
        room -= len(call) + 1
    if waiting:
        yield b'{"batch":[' + b",".join(waiting) + b"]}"

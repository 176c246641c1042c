"""Batches as the daemon would cut them, made of ordinary and of hostile events."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from eventferry.sink.batch import Batch, Part

NOON = 1714564800000  # 2024-05-01T12:00:00Z in epoch milliseconds

UNICODE = (
    b'{"event_type":"unicode","title":"Gr\xc3\xbc\xc3\x9fe \xe2\x80\xa8 \xf0\x9f\x9a\xa2 \xc2\x85 \xe2\x80\xae"}',
    b'{"event_type":"escapes","title":"\\u00e9 \\ud83d\\udea2 \\n \\r \\t \\" \\\\ \\/ \\u2028"}',
    b'{"event_type":"spaces" ,\t"title" : "  kept  "  }',
)
NUL = (b'{"event_type":"nul","title":"a\\u0000b"}',)
NUMBERS = (
    b'{"event_type":"edges","n":9223372036854775807,"m":-9223372036854775808}',
    b'{"event_type":"edges","n":9223372036854775808,"m":18446744073709551615}',
    b'{"event_type":"edges","n":123456789012345678901234567890,"m":0.1}',
    b'{"event_type":"edges","n":1e400,"m":-0.0,"event_timestamp":99999999999999999999}',
    b'{"event_type":"edges","n":1.0,"m":12345678901234567.5,"event_timestamp":"soon"}',
)
FIELD_NAMES = (
    b'{"event_type":"names","\\"; DROP TABLE events; --":1,"__proto__":{"a":1},"constructor":2}',
    b'{"event_type":"names","":1," ":2,"a.b":3,"$set":4,"event":5,"batch_id":6,"Event":7}',
    b'{"event_type":"names","' + b"x" * 300 + b'":1,"\xc3\xa4\xc3\xb6\xc3\xbc":2,"a\\u0000":3}',
    b'{"event_type":"names","twice":1,"twice":2,"Twice":3}',
    b'{"event_type":"deep","a":' + b'{"a":' * 90 + b"1" + b"}" * 90 + b"}",
    b'{"event_type":["not","a","text"],"event_timestamp":{"nor":"a time"},"attributes":"flat"}',
    b"{}",
)


def sample_events(count: int, start: int = 0) -> list[bytes]:
    """`count` ordinary events, numbered from `start` in the field `n`."""
    return [
        json.dumps(
            {
                "event_type": "pageView",
                "event_timestamp": NOON + 1000 * number,
                "n": number,
                "attributes": {"url": f"https://example.org/{number}", "loggedIn": "false"},
                "metrics": {"elapsed": number * 0.5},
            },
            separators=(",", ":"),
        ).encode()
        for number in range(start, start + count)
    ]


def make_batch(events: Sequence[bytes] | Iterable[bytes], salt: str = "", attempt: int = 1) -> Batch:
    """A batch of `events`; equal events and `salt` give the same id, another salt another one."""
    lines = list(events)
    body = b"".join(line + b"\n" for line in lines)
    digest = hashlib.sha256(body).hexdigest()[:32]
    identity = hashlib.sha256(salt.encode() + b"\0" + body).hexdigest()[:32]
    return Batch(
        id=identity,
        body=body,
        events=len(lines),
        parts=(Part("kit", f"2024/05/01/12/kit{salt}.ndjson", digest, 0, len(body), len(lines)),),
        sink="kit",
        attempt=attempt,
        time_min=NOON,
        time_max=NOON + 3_600_000,
        epoch="kit",
        seek=lambda _, byte: body.count(b"\n", 0, max(0, byte)),
        starts=lambda: [list(accumulate((len(line) + 1 for line in lines), initial=0))[:-1]],
    )


def cut_batch(files: Sequence[Sequence[bytes]], first: int, last: int, epoch: str = "kit") -> Batch:
    """A batch of the events first…last-1 of these files, counted through; other bounds are another cut of the same."""
    lines: list[bytes] = []
    parts: list[Part] = []
    edges: list[list[int]] = []  # for each part: where its events begin
    before = 0
    for number, events in enumerate(files):
        low, high = (min(max(each - before, 0), len(events)) for each in (first, last))
        before += len(events)
        if low < high:
            offsets = list(accumulate((len(line) + 1 for line in events), initial=0))
            digest = hashlib.sha256(b"\n".join(events)).hexdigest()[:32]
            parts.append(Part("kit", f"2024/05/01/12/{number}.ndjson", digest, offsets[low], offsets[high], high - low))
            edges.append(offsets[low:high])
            lines += events[low:high]
    firsts = list(accumulate((len(each) for each in edges), initial=0))
    ranges = repr((epoch, [(part.content, part.start, part.end) for part in parts]))
    return Batch(
        id=hashlib.sha256(ranges.encode()).hexdigest()[:32],
        body=b"".join(line + b"\n" for line in lines),
        events=len(lines),
        parts=tuple(parts),
        sink="kit",
        epoch=epoch,
        seek=lambda part, byte: firsts[part] + sum(edge < byte for edge in edges[part]),
        starts=lambda: edges,
    )


def replacing_batch(batch: Batch, events: Sequence[bytes], *replaced: str) -> Batch:
    """A batch of the same ranges with these `events`, which takes the place of the ids in `replaced`."""
    body = b"".join(line + b"\n" for line in events)
    identity = hashlib.sha256(repr((batch.id, replaced)).encode() + body).hexdigest()[:32]
    return replace(batch, id=identity, body=body, events=len(events), replaces=replaced)

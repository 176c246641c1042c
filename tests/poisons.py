"""One poisonous event among 100,000 on their way into a database, and a table that refuses every event."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.builders import HOUR, Ferry, wait_until

from eventferry.sink import Batch, Sink

COUNT = 100_000
POISONED = 67_890  # the number of the poisonous event
# What the table holds then: how many events, how many different numbers, their sum.
OTHERS = (COUNT - 1, COUNT - 1, COUNT * (COUNT - 1) // 2 - POISONED)


@contextmanager
def ferry_into(home: Path, **options: Any) -> Iterator[Ferry]:
    """A sink with these options, whose batches hold all events of the store."""
    ferry = Ferry(home)
    ferry.sinks["out"] = {
        "create": True,
        "retry": {"first": "1ms", "max": "10ms"},
        "batch": {"max_events": COUNT, "max_bytes": "64MiB", "max_wait": "0s"},
        **options,
    }
    yield ferry
    ferry.close()


def calls_of(sink_type: type[Sink[Any]], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The events of every call of `deliver` from now on."""
    seen: list[int] = []
    deliver = sink_type.deliver

    def counted(sink: Sink[Any], batch: Batch) -> None:
        seen.append(batch.events)
        deliver(sink, batch)

    monkeypatch.setattr(sink_type, "deliver", counted)
    return seen


def deliver_all_but_one(ferry: Ferry, calls: list[int], poison: bytes) -> str:
    """Why the poison is a dead letter: it alone, with its place and its bytes, after a short search."""
    _put_events(ferry, COUNT, poison)
    with ferry.open():
        ferry.deliver(seconds=60)
        (letter,) = ferry.letters()
        assert calls[0] == COUNT
        assert len(calls) <= 1 + 2 * math.log2(COUNT) + 2
        assert letter.place.endswith(f"{HOUR}/all.ndjson.gz:{POISONED + 1}")
        assert "SECRET" not in letter.reason
        assert letter.body == poison
        assert (ferry.book().delivered, ferry.book().dead) == (COUNT - 1, 1)
    return letter.reason


def hold_until_mended(ferry: Ferry, mend: Callable[[], object]) -> None:
    """Nothing of 3,000 events is taken or becomes a dead letter before `mend` and a resume; afterwards they arrive."""
    _put_events(ferry, 3000)
    with ferry.open():
        with ferry.working():
            wait_until(lambda: ferry.sink().state == "held", 60, "the hold")
        assert not ferry.letters(state=None)
        assert ferry.book().delivered == 0
        mend()
        ferry.do("resume", sink="out")
        ferry.deliver(seconds=60)
        assert not ferry.letters(state=None)


def _put_events(ferry: Ferry, count: int, poison: bytes | None = None) -> None:
    lines = [b'{"n":%d}\n' % number for number in range(count)]
    if poison is not None:
        lines[POISONED] = poison
    ferry.put(f"{HOUR}/all.ndjson.gz", b"".join(lines))
    with ferry.open():
        ferry.index()

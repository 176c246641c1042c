"""Single trials of `check`: list a store, open a sink."""

import datetime as dt
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from eventferry import clock
from eventferry.alerts.phrases import duration
from eventferry.cli.wording import plural
from eventferry.config import SinkConfig, SourceConfig
from eventferry.errors import ConfigError
from eventferry.sink import Sink
from eventferry.sink.registry import make_sink
from eventferry.store import StoreObject
from eventferry.store.layout import Layout, Selection

if TYPE_CHECKING:
    from eventferry.cli.check import Steps

# A check of a huge store ends all the same.
LISTING_SECONDS = 20.0


@dataclass(slots=True)
class Listing:
    """What a whole listing found, or the beginning of one."""

    listed: int = 0
    files: int = 0
    bytes: int = 0
    foreign: int = 0
    foreign_example: str = ""
    too_young: int = 0
    cut: bool = False  # there is more; time was up
    seen_dates: set[dt.datetime] = field(default_factory=set)

    @property
    def dates(self) -> int:
        return len(self.seen_dates)

    @property
    def first(self) -> dt.datetime | None:
        return min(self.seen_dates, default=None)

    @property
    def last(self) -> dt.datetime | None:
        return max(self.seen_dates, default=None)


def list_all(
    objects: Iterator[StoreObject], layout: Layout, selection: Selection, settings: SourceConfig, floor_ms: int
) -> Listing:
    """Count what a first run would take. Raises StoreError."""
    found = Listing()
    end = clock.monotonic() + LISTING_SECONDS
    settle_ms = settings.settle.total_seconds() * 1000
    for item in objects:
        found.listed += 1
        info = layout.match(item.key)
        if info is None:
            if selection.takes(item.key):
                found.foreign += 1
                found.foreign_example = found.foreign_example or item.key
            continue
        dated_ms = item.modified_ms if info.date is None or settings.start == "latest" else clock.to_ms(info.date)
        if selection.takes(item.key) and dated_ms >= floor_ms:
            found.files += 1
            found.bytes += item.size
            found.too_young += clock.now_ms() - item.modified_ms < settle_ms
            if info.date is not None:
                found.seen_dates.add(info.date)
        if clock.monotonic() > end:
            found.cut = True
            break
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the trial of a sink that was done."""

    text: str
    is_doubtful: bool = False  # worth knowing


@dataclass(frozen=True, slots=True)
class Tried:
    """How far the trial of a sink came without an error; all was said step by step where `text` is empty."""

    text: str
    contacted: bool


Progress = Step | Tried | Exception


class NoAnswer(Exception):
    """Nobody listens where the events should go."""


def try_sink(settings: SinkConfig, steps: "Steps") -> None:
    """Make, open, check and close a sink, and connect to its receiver, within its deadline. No event is sent."""
    name = f"sink    {settings.name} ({settings.type})"
    if not settings.enabled:
        steps.mind(f"{name} is switched off")
        return
    told: queue.SimpleQueue[Progress] = queue.SimpleQueue()

    def use() -> None:
        try:
            told.put(_use(settings, told))
        except Exception as error:  # a third party's sink may raise anything
            told.put(error)

    # On a thread of its own: a call that never returns must not keep the check.
    threading.Thread(target=use, name=f"check-{settings.name}", daemon=True).start()
    end, was_open = clock.monotonic() + settings.timeout.total_seconds(), False
    while True:
        try:
            found = told.get(timeout=max(0.0, end - clock.monotonic()))
        except queue.Empty:
            did = "finish its check" if was_open else "open"
            steps.bad(f"{name}: did not {did} within {span(settings.timeout)} (timeout)")
            break
        if not isinstance(found, Step):
            _conclude(settings, name, found, steps)
            break
        was_open = True
        (steps.mind if found.is_doubtful else steps.ok)(f"{name}: {found.text}")


def _conclude(settings: SinkConfig, name: str, found: Tried | Exception, steps: "Steps") -> None:
    if isinstance(found, Tried):
        if found.text:
            (steps.ok if found.contacted else steps.mind)(f"{name}: {found.text}")
        if not found.contacted:
            steps.not_contacted.append(settings.name)
    elif isinstance(found, ConfigError):
        steps.bad(f"{name}: {found}", 78)
    else:
        known = type(found).__module__.startswith("eventferry.")  # else its type tells more than its text
        steps.bad(f"{name}: {found}" if known else f"{name}: raised {type(found).__name__}: {found}")


def _use(settings: SinkConfig, told: "queue.SimpleQueue[Progress]") -> Tried:
    """Open the sink, take its steps, or connect to where its url points. Raises whatever stands in the way."""
    was_checked = False
    with make_sink(settings.type, settings.name, settings.options) as sink:
        kind = type(sink)
        for text in sink.check():
            was_checked = True
            told.put(Step(text))
        for doubt in _doubts(sink):
            told.put(Step(doubt, is_doubtful=True))
    if was_checked:
        return Tried("", contacted=True)
    does_open = kind.open is not Sink.open
    address = _address(settings.options.get("url"))
    if address is not None:
        where = "{}:{}".format(*address)
        try:
            socket.create_connection(address, timeout=settings.timeout.total_seconds()).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise NoAnswer(f"{where} cannot be reached: {reason}; start the receiver, or mend its url") from None
        return Tried(f"opens, and {where} accepts connections; no event was sent", contacted=True)
    if does_open:
        return Tried("opens; no event was sent", contacted=True)
    return Tried("not contacted: this type has nothing to open, only a batch shows whether it takes events", False)


def _doubts(sink: Sink[Any]) -> Iterator[str]:
    """What people should know before they rely on the sink."""
    kind = type(sink)
    if sink.guarantee is not kind.guarantee:
        yield f"this place keeps {sink.guarantee!s} only, not {kind.guarantee!s}: a repeat may leave events twice"
    if kind.experimental:
        proven = f"was proved against {kind.proved_against} only" if kind.proved_against else "was never proved"
        yield f"this type is experimental: it {proven}; compare counts before you rely on it"


def _address(url: object) -> tuple[str, int] | None:
    """Host and port of a url; None where it names none."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None


def dated(found: Listing) -> str:
    """Which days or hours the files are dated: `5 hours from 2024-01-31 00:00 to 2024-01-31 04:00`."""
    assert found.first is not None
    assert found.last is not None
    hourly = any(each.hour for each in found.seen_dates)
    form = "%Y-%m-%d %H:00" if hourly else "%Y-%m-%d"
    first, last = (format(each, form) for each in (found.first, found.last))
    return f"{plural(found.dates, 'hour' if hourly else 'day')}, {first}" + (f" to {last}" if last != first else "")


def span(length: dt.timedelta) -> str:
    """48 h."""
    return duration(length.total_seconds())


def rhythm(settings: SourceConfig) -> str:
    """How often a source runs."""
    return f'time of cron = "{settings.cron}"' if settings.cron else span(settings.interval)

"""Single trials of `check`: list a store, open a sink."""

import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventferry import clock
from eventferry.alerts.phrases import duration
from eventferry.cli.wording import plural
from eventferry.config import SinkConfig, SourceConfig
from eventferry.errors import ConfigError
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


def try_sink(settings: SinkConfig, steps: "Steps") -> None:
    """Make, open and close a sink within its deadline."""
    name = f"sink    {settings.name} ({settings.type})"
    if not settings.enabled:
        steps.mind(f"{name} is switched off")
        return
    ended: list[Exception | None] = []

    def use() -> None:
        try:
            with make_sink(settings.type, settings.name, settings.options):
                pass
        except Exception as error:  # a third party's sink may raise anything
            ended.append(error)
        else:
            ended.append(None)

    # On a thread of its own: a call that never returns must not keep the check.
    thread = threading.Thread(target=use, name=f"check-{settings.name}", daemon=True)
    thread.start()
    thread.join(settings.timeout.total_seconds())
    error = ended[0] if ended else None
    if not ended:
        steps.bad(f"{name}: did not open within {span(settings.timeout)} (timeout)")
    elif isinstance(error, ConfigError):
        steps.bad(f"{name}: {error}", 78)
    elif error is not None:
        known = type(error).__module__.startswith("eventferry.")
        steps.bad(f"{name}: {error}" if known else f"{name}: raised {type(error).__name__}: {error}")
    else:
        steps.ok(f"{name}: opens")


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

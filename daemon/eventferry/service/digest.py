"""The daily digest: when it is written, and its line when all is well."""

from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from eventferry import clock
from eventferry.ledger import Ledger, books

DAY_MS = 86_400_000


def at_time_of_day(time_of_day: str, timezone: str) -> CronTrigger:
    """Once a day at hh:mm in that time zone."""
    hour, minute = time_of_day.split(":")
    return CronTrigger(hour=int(hour), minute=int(minute), timezone=ZoneInfo(timezone))


def compose_all_well(ledger: Ledger) -> str:
    """What the last day brought, in one line."""
    with ledger.read() as tx:
        files, events = books.indexed_since(tx, clock.now_ms() - DAY_MS)
        delivered = books.delivered_since(tx, clock.now_ms() - DAY_MS)
    sent = "; ".join(f"{name}: {count:,} events delivered" for name, count in sorted(delivered.items()))
    return f"{files:,} files with {events:,} events came in. {sent or 'Nothing was delivered'}."

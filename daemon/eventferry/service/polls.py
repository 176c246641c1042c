"""When each source runs: an interval from the last finish, or a cron expression."""

import contextlib
import datetime as dt
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger

from eventferry import clock
from eventferry.ledger import Ledger, alerts, sources
from eventferry.logs import get_logger
from eventferry.pipeline.index import Indexed, Indexer
from eventferry.pipeline.run import run_once
from eventferry.pipeline.source import Source

logger = get_logger()

# A run that makes no progress for this long is taken for hung: the watchdog is no longer fed.
HUNG_SECONDS = 1800.0
# How long a full listing waits for a run under way.
BUSY = dt.timedelta(seconds=30)
# When the ledger is asked again for a time that it did not tell.
ASK_AGAIN = dt.timedelta(seconds=5)


@dataclass
class Poll:
    """The rhythm of one source."""

    source: Source
    lock: threading.Lock = field(default_factory=threading.Lock)
    moving_since: float | None = None  # monotonic time of the last progress of a run under way
    wanted: bool = False  # a person asked for a run that has not begun yet


class Polls:
    """Runs the sources on an APScheduler, one run of a source at a time."""

    def __init__(
        self, scheduler: BaseScheduler, ledger: Ledger, indexer: Indexer, on_appended: Callable[[], None]
    ) -> None:
        self._scheduler = scheduler
        self._ledger = ledger
        self._indexer = indexer
        self._on_appended = on_appended
        self._polls: dict[str, Poll] = {}
        self._stopping = threading.Event()

    @property
    def sources(self) -> dict[str, Source]:
        """The sources at work."""
        return {name: poll.source for name, poll in self._polls.items()}

    @property
    def resting(self) -> list[Source]:
        """The sources without a run under way; those with one are watched by `is_hung`."""
        return [poll.source for poll in self._polls.values() if poll.moving_since is None]

    def put(self, source: Source) -> None:
        """Run this source from now on; a changed rhythm moves its next run."""
        known = self._polls.get(source.name)
        if known is not None and known.source.settings == source.settings:
            return
        self._polls[source.name] = Poll(source) if known is None else Poll(source, known.lock)
        self._schedule(source)

    def remove(self, name: str) -> None:
        """Run this source no more; a run under way ends by itself."""
        if self._polls.pop(name, None) is not None:
            for job in self._scheduler.get_jobs():
                if job.id in (f"poll:{name}", f"relist:{name}"):
                    with contextlib.suppress(JobLookupError):  # it ran just now
                        job.remove()

    def run_now(self, name: str) -> None:
        """Run the source as soon as possible; after a run under way, which may have listed too early."""
        if (poll := self._polls.get(name)) is not None:
            poll.wanted = True
            self._at(name, clock.now())

    def stop(self) -> None:
        """Begin no more runs."""
        self._stopping.set()

    def is_hung(self) -> bool:
        """Whether a run under way has made no progress for too long."""
        now = clock.monotonic()
        moving = [poll.moving_since for poll in self._polls.values()]
        return any(since is not None and now - since > HUNG_SECONDS for since in moving)

    def _schedule(self, source: Source) -> None:
        """The next run, due by the last finish, and the next full listing: a restart forgets neither."""
        self._plan_relist(source.name, dt.timedelta(0))
        try:
            self._schedule_polls(source)
        except Exception:  # rather a run too early than none
            logger.exception("poll.unplanned", source=source.name)
            self._at(source.name, clock.now() + ASK_AGAIN)

    def _plan_relist(self, name: str, pause: dt.timedelta) -> None:
        """The next full listing; where the ledger does not tell when, it is asked again soon."""
        poll = self._polls.get(name)
        if poll is None or self._stopping.is_set():
            return
        try:
            self._schedule_relist(poll.source, pause)
        except Exception:
            logger.exception("relist.unplanned", source=name)
            self._scheduler.add_job(
                self._plan_relist, DateTrigger(clock.now() + ASK_AGAIN), args=[name, pause], id=f"relist:{name}",
                replace_existing=True, misfire_grace_time=None, coalesce=True,
            )  # fmt: skip

    def _schedule_relist(self, source: Source, pause: dt.timedelta) -> None:
        settings = source.settings
        with self._ledger.read() as tx:
            relist_ms = sources.relist_due_ms(tx, source.id, int(settings.relist.total_seconds() * 1000))
        relist = min(clock.from_ms(relist_ms), clock.now() + settings.relist)  # the clock may have been wrong
        # One that failed or was cut short by max_files goes on with the next run, not at once.
        self._add("relist", source.name, DateTrigger(max(relist, clock.now() + pause)), full=True)

    def _schedule_polls(self, source: Source) -> None:
        settings = source.settings
        if (expression := settings.scheduler_cron) is not None:
            trigger = CronTrigger.from_crontab(expression, timezone=ZoneInfo(settings.timezone))
            trigger.jitter = int(settings.jitter.total_seconds()) or None
            self._add("poll", source.name, trigger)
            return
        with self._ledger.read() as tx:
            last = sources.last_run_ms(tx, source.id)
        now = clock.now()
        if last is None or clock.from_ms(last) > now:  # it never ran, or the clock was wrong when it did
            self._at(source.name, now)
        else:
            self._at(source.name, max(clock.from_ms(last) + settings.interval, now))

    def _at(self, name: str, moment: dt.datetime) -> None:
        self._add("poll", name, DateTrigger(moment))

    def _add(self, kind: str, name: str, trigger: object, *, full: bool = False) -> None:
        # A late run is better than none, one late run better than several. Two of a source at a time are prevented by
        # its lock: the scheduler would drop a run that is due while the one that asked for it is just ending.
        self._scheduler.add_job(
            self.run, trigger, args=[name], kwargs={"full": full}, id=f"{kind}:{name}", replace_existing=True,
            misfire_grace_time=None, coalesce=True, max_instances=3,
        )  # fmt: skip

    def run(self, name: str, *, full: bool = False) -> None:
        """One run of the source, then its next time; `full` lists the whole store."""
        poll = self._polls.get(name)
        if poll is None or self._stopping.is_set():
            return
        if not poll.lock.acquire(blocking=False):
            if full:  # after the run under way; a poll is covered by it
                self._add("relist", name, DateTrigger(clock.now() + BUSY), full=True)
            return
        again = False
        try:
            self._polls.get(name, poll).wanted = False
            poll.moving_since = clock.monotonic()
            again = self._run(poll, full)
        except Exception as error:
            logger.exception("run.failed", source=name)
            self._tell_failed(name, error)
        finally:
            poll.moving_since = None
            poll.lock.release()
            self._plan_next(name, again, full)

    def _tell_failed(self, name: str, error: Exception) -> None:
        """A run that raised: the next one that comes to its end closes the condition."""
        if name not in self._polls or self._stopping.is_set():  # nobody would ever close it
            return
        try:
            with self._ledger.write() as tx:
                alerts.open_condition(
                    tx,
                    cause=f"run.failed:{name}",
                    level="error",
                    event="run.failed",
                    subject=f"A run of source {name} failed; it is tried again at its next time",
                    detail=f"{type(error).__name__}: {error}",
                    command="journalctl -u eventferry -p err",
                    fields={"source": name},
                )
        except Exception:  # most likely what made the run fail; the next failure tries again
            logger.exception("alert.unwritten", source=name)

    def _plan_next(self, name: str, again: bool, full: bool) -> None:
        """After a run: when the next one is due."""
        current = self._polls.get(name)
        if current is None or self._stopping.is_set():
            return
        settings = current.source.settings
        if settings.cron is not None:
            if self._scheduler.get_job(f"poll:{name}") is None:  # a run in between took its place
                self._schedule_polls(current.source)
        else:
            jitter = dt.timedelta(seconds=random.uniform(0, settings.jitter.total_seconds()))  # noqa: S311
            self._at(name, clock.now() + settings.interval + jitter)
        if again or current.wanted:
            self._at(name, clock.now())
        if full:
            self._plan_relist(name, settings.interval)

    def _run(self, poll: Poll, full: bool) -> bool:
        """Run once; whether the next run should follow at once."""

        def listing() -> None:
            poll.moving_since = clock.monotonic()

        def progress(_: Indexed) -> None:
            listing()
            self._on_appended()

        source = poll.source
        report = run_once(self._ledger, source, self._indexer, full=full, progress=progress, listing=listing)
        self._on_appended()
        return report.limited and source.settings.catch_up

"""The daemon's life: start, wake, reload, stop."""

import os
import signal
import threading
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from eventferry import app, clock, notify
from eventferry.config import Config
from eventferry.errors import ConfigError, UsageError
from eventferry.ledger import Ledger, prune
from eventferry.ledger.database import set_meta
from eventferry.logs import configure_logs, get_logger
from eventferry.pipeline.deliver import SinkWorker
from eventferry.pipeline.setup import SinkSetup
from eventferry.pipeline.source import Source
from eventferry.service import carry_out, watch
from eventferry.service.digest import at_time_of_day, compose_all_well
from eventferry.service.polls import Polls
from eventferry.service.pull import PullSide
from eventferry.service.reload import digest_of, note_loaded, note_refused
from eventferry.service.signals import signal_numbers

logger = get_logger()

# What is left of the stop timeout for closing the books after the sinks have been waited for.
CLOSING_SECONDS = 2.0
# A reload waits this long for calls under way at the sinks that it changes, all together.
HANDOVER_SECONDS = 1.0
# Of the scheduler, made as they are needed: one for each source that runs, some for the other jobs.
MAX_THREADS = 128


class Service:
    """Everything that runs while the daemon runs."""

    def __init__(self, config: Config, path: Path, ledger: Ledger) -> None:
        self.config = config
        self._path = path
        self._ledger = ledger
        self._indexer = app.build_indexer(ledger, config)
        self._outbox = app.build_outbox(ledger, config)
        self._pull = PullSide(config, ledger)
        self._scheduler = BackgroundScheduler(timezone="UTC", executors={"default": ThreadPoolExecutor(MAX_THREADS)})
        self._polls = Polls(self._scheduler, ledger, self._indexer, self.wake_sinks)
        self._workers: dict[str, SinkWorker] = {}
        self._abandoned: dict[str, SinkWorker] = {}  # for a read of the store that did not come back
        self._reloading = threading.Lock()

    # -- life ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigError or LedgerError where it cannot start."""
        with signal_numbers() as arrivals:
            self.start()
            notify.ready(self._summary())
            while True:
                numbers = set(os.read(arrivals, 256))
                if numbers & {signal.SIGTERM, signal.SIGINT}:
                    self.stop()
                    return
                if signal.SIGHUP in numbers:  # twenty of them ask for the same
                    self._obey_hangup()

    def _obey_hangup(self) -> None:
        """Reload; whatever is wrong with the edit or the ledger, the daemon goes on as it was."""
        try:
            self.reload()
        except ConfigError:
            pass  # told where it was found
        except Exception:
            logger.exception("reload.failed", file=str(self._path))

    def start(self) -> None:
        """Begin everything; returns once it works."""
        digest = digest_of(self._path)
        self._apply(self.config)
        note_loaded(self._ledger, self._path, digest)
        self._add_jobs()
        self._scheduler.start()
        with self._ledger.write() as tx:  # a death right now must not look like the clean stop before it
            set_meta(tx, "heartbeat_ms", clock.now_ms())
        logger.info("service.started", **self._counts())

    def stop(self) -> None:
        """Finish or abandon what is under way within the stop timeout; nothing is lost either way."""
        timeout = self.config.service.stop_timeout.total_seconds()
        notify.stopping("stopping")
        deadline = clock.monotonic() + timeout - CLOSING_SECONDS
        self._polls.stop()
        for worker in self._workers.values():
            worker.stop()
        late = [
            name for name, worker in self._workers.items() if not worker.join(max(0.0, deadline - clock.monotonic()))
        ]
        self._scheduler.shutdown(wait=False)
        self._pull.stop()
        self._indexer.close()
        try:
            with self._ledger.write() as tx:
                set_meta(tx, "stopped_ms", clock.now_ms())
        except sa.exc.DatabaseError as error:  # a full disk must not make a clean stop a failed one
            logger.error("ledger.failed", error=str(error.orig or error))
        logger.info("service.stopped", abandoned=late)

    def _wake_at(self, name: str, moment_ms: int) -> None:
        """Wake the sink when its retry, its probe or its short batch is due."""

        def wake() -> None:
            if (worker := self._workers.get(name)) is not None:
                worker.wake()

        self._add(f"wake:{name}", wake, DateTrigger(clock.from_ms(moment_ms)))

    def wake_sinks(self) -> None:
        """Tell every sink that the log has grown."""
        for worker in list(self._workers.values()):
            worker.wake()

    def run_now(self, source: str | None) -> list[str]:
        """Run a source, or all of them, as soon as possible; their names. Raises UsageError."""
        known = self._polls.sources
        if source is not None and source not in known:
            raise UsageError(f"there is no source {source!r} at work; known are: {', '.join(sorted(known)) or 'none'}")
        names = sorted(known) if source is None else [source]
        for name in names:
            self._polls.run_now(name)
        return names

    # -- configuration ------------------------------------------------------------------------------------------------

    def reload(self) -> list[str]:
        """Load the configuration anew, all or nothing; what changed. Raises ConfigError where it is refused."""
        with self._reloading:
            notify.reloading("reloading")
            digest = digest_of(self._path)
            try:
                changes = self._reload()
            except ConfigError as error:
                logger.error("config.refused", file=str(self._path), problems=list(error.problems))
                note_refused(self._ledger, self._path, digest, error.problems)
                raise
            else:
                note_loaded(self._ledger, self._path, digest)
                logger.info("config.loaded", file=str(self._path), changes=changes)
                return changes
            finally:
                notify.ready(self._summary())

    def _reload(self) -> list[str]:
        new = app.load_config(self._path)
        if new.ledger_url != self.config.ledger_url or new.state_dir != self.config.state_dir:
            raise ConfigError("state_dir, ledger.url: cannot change while the daemon runs; restart it")
        changes = Config.diff(self.config, new)
        channels, settings = app.alert_parts(new)
        if new.execution != self.config.execution:
            self._indexer.use(partial(app.build_executor, new), new.execution.processes)
        self._apply(new)
        self._outbox.replace(channels, settings)
        self._pull.use(new)
        app.end_where_broken(self._ledger, new)
        configure_logs(new.log.format, new.log.level)
        for job in ("digest", "requests"):
            self._scheduler.remove_job(job) if self._scheduler.get_job(job) else None
        self._add_jobs()
        return changes

    def _apply(self, config: Config) -> None:
        """Bring sources and sinks to what the configuration says. Nothing has changed where it raises ConfigError."""
        app.check_identities(self._ledger, config)
        app.check_roots(self._ledger, config)
        at_work: dict[str, Source] = {}
        if app.is_anybody_listening(config):
            at_work = app.build_sources(self._ledger, config)
        setups = app.build_sinks(self._ledger, config, at_work)
        self.config = config
        for name in set(self._polls.sources) - set(at_work):
            self._polls.remove(name)
        for source in at_work.values():
            self._polls.put(source)
        self._replace_workers(setups)
        watch.follow(self._ledger, at_work, setups)
        if not at_work:
            logger.info("service.idle", reason=app.why_idle(config))

    def _replace_workers(self, setups: dict[str, SinkSetup]) -> None:
        """Stop what is gone or changed, start what is new; a hanging sink is abandoned, not waited for."""
        changed = {name for name, worker in self._workers.items() if not _is_same(worker.setup, setups.get(name))}
        for name in changed:
            self._workers[name].stop()
        deadline = clock.monotonic() + HANDOVER_SECONDS
        for name in changed:
            if not self._workers.pop(name).join(max(0.0, deadline - clock.monotonic())):
                logger.warning(
                    "sink.abandoned", sink=name, reason="a call was under way when its configuration changed"
                )
        for name, setup in setups.items():
            if name not in self._workers:
                self._start_worker(name, setup)

    def _start_worker(self, name: str, setup: SinkSetup) -> None:
        self._workers[name] = SinkWorker(self._ledger, setup, partial(self._wake_at, name))
        self._workers[name].start()

    def _abandon_hanging(self) -> None:
        """Give up reads of the store at their deadline; where one of the sink still hangs, a second would, too."""
        if not self._reloading.acquire(blocking=False):
            return  # it is bringing the workers in order itself
        try:
            for name, worker in list(self._workers.items()):
                before = self._abandoned.get(name)
                if worker.is_hanging and (before is None or before.join(0)):
                    logger.warning("sink.abandoned", sink=name, reason="a read of its store does not come back")
                    worker.stop()
                    self._abandoned[name] = worker
                    self._start_worker(name, worker.setup)
        finally:
            self._reloading.release()

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _add_jobs(self) -> None:
        config = self.config
        every = config.service.requests_every.total_seconds()
        self._every("requests", self._carry_out_requests, every)
        self._every("alerts", self._outbox.pump, 2.0)
        self._every("wake", self.wake_sinks, 30.0)
        self._every("status", self._tell_status, 10.0)
        self._every("behind", self._alert_behind, 60.0)
        self._every("prune", self._prune, 6 * 3600.0)
        for name, do, seconds in self._pull.jobs():
            self._every(name, do, seconds)
        if (interval := notify.watchdog_interval()) is not None:
            self._every("watchdog", self._feed_watchdog, min(interval, 10.0))
        if config.alerts.ping_url:
            self._every("ping", self._ping, 300.0)
        if config.alerts.digest:
            trigger = at_time_of_day(config.alerts.digest, config.alerts.timezone)
            self._add("digest", self._digest, trigger)

    def _every(self, name: str, do: object, seconds: float) -> None:
        self._add(name, do, IntervalTrigger(seconds=seconds))

    def _add(self, name: str, do: object, trigger: object) -> None:
        # Late is better than never, once better than several times, and never two at a time.
        self._scheduler.add_job(
            do, trigger, id=name, replace_existing=True, misfire_grace_time=None, coalesce=True, max_instances=1
        )

    def _carry_out_requests(self) -> None:
        carry_out.carry_out(self._ledger, self)

    def _digest(self) -> None:
        all_well = (lambda: compose_all_well(self._ledger)) if self.config.alerts.all_well else None
        self._outbox.digest(all_well=all_well)

    def _prune(self) -> None:
        pruned = prune.prune(self._ledger, clock.now_ms() - int(self.config.ledger.retention.total_seconds() * 1000))
        if any(pruned.values()):
            logger.info("ledger.pruned", **pruned)

    def _feed_watchdog(self) -> None:
        """Only a scheduler that runs jobs and an index that moves keep the process alive."""
        if not self._polls.is_hung():
            notify.watchdog()

    def _tell_status(self) -> None:
        notify.status(self._summary())
        self._abandon_hanging()
        with self._ledger.write() as tx:
            set_meta(tx, "heartbeat_ms", clock.now_ms())
            watch.alert_stuck(tx, dict(self._workers))

    def _alert_behind(self) -> None:
        watch.alert_behind(self._ledger, list(self._workers), int(self.config.alerts.max_lag.total_seconds() * 1000))

    def _ping(self) -> None:
        if self.config.alerts.ping_url and not self._polls.is_hung():
            watch.ping_if_well(self._ledger, self.config.alerts.ping_url, self._polls.resting)

    def _counts(self) -> dict[str, object]:
        return {"pid": os.getpid(), "sources": sorted(self._polls.sources), "sinks": sorted(self._workers)}

    def _summary(self) -> str:
        if not self._polls.sources:
            return f"idle: {app.why_idle(self.config)}"
        return f"{len(self._polls.sources)} sources, {len(self._workers)} sinks"


def _is_same(old: SinkSetup, new: SinkSetup | None) -> bool:
    if new is None:
        return False
    seen = [(source.name, source.settings) for source in old.sources]
    return (old.fingerprint, old.rules) == (new.fingerprint, new.rules) and seen == [
        (source.name, source.settings) for source in new.sources
    ]

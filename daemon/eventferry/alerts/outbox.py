"""Brings messages from the ledger to people: routes, sends, tries again, and gives up aloud."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from eventferry import clock
from eventferry.alerts.channels.base import Channel, ChannelError
from eventferry.alerts.courier import Courier
from eventferry.alerts.digest import compose_digest
from eventferry.alerts.message import Message, from_stored
from eventferry.alerts.policy import SUPPRESSED, ChannelRule, apply_cap, choose_channels
from eventferry.alerts.render import plain_text
from eventferry.ledger import Ledger, alerts, sends
from eventferry.ledger.alerts import StoredMessage
from eventferry.ledger.sends import DueSend
from eventferry.logs import get_logger

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MOST_TRIES = 50
FEWEST_TRIES = 5  # also for a message that is a day old because the daemon was stopped
LONGEST_BACKOFF_S = 900.0
# One pass ends after this time at the latest plus one call; the rest goes in the next.
PASS_S = 30.0

STATUS = "eventferry status"

_LEVELS = logging.getLevelNamesMapping()
_LOGGED = {
    "recovered": "alert.recovered",
    "over": "alert.ended",
    "reminder": "alert.repeated",
    "digest": "digest.written",
}

log = get_logger()


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Who speaks, which channel wants what, and how often an open condition is repeated."""

    instance: str = "eventferry"
    host: str = ""
    rules: Mapping[str, ChannelRule] = field(default_factory=dict)
    repeat_every_ms: int = DAY_MS


@dataclass(slots=True)
class Pumped:
    """What one pass did."""

    routed: int = 0
    sent: int = 0
    failed: int = 0
    suppressed: int = 0


class Outbox:
    """The alerts' own loop: call `pump` every few seconds from one scheduler job; it never touches delivery."""

    def __init__(
        self,
        ledger: Ledger,
        channels: Mapping[str, Channel[Any]],
        settings: OutboxSettings,
        *,
        courier: Courier | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._ledger = ledger
        self._courier = courier or Courier()
        self._jitter = jitter
        self.replace(channels, settings)

    def replace(self, channels: Mapping[str, Channel[Any]], settings: OutboxSettings) -> None:
        """Use these channels from the next pass on (at the start, and by a reload)."""
        rules = {name: settings.rules.get(name, ChannelRule(level=one.default_level)) for name, one in channels.items()}
        self._plan = _Plan(dict(channels), rules, settings)  # in one step: a pass keeps the one it began with

    def pump(self, now_ms: int | None = None) -> Pumped:
        """One pass: write reminders, route what is new, send what is due. Returns within about 45 s at the worst."""
        now = clock.now_ms() if now_ms is None else now_ms
        one = _Pass(self._ledger, self._courier, self._jitter, self._plan, now)
        return one.work() if one.has_work() else Pumped()

    def digest(self, now_ms: int | None = None, all_well: Callable[[], str] | None = None) -> bool:
        """Write the day's digest for the channels that want it; whether there was one. `pump` sends it.

        `all_well` gives a line about what went well; without it a day with nothing to say has no digest.
        """
        now = clock.now_ms() if now_ms is None else now_ms
        line = all_well() if all_well else ""
        with self._ledger.write() as tx:
            since = alerts.last_message_ms(tx, "digest") or now - DAY_MS
            conditions, notices = alerts.changed_conditions(tx, since), alerts.notices_since(tx, since)
            if not (conditions or notices or line):
                return False
            subject, detail = compose_digest(conditions, notices, line)
            alerts.write_notice(
                tx,
                event="digest.written",
                level="info",
                cause="digest",
                kind="digest",
                subject=subject,
                detail=detail,
                command=STATUS,
            )
        return True


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one pass goes by, also while a reload puts another in its place."""

    channels: Mapping[str, Channel[Any]]
    rules: Mapping[str, ChannelRule]
    settings: OutboxSettings

    def complete(self, message: StoredMessage) -> Message:
        return from_stored(message, self.settings.instance, self.settings.host)


class _Pass:
    """One pass over the outbox at one instant."""

    def __init__(
        self, ledger: Ledger, courier: Courier, jitter: Callable[[float, float], float], plan: _Plan, now: int
    ) -> None:
        self._ledger = ledger
        self._courier = courier
        self._jitter = jitter
        self._plan = plan
        self._now = now
        self._blocked: set[str] = set()  # channels that did not work in this pass
        self._done = Pumped()

    def has_work(self) -> bool:
        with self._ledger.read() as tx:
            return (
                sends.is_anything_due(tx, self._now)
                or bool(alerts.reminders_due(tx, self._now, self._plan.settings.repeat_every_ms))
                or any(self._unannounced(tx, name) for name in self._plan.channels)
            )

    def work(self) -> Pumped:
        self._route()
        self._send_all()
        if self._announce():
            self._send_all()
        return self._done

    def _route(self) -> None:
        with self._ledger.write() as tx:
            sends.drop_unknown_channels(tx, list(self._plan.channels))
            alerts.due_reminders(tx, self._now, self._plan.settings.repeat_every_ms)
            routed = sends.route(tx, lambda message, told: choose_channels(message, told, self._plan.rules))
        for message, channels in routed:
            _log_message(message, channels)
        self._done.routed = len(routed)

    def _send_all(self) -> None:
        end = clock.monotonic() + PASS_S
        while due := self._next():
            messages = {name: self._plan.complete(one.message) for name, one in due.items()}
            outcomes = self._courier.carry(messages, self._plan.channels)
            self._record(due, outcomes)
            self._blocked |= {name for name, error in outcomes.items() if error is not None and not error.refused}
            if clock.monotonic() >= end:
                return

    def _next(self) -> dict[str, DueSend]:
        """For each channel that works its oldest due message, after the rate caps kept back the rest."""
        found: dict[str, DueSend] = {}
        kept_back: dict[str, list[int]] = {}
        with self._ledger.read() as tx:
            for name in self._plan.channels.keys() - self._blocked:
                due = {one.message.id: one for one in sends.due_sends(tx, name, self._now)}
                recent = sends.recent_sent_count(tx, name, self._now - HOUR_MS, self._now, SUPPRESSED)
                allowed = apply_cap([one.message for one in due.values()], recent, self._plan.rules[name].max_per_hour)
                if allowed.suppress:
                    kept_back[name] = [one.id for one in allowed.suppress]
                if allowed.send:
                    found[name] = due[allowed.send[0].id]
        if kept_back:
            with self._ledger.write() as tx:
                for name, ids in kept_back.items():
                    sends.record_suppressed(tx, ids, name, self._now)
                    self._done.suppressed += len(ids)
        # A pile larger than one look is kept back look by look.
        return found or (self._next() if kept_back else {})

    def _record(self, due: Mapping[str, DueSend], outcomes: Mapping[str, ChannelError | None]) -> None:
        failed: list[tuple[DueSend, ChannelError, int | None]] = []
        with self._ledger.write() as tx:
            for name, one in due.items():
                error = outcomes[name]
                if error is None:
                    sends.record_sent(tx, one.message.id, name, self._now)
                    self._done.sent += 1
                    continue
                again = self._next_try(one, error)
                sends.record_failed(tx, one.message.id, name, str(error), again, refused=error.refused)
                if again is not None and not error.refused:
                    sends.postpone(tx, name, again)
                failed.append((one, error, again))
        self._done.failed += len(failed)
        for one, error, again in failed:
            self._log_failure(one, error, again)

    def _next_try(self, one: DueSend, error: ChannelError) -> int | None:
        tries = one.attempts + 1
        is_old = self._now - one.message.created_ms >= DAY_MS and tries >= FEWEST_TRIES
        if tries >= MOST_TRIES or is_old:
            return None
        seconds = self._jitter(1.0, min(LONGEST_BACKOFF_S, 2.0**tries))
        return self._now + min(HOUR_MS, int(max(seconds, error.retry_after or 0) * 1000))

    def _log_failure(self, one: DueSend, error: ChannelError, again: int | None) -> None:
        if again is None:
            # The last resort: whoever reads the journal reads the message.
            text = plain_text(self._plan.complete(one.message))
            log.error("alert.failed", channel=one.channel, tries=one.attempts + 1, error=str(error), message=text)
        elif one.attempts == 0:
            log.warning("alert.delayed", channel=one.channel, subject=one.message.subject, error=str(error))
        else:
            log.debug("alert.delayed", channel=one.channel, tries=one.attempts + 1, error=str(error))

    def _announce(self) -> bool:
        """Say once an hour in each channel how many messages its cap kept back."""
        done = False
        with self._ledger.write() as tx:
            for name in self._plan.channels:
                if count := self._unannounced(tx, name):
                    one = "One more message was" if count == 1 else f"{count:,} more messages were"
                    text = f"{one} suppressed; see eventferry status"
                    cause = f"{SUPPRESSED}:{name}"
                    told = alerts.write_notice(
                        tx, event=SUPPRESSED, level="warning", cause=cause, subject=text, command=STATUS
                    )
                    sends.add_send(tx, told, name)
                    done = True
        return done

    def _unannounced(self, tx: sa.Connection, name: str) -> int:
        if not sends.suppressed_count(tx, name, self._now - 3 * HOUR_MS):
            return 0
        last = alerts.last_message_ms(tx, f"{SUPPRESSED}:{name}")
        if last is not None and self._now - last < HOUR_MS:
            return 0
        return sends.suppressed_count(tx, name, last or 0)


def _log_message(message: StoredMessage, channels: Sequence[str]) -> None:
    event = _LOGGED.get(message.kind, "alert.raised")
    level = "info" if message.kind in alerts.ENDS else message.level
    known = {"subject": message.subject, "detail": message.detail, "command": message.command}
    shown = {key: value for key, value in known.items() if value}
    log.log(_LEVELS[level.upper()], event, cause=message.cause, kind=message.kind, **shown, channels=list(channels))

"""Tells people that the service itself failed, even when its configuration is broken (`eventferry alert failure`)."""

import contextlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eventferry import clock
from eventferry.alerts.channels import Channel, ChannelError, known_options, make_channel
from eventferry.alerts.courier import Courier
from eventferry.alerts.message import Message
from eventferry.alerts.salvage import salvage_tables
from eventferry.config.alerts import name_of_type
from eventferry.config.secrets import SecretError, redactor, resolve_text, resolve_tree
from eventferry.errors import ConfigError
from eventferry.logs import get_logger, redact

# What the configuration says about a channel beside the options of its type.
RULE_KEYS = ("name", "type", "enabled", "level", "events", "max_per_hour", "digest")
TAIL_LINES = 20
TRIES = 3
PAUSE_S = 3.0

log = get_logger()


def lenient_channels(config_path: Path) -> list[Channel[Any]]:
    """The channels of a configuration that may be broken anywhere else; those that make no sense are left out."""
    found: list[Channel[Any]] = []
    try:
        text = config_path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        log.error("config.unreadable", path=str(config_path), error=error.strerror)
        return found
    _hide_secrets(text)
    for table in salvage_tables(text):
        name = str(table.get("name") or name_of_type(str(table.get("type"))))
        if table.get("enabled", True) is False:
            continue
        try:
            found.append(_make(name, table))
        except ConfigError as error:
            log.warning("channel.skipped", channel=name, problems=list(error.problems))
    return found


def _hide_secrets(text: str) -> None:
    """Register whatever the configuration refers to, so that the journal's end cannot show it."""
    for reference in re.findall(r"\$\{[^}\n]*\}", text):
        with contextlib.suppress(SecretError):
            for one in resolve_text(reference)[1]:
                redactor.add(one.value)


def _make(name: str, table: Mapping[str, Any]) -> Channel[Any]:
    type = table.get("type")
    if not isinstance(type, str):
        raise ConfigError(f"alerts.channels.{name}.type: missing")
    resolved, _, failed = resolve_tree({key: value for key, value in table.items() if key not in RULE_KEYS})
    if failed:
        raise ConfigError(*failed.values())
    # A mistyped key may be the very reason for the failure.
    known = known_options(type, name)
    return make_channel(type, name, {key: value for key, value in resolved.items() if key in known})


def send_failure(
    unit: str,
    journal_tail: Sequence[str],
    channels: Sequence[Channel[Any]],
    *,
    instance: str = "eventferry",
    host: str = "",
    pause: float = PAUSE_S,
) -> dict[str, ChannelError | None]:
    """Send the end of the journal of `unit` to every channel, whatever its level; per channel None or why not."""
    now = clock.now_ms()
    message = Message(
        id=0,
        cause=f"service.failed:{unit}",
        kind="failure",
        level="error",
        event="service.failed",
        subject=f"{unit} failed and does not run",
        detail="\n".join(shorten(redactor.redact(redact(line))) for line in journal_tail[-TAIL_LINES:]),
        command=f"systemctl status {unit}; journalctl -u {unit} -n 100",
        since_ms=now,
        instance=instance,
        host=host,
        created_ms=now,
    )
    outcomes = deliver(message, channels, pause=pause)
    if all(error is not None for error in outcomes.values()):
        reasons = {name: str(error) for name, error in outcomes.items()}
        log.error(
            "alert.failed", subject=message.subject, channels=reasons or "none could be read from the configuration"
        )
    return outcomes


def deliver(
    message: Message, channels: Sequence[Channel[Any]], *, pause: float = PAUSE_S, tries: int = TRIES
) -> dict[str, ChannelError | None]:
    """Send `message` to every channel now, past the outbox and all rules; per channel None or why not."""
    courier = Courier()
    left = {one.name: one for one in channels}
    outcomes: dict[str, ChannelError | None] = {}
    for attempt in range(tries):
        if attempt:
            threading.Event().wait(pause)
        outcomes |= courier.carry(dict.fromkeys(left, message), left)
        left = {name: one for name, one in left.items() if outcomes[name] is not None}
        if not left:
            break
    return outcomes


def make_test_message(instance: str, host: str) -> Message:
    """What `eventferry alert test` sends."""
    now = clock.now_ms()
    return Message(
        id=0,
        cause="alert.test",
        kind="test",
        level="info",
        event="alert.tested",
        subject="This channel works",
        detail="Nothing is wrong: somebody ran `eventferry alert test`.",
        since_ms=now,
        instance=instance,
        host=host,
        created_ms=now,
    )


def shorten(line: str) -> str:
    """A JSON log line as people read it; anything else as it is."""
    try:
        fields = json.loads(line[line.index("{") :])
        time, level, event = str(fields.pop("timestamp"))[11:19], fields.pop("level"), fields.pop("event")
    except (ValueError, KeyError, TypeError, AttributeError):
        return line[:300]
    traceback = str(fields.pop("exception", "")).strip().rpartition("\n")[2]
    rest = [f"{key}={value}" for key, value in fields.items()] + ([traceback] if traceback else [])
    return " ".join([time, str(level), str(event), *rest])[:300]

"""The words of a message that all channels share: heading, labels, and values as people write them."""

from collections.abc import Iterator
from typing import Any

from eventferry import clock
from eventferry.alerts.message import Message
from eventferry.ledger.alerts import ENDS
from eventferry.logs import escape

LONGEST_HEADING = 200

_SECONDS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def heading(message: Message) -> str:
    """What happened, on one line."""
    before = {"reminder": "Still: ", "recovered": "Recovered: ", "over": "Over: ", "test": "Test: "}.get(
        message.kind, ""
    )
    return cut(one_line(before + message.subject), LONGEST_HEADING)


def signature(message: Message) -> str:
    """Which installation says so."""
    return one_line(f"{message.instance} on {message.host}" if message.host else message.instance)


def facts(message: Message) -> list[tuple[str, str]]:
    """Label and value of everything else worth knowing, most important first."""
    found: list[tuple[str, str]] = []
    lasts = message.kind in ("problem", "reminder", *ENDS)
    if lasts and message.since_ms:
        found.append(("Since", moment(message.since_ms)))
    if message.kind in ENDS and message.created_ms > message.since_ms:
        found.append(("Lasted", duration((message.created_ms - message.since_ms) / 1000)))
    found.extend(_labelled(key, value) for key, value in message.fields.items() if value is not None)
    if message.count > 1 and lasts:
        found.append(("Seen", f"{message.count:,} times"))
    return [(one_line(label), cut(one_line(value), 500)) for label, value in found]


def _labelled(key: str, value: Any) -> tuple[str, str]:
    """`backlog_bytes: 1048576` becomes `Backlog: 1.0 MiB`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    for ending, show in (("_bytes", size), ("_seconds", duration), ("_s", duration), ("_ms", moment)):
        if is_number and key.endswith(ending):
            return label(key.removesuffix(ending)), show(value)
    if is_number:
        return label(key), f"{value:,}"
    return label(key), ("yes" if value else "no") if isinstance(value, bool) else str(value)


def label(key: str) -> str:
    """`backlog_events` becomes `Backlog events`."""
    words = key.replace("_", " ").replace(".", " ").strip()
    return words[:1].upper() + words[1:]


def moment(ms: float) -> str:
    """2026-03-01 14:05 UTC."""
    try:
        return clock.from_ms(int(ms)).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return str(ms)


def duration(seconds: float) -> str:
    """The two largest units: 3 h 12 min."""
    rest = max(0, round(seconds))
    parts: list[str] = []
    for length, unit in _SECONDS:
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def size(number: float) -> str:
    """Bytes with a binary unit: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def one_line(text: str) -> str:
    """The text on one line, control characters shown."""
    return escape(" ".join(text.split("\n"))).strip()


def lines_of(text: str) -> Iterator[str]:
    """The lines of a longer text, each safe by itself."""
    for line in text.split("\n"):
        yield escape(line.replace("\t", "    ").rstrip())


def cut(text: str, limit: int) -> str:
    """At most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"

"""Composes the daily digest: what is wrong now, and what was, in one message. Pure."""

from collections.abc import Sequence

from eventferry.alerts.phrases import cut, moment, one_line
from eventferry.ledger.alerts import Condition, StoredMessage

MOST_LINES = 30


def compose_digest(conditions: Sequence[Condition], notices: Sequence[StoredMessage], all_well: str) -> tuple[str, str]:
    """Subject and detail. `conditions` are open or were lately; `all_well` is a line about what went well."""
    still_open = [one for one in conditions if one.resolved_ms is None]
    over = [one for one in conditions if one.resolved_ms is not None]
    lines = [_open_line(one) for one in sorted(still_open, key=lambda one: (one.level != "error", one.opened_ms))]
    lines += [_notice_line(one) for one in notices]
    lines += [_closed_line(one) for one in over]
    left = len(lines) - MOST_LINES
    lines = lines[:MOST_LINES] + ([f"… and {left} more; see eventferry status"] if left > 0 else [])
    return _subject(len(still_open), len(notices), len(over)), "\n".join([*lines, *_line(all_well)])


def _subject(still_open: int, notices: int, over: int) -> str:
    counts = [(still_open, "open"), (notices, "noted"), (over, "over")]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"Daily digest: {said}" if still_open or notices else f"Daily digest: all well{f', {said}' if said else ''}"


def _open_line(one: Condition) -> str:
    times = f", {one.count:,} times" if one.count > 1 else ""
    return f"• {_sentence(one.subject)} (since {moment(one.opened_ms)}{times})"


def _closed_line(one: Condition) -> str:
    assert one.resolved_ms is not None
    return f"• Over: {_sentence(one.subject)} ({moment(one.opened_ms)} – {moment(one.resolved_ms)})"


def _notice_line(one: StoredMessage) -> str:
    return f"• {_sentence(one.subject)} ({moment(one.created_ms)})"


def _sentence(text: str) -> str:
    return cut(one_line(text), 160)


def _line(all_well: str) -> list[str]:
    return [one_line(all_well)] if all_well else []

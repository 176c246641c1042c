"""What people are told of a sink that lasts until somebody acts: held, and events that it refused for good."""

from collections.abc import Mapping

import sqlalchemy as sa

from eventferry.ledger import alerts, books, dead_letters, sinks


def alert_held(tx: sa.Connection, name: str, reason: str, fields: Mapping[str, object]) -> None:
    """Tell people that a sink needs them."""
    alerts.open_condition(
        tx,
        cause=f"sink.held:{name}",
        level="error",
        event="sink.held",
        subject=f"Sink {name} is held: it needs a person",
        detail=reason,
        command=f"eventferry status --sink {name}; once it is mended: eventferry resume {name}",
        fields=fields,
    )


def alert_dead(tx: sa.Connection, name: str, count: int, detail: str, subject: str = "") -> None:
    """Tell people that events became dead letters, and how many did since the alert began.

    `subject` is given where the sink did not refuse them.
    """
    cause = f"events.dead:{name}"
    was = alerts.find_open(tx, cause)
    before = was.fields if was else {}
    total = count + int(before.get("events", 0))
    refused = int(before.get("refused", 0)) + (0 if subject else count)
    what = "1 event" if refused == 1 else f"{refused:,} events"
    alerts.open_condition(
        tx,
        cause=cause,
        level="error",
        event="events.dead",
        subject=subject or f"Sink {name} refused {what}; dead letters keep what was refused",
        detail=detail,
        command=f"eventferry dead-letters list --sink {name}",
        fields={"sink": name, "events": total, "refused": refused},
    )


def alert_again(tx: sa.Connection, sink_id: int) -> None:
    """Tell once more what lasts, where nothing says so: a sink that was switched off is followed again."""
    sink = sinks.get_sink_by_id(tx, sink_id)
    if sink.state == "held" and alerts.opened_ms(tx, f"sink.held:{sink.name}") is None:
        alert_held(tx, sink.name, sink.reason or "no reason is known", {"sink": sink.name})
    letter = next(iter(dead_letters.find(tx, sink_id=sink_id, limit=1)), None)
    if letter is not None and alerts.opened_ms(tx, f"events.dead:{sink.name}") is None:
        detail, gone = f"{letter.place}: {letter.reason}", letter.kind == "source_gone"
        kept = None if gone else books.dead_parts(tx).get(sink.name)
        count = kept.waiting + kept.retrying if kept else 0
        subject = f"Events for sink {sink.name} are missing: their file is gone" if gone else ""
        alert_dead(tx, sink.name, count or letter.events, detail, subject)

"""Conditions in the ledger: one message per cause, however often it is reported."""

import sqlalchemy as sa
from tests.integration.alerts.conftest import START, Clock

from eventferry.ledger import Ledger, alerts, sends
from eventferry.ledger import tables as t
from eventferry.logs import set_redactor

HELD = {"cause": "sink.held:w", "level": "error", "event": "sink.held", "subject": "Sink w is held"}


def messages(ledger: Ledger) -> list[str]:
    with ledger.read() as tx:
        return list(tx.execute(sa.select(t.messages.c.kind).order_by(t.messages.c.id)).scalars())


def test_a_hundred_thousand_reports_make_one_message(ledger: Ledger, time: Clock) -> None:
    """A storm about one cause is counted, not sent."""
    with ledger.write() as tx:
        written = sum(alerts.open_condition(tx, **HELD, detail=f"report {number}") for number in range(100_000))
    assert written == 1 and messages(ledger) == ["problem"]
    with ledger.read() as tx:
        (condition,) = alerts.open_conditions(tx)
    assert condition.count == 100_000 and condition.detail == "report 99999" and condition.opened_ms == START


def test_open_close_and_open_again(ledger: Ledger, time: Clock) -> None:
    """A recovery is said once, only where something was wrong; the next time is a new incident."""
    with ledger.write() as tx:
        assert not alerts.close_condition(tx, "sink.held:w")
        assert alerts.open_condition(tx, **HELD, detail="401", fields={"backlog_events": 3})
        time.pass_(seconds=60)
        assert not alerts.open_condition(tx, **HELD)
        assert alerts.close_condition(tx, "sink.held:w", "it took the probe")
        assert not alerts.close_condition(tx, "sink.held:w")
        time.pass_(seconds=60)
        assert alerts.open_condition(tx, **HELD)
        (condition,) = alerts.open_conditions(tx)
    assert messages(ledger) == ["problem", "recovered", "problem"]
    assert condition.count == 1 and condition.opened_ms == START + 120_000


def test_an_end_tells_what_is_so_now(ledger: Ledger, time: Clock) -> None:
    """Neither the words of the problem nor its numbers are repeated as if they were still true."""
    fields = {"sink": "w", "backlog_events": 3, "lag_seconds": 9}
    with ledger.write() as tx:
        alerts.open_condition(tx, **HELD, fields=fields)
        alerts.close_condition(tx, HELD["cause"], subject="Sink w takes events again")
        (was,) = alerts.changed_conditions(tx, 0)
        row = tx.execute(sa.select(*alerts.MESSAGE_COLUMNS).order_by(t.messages.c.id.desc()).limit(1)).one()
    end = alerts.read_message(row)
    assert (end.kind, end.subject, end.fields) == ("recovered", "Sink w takes events again", {"sink": "w"})
    assert was.subject == "Sink w is held"  # what a digest says is over


def test_a_raised_level_goes_on_telling_whom_it_is_about(ledger: Ledger, time: Clock) -> None:
    """The second message of a condition names its sink, without the numbers of the first one."""
    with ledger.write() as tx:
        alerts.open_condition(tx, **{**HELD, "level": "warning"}, fields={"sink": "w", "backlog_events": 3})
        assert alerts.open_condition(tx, **HELD, fields={})
        (condition,) = alerts.open_conditions(tx)
    assert condition.fields == {"sink": "w"}


def test_silence_about_details_keeps_the_last_ones(ledger: Ledger, time: Clock) -> None:
    """A report without detail or fields does not wipe those that are known."""
    with ledger.write() as tx:
        alerts.open_condition(tx, **HELD, detail="401", fields={"backlog_events": 3})
        alerts.open_condition(tx, **HELD)
        (condition,) = alerts.open_conditions(tx)
    assert condition.detail == "401" and condition.fields == {"backlog_events": 3}


def test_a_raised_level_is_news_and_a_lower_one_is_not(ledger: Ledger, time: Clock) -> None:
    """warning → error writes again and stays error until it is over."""
    late = {**HELD, "cause": "sink.late:w"}
    with ledger.write() as tx:
        assert alerts.open_condition(tx, **{**late, "level": "warning"})
        assert alerts.open_condition(tx, **late)
        assert not alerts.open_condition(tx, **{**late, "level": "warning"})
        (condition,) = alerts.open_conditions(tx)
    assert condition.level == "error" and condition.count == 3 and messages(ledger) == ["problem", "problem"]


def test_what_is_rolled_back_was_never_said(ledger: Ledger, time: Clock) -> None:
    """The message belongs to the transaction of the change: no change, no message."""
    try:
        with ledger.write() as tx:
            alerts.open_condition(tx, **HELD)
            raise KeyError
    except KeyError:
        pass
    assert messages(ledger) == []


def test_reminders_come_each_interval(ledger: Ledger, time: Clock) -> None:
    """An open condition is repeated every interval, its own or the common one, or never where that is 0."""
    day = 86_400_000
    with ledger.write() as tx:
        alerts.open_condition(tx, **HELD)
        alerts.open_condition(tx, **{**HELD, "cause": "often"}, repeat_every_ms=3_600_000)
        alerts.open_condition(tx, **{**HELD, "cause": "never"}, repeat_every_ms=0)
        assert alerts.due_reminders(tx, START + 3_599_999, day) == 0
        assert alerts.due_reminders(tx, START + 3_600_000, day) == 1
        assert alerts.due_reminders(tx, START + 3_600_001, day) == 0
        assert alerts.due_reminders(tx, START + day, day) == 2
    with ledger.read() as tx:
        last = tx.execute(sa.select(t.messages.c.payload).order_by(t.messages.c.id.desc()).limit(1)).scalar_one()
    assert "repeat_every_ms" not in last


def test_secrets_do_not_reach_the_ledger(ledger: Ledger, time: Clock) -> None:
    """What is stored is redacted: the ledger is copied and backed up."""
    set_redactor(lambda text: text.replace("hunter2", "***"))
    with ledger.write() as tx:
        alerts.open_condition(
            tx, **{**HELD, "subject": "hunter2"}, detail="hunter2", command="hunter2", fields={"a": {"b": "hunter2"}}
        )
        alerts.write_notice(tx, event="x.y", level="info", subject="hunter2", detail="hunter2")
        alerts.close_condition(tx, HELD["cause"], "hunter2")
        sends.add_send(tx, 1, "slack")
        sends.record_failed(tx, 1, "slack", "hunter2", 0)
    ledger.close()
    assert b"hunter2" not in b"".join(path.read_bytes() for path in ledger.path.parent.glob("ledger.db*"))


def test_old_messages_are_forgotten_and_waiting_ones_kept(ledger: Ledger, time: Clock) -> None:
    """Pruning leaves what still waits for a channel or for its routing."""
    with ledger.write() as tx:
        for _ in range(3):
            alerts.write_notice(tx, event="x.y", level="info", subject="s")
        sends.add_send(tx, 1, "slack")
        sends.add_send(tx, 2, "slack")
        sends.record_sent(tx, 2, "slack", START)
        assert sends.prune_messages(tx, START + 1) == 1
        left = list(tx.execute(sa.select(t.messages.c.id)).scalars())
    assert left == [1, 3]

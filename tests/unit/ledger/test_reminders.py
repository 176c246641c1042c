"""Reminders: found by an index, a page at a time."""

from tests.builders import Ferry

from eventferry import clock
from eventferry.ledger import alerts


def test_reminders_are_written_a_page_at_a_time_and_each_by_its_own_interval(tmp_path):
    """A flood of open conditions never makes one long transaction; 0 means that nothing is said again."""
    with Ferry(tmp_path) as ferry:
        now, hour = clock.now_ms(), 3_600_000
        with ferry.ledger.write() as tx:
            for number in range(alerts.REMINDERS + 5):
                alerts.open_condition(tx, cause=f"often:{number}", level="error", event="x.y", subject="s")
            alerts.open_condition(tx, cause="never", level="error", event="x.y", subject="s", repeat_every_ms=0)
            alerts.open_condition(tx, cause="seldom", level="error", event="x.y", subject="s", repeat_every_ms=9 * hour)
            alerts.open_condition(tx, cause="seldom", level="error", event="x.y", subject="s")  # keeps its interval
        with ferry.ledger.write() as tx:
            later = now + 2 * hour
            assert [alerts.due_reminders(tx, later, hour) for _ in range(3)] == [alerts.REMINDERS, 5, 0]
            assert [each.cause for each in alerts.reminders_due(tx, later, 0)] == []
            assert [each.cause for each in alerts.reminders_due(tx, now + 10 * hour, 20 * hour)] == ["seldom"]

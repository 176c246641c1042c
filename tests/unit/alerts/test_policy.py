"""Policy: who is told what."""

from eventferry.alerts.policy import SUPPRESSED, ChannelRule, apply_cap, choose_channels
from eventferry.ledger.alerts import StoredMessage

RULES = {
    "slack": ChannelRule(),
    "mail": ChannelRule(level="warning"),
    "files": ChannelRule(level="debug", events=("file.*",)),
}


def message(number: int = 1, kind: str = "problem", level: str = "error", event: str = "sink.held") -> StoredMessage:
    return StoredMessage(number, f"{event}:x", kind, level, event, "s", "", "", {}, 0, 1, 0)


def chosen(one: StoredMessage, *told: str) -> list[str]:
    return list(choose_channels(one, frozenset(told), RULES))


def test_a_channel_gets_its_levels_and_events() -> None:
    """Slack hears errors only; patterns choose by event name."""
    assert chosen(message()) == ["slack", "mail"]
    assert chosen(message(level="warning")) == ["mail"]
    assert chosen(message(level="info", event="file.quarantined")) == ["files"]


def test_the_end_goes_where_the_problem_went() -> None:
    """A recovery and a reminder reach those who were told, also when the rules have changed since."""
    assert chosen(message(kind="recovered"), "files") == ["files"]
    assert chosen(message(kind="recovered")) == []
    assert chosen(message(kind="reminder"), "files") == ["slack", "mail", "files"]


def test_the_digest_goes_where_warnings_do_not() -> None:
    """Who gets warnings one by one needs no digest, unless it is asked for."""
    assert chosen(message(kind="digest", level="info")) == ["slack"]
    rules = {"mail": ChannelRule(level="warning", digest=True), "slack": ChannelRule(digest=False)}
    assert list(choose_channels(message(kind="digest"), frozenset(), rules)) == ["mail"]


def test_the_cap_keeps_the_worst() -> None:
    """What fits into the hour is the worst and oldest; it is sent in the order in which it happened."""
    due = [message(1, level="warning"), message(2, level="warning"), message(3), message(4)]
    allowed = apply_cap(due, sent_last_hour=1, max_per_hour=4)
    assert [one.id for one in allowed.send] == [1, 3, 4] and [one.id for one in allowed.suppress] == [2]


def test_what_people_asked_for_is_never_kept_back() -> None:
    """Test messages, digests and the line about the cap pass a full hour; a cap of 0 is none."""
    due = [message(1, kind="test"), message(2, kind="digest"), message(3, kind="notice", event=SUPPRESSED), message(4)]
    assert [one.id for one in apply_cap(due, 99, 10).suppress] == [4]
    assert not apply_cap(due, 99, 0).suppress

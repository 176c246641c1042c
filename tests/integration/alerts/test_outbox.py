"""The outbox against real receivers: once per cause, in order, later where it must be, and never silent."""

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.integration.alerts.conftest import Clock, Journal
from tests.receivers import PASSWORD, USER, HttpReceiver, MailServer, Reply, http_receiver, mail_server

from eventferry.alerts.channels import Channel, ChannelError, ChannelOptions, make_channel
from eventferry.alerts.courier import Courier
from eventferry.alerts.message import Message
from eventferry.alerts.outbox import Outbox, OutboxSettings
from eventferry.alerts.policy import ChannelRule
from eventferry.ledger import Ledger, alerts
from eventferry.logs import set_redactor

HELD = {
    "cause": "sink.held:warehouse",
    "level": "error",
    "event": "sink.held",
    "subject": "Sink warehouse is held",
    "detail": "bi.example.org refuses the credentials (401).",
    "command": "eventferry resume warehouse",
    "fields": {"backlog_events": 1200},
}
QUARANTINED = {
    "cause": "file.quarantined:events",
    "level": "error",
    "event": "file.quarantined",
    "subject": "1 file of events is in quarantine",
    "detail": "2026/03/01/11/x.json.gz: the gzip stream ends early",
    "command": "eventferry files --quarantined",
}


@pytest.fixture
def slack() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailServer]:
    with mail_server(tmp_path) as server:
        yield server


def slack_channel(receiver: HttpReceiver) -> Channel[Any]:
    return make_channel("slack", "slack", {"url": receiver.url})


def mail_channel(server: MailServer, **more: Any) -> Channel[Any]:
    options = {"host": "localhost", "port": server.port, "from": "ferry@example.org", "to": "ops@example.org"}
    login = {"username": USER, "password": PASSWORD, "ca_file": server.ca_file}
    return make_channel("email", "mail", {**options, **login, **more})


def outbox(ledger: Ledger, *channels: Channel[Any], **rule: Any) -> Outbox:
    rules = {one.name: ChannelRule(**rule) for one in channels}
    settings = OutboxSettings(instance="prod", host="db-1", rules=rules)
    return Outbox(ledger, {one.name: one for one in channels}, settings, jitter=lambda _low, high: high)


def open_(ledger: Ledger, condition: dict[str, Any], **more: Any) -> None:
    with ledger.write() as tx:
        alerts.open_condition(tx, **{**condition, **more})


def close(ledger: Ledger, condition: dict[str, Any], subject: str = "") -> None:
    with ledger.write() as tx:
        alerts.close_condition(tx, condition["cause"], subject=subject)


def headings(receiver: HttpReceiver) -> list[str]:
    return [request.json()["text"] for request in receiver.requests]


def test_a_held_sink_and_a_quarantined_file_arrive_once_and_so_does_their_end(
    ledger: Ledger, time: Clock, slack: HttpReceiver, mail: MailServer
) -> None:
    """Slack and a real SMTP server (STARTTLS, login) get each problem once, and its recovery, in one thread."""
    box = outbox(ledger, slack_channel(slack), mail_channel(mail))
    for _ in range(3):
        open_(ledger, HELD)
        open_(ledger, QUARANTINED)
        box.pump()
        time.pass_(seconds=600)
    close(ledger, HELD)
    close(ledger, QUARANTINED)
    close(ledger, HELD)
    box.pump()
    time.pass_(hours=48)
    box.pump()

    assert headings(slack) == [
        "🔴 Sink warehouse is held — prod on db-1",
        "🔴 1 file of events is in quarantine — prod on db-1",
        "🟢 Recovered: Sink warehouse is held no more — prod on db-1",
        "🟢 Recovered: 1 file of events is in quarantine — prod on db-1",
    ]
    assert "eventferry resume warehouse" in json.dumps(slack.requests[0].json())
    assert [letter["Subject"] for letter in mail.letters] == [
        "[prod] Sink warehouse is held",
        "[prod] 1 file of events is in quarantine",
        "[prod] Recovered: Sink warehouse is held no more",
        "[prod] Recovered: 1 file of events is in quarantine",
    ]
    assert mail.letters[2]["In-Reply-To"] == mail.letters[0]["Message-ID"]
    assert mail.was_encrypted == [True] * 4 and mail.logins == 4
    body = mail.letters[0].get_content()
    assert "Backlog events: 1,200" in body and "eventferry resume warehouse" in body and "db-1" in body


def test_reminders_come_daily_until_the_end(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """What stays wrong is repeated each day, no oftener."""
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD)
    for _ in range(24 * 4):
        box.pump()
        time.pass_(hours=0.5)
    close(ledger, HELD)
    box.pump()
    assert [text.split(" — ")[0] for text in headings(slack)] == [
        "🔴 Sink warehouse is held",
        "🔴 Still: Sink warehouse is held",
        "🟢 Recovered: Sink warehouse is held no more",
    ]


def test_beyond_the_cap_one_line_says_how_many(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """An hour holds so many messages, then one line; what comes later in the hour is told in the next."""
    box = outbox(ledger, slack_channel(slack), max_per_hour=3)
    for number in range(1003):
        open_(ledger, HELD, cause=f"cause {number}", subject=f"Problem {number}")
    done = box.pump()
    assert (done.sent, done.suppressed) == (4, 1000)
    assert [text.split(" — ")[0] for text in headings(slack)] == [
        "🔴 Problem 0",
        "🔴 Problem 1",
        "🔴 Problem 2",
        "🟠 1,000 more messages were suppressed; see eventferry status",
    ]
    time.pass_(seconds=60)
    open_(ledger, HELD, cause="later", subject="Later")
    box.pump()
    assert len(slack.requests) == 4
    time.pass_(hours=1.5)
    box.pump()
    assert headings(slack)[4:] == ["🟠 One more message was suppressed; see eventferry status — prod on db-1"]
    close(ledger, {"cause": "later"})
    close(ledger, {"cause": "cause 0"}, "Problem 0 is over")
    box.pump()
    assert [text.split(" — ")[0] for text in headings(slack)[5:]] == ["🟢 Recovered: Problem 0 is over"]


def test_no_recovery_overtakes_its_problem(ledger: Ledger, time: Clock, slack: HttpReceiver, journal: Journal) -> None:
    """What was tried in vain may have arrived all the same: both are told when the channel is back, in their order."""
    box = outbox(ledger, slack_channel(slack))
    slack.reply = Reply(503)
    open_(ledger, HELD)
    assert box.pump().failed == 1
    slack.reply = Reply(200)
    close(ledger, HELD)
    for _ in range(10):
        box.pump()
        time.pass_(seconds=60)
    assert [text.split(" — ")[0] for text in headings(slack)[1:]] == [
        "🔴 Sink warehouse is held",
        "🟢 Recovered: Sink warehouse is held no more",
    ]


def test_what_is_over_before_anybody_was_told_is_not_told(ledger: Ledger, slack: HttpReceiver) -> None:
    """A problem that begins and ends between two looks: the channel needs neither."""
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD)
    close(ledger, HELD)
    open_(ledger, QUARANTINED)
    assert box.pump().sent == 1
    assert "quarantine" in headings(slack)[0]
    assert not box.pump().sent


def test_what_is_refused_holds_nothing_up(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """A message that is refused keeps nothing back, and comes no more once there is later news."""
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD, level="warning")
    rule = {"slack": ChannelRule(level="warning")}
    box.replace({"slack": slack_channel(slack)}, OutboxSettings(rules=rule))
    assert box.pump().sent == 1
    slack.script.extend([Reply(400, body=b"invalid_blocks"), Reply(400, body=b"no_text")])
    close(ledger, HELD)
    assert box.pump().failed == 1
    open_(ledger, HELD)
    open_(ledger, QUARANTINED)
    assert box.pump().sent == 2
    told = len(slack.requests)
    for _ in range(5):
        time.pass_(seconds=60)
        box.pump()
    assert len(slack.requests) == told
    assert not any("🟢" in text for text in headings(slack)[-2:])


def test_a_raise_that_was_tried_is_told_before_the_end(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """Whether the error arrived nobody knows: it is told again, and then its end."""
    rule = {"slack": ChannelRule(level="warning")}
    box = Outbox(ledger, {"slack": slack_channel(slack)}, OutboxSettings(rules=rule), jitter=lambda _low, high: high)
    open_(ledger, HELD, level="warning")
    assert box.pump().sent == 1
    slack.reply = Reply(503)
    open_(ledger, HELD)
    assert box.pump().failed == 1
    slack.reply = Reply(200)
    close(ledger, HELD)
    for _ in range(5):
        time.pass_(seconds=60)
        box.pump()
    assert "🟢 Recovered: Sink warehouse is held no more" in headings(slack)[-1]
    assert "🟢" not in headings(slack)[-2] and len(headings(slack)) == 4


def test_retry_after_is_honoured(ledger: Ledger, time: Clock, slack: HttpReceiver, journal: Journal) -> None:
    """429 with Retry-After: nothing is sent before that time, everything in order after it."""
    slack.script.append(Reply(429, {"Retry-After": "30"}, b"slow down"))
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD)
    open_(ledger, QUARANTINED)
    assert box.pump().failed == 1 and len(slack.requests) == 1
    time.pass_(seconds=29)
    box.pump()
    assert len(slack.requests) == 1
    time.pass_(seconds=1)
    assert box.pump().sent == 2
    assert [text.split(" — ")[0] for text in headings(slack)[1:]] == [
        "🔴 Sink warehouse is held",
        "🔴 1 file of events is in quarantine",
    ]
    assert journal.records("alert.delayed")[0]["level"] == "warning"
    assert "secretsecret" not in journal.text


def test_backoff_grows_and_ends_aloud(ledger: Ledger, time: Clock, slack: HttpReceiver, journal: Journal) -> None:
    """A channel that stays broken is tried ever more slowly for a day; then the journal has the message."""
    slack.reply = Reply(503)
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD)
    open_(ledger, QUARANTINED)
    tries = []
    for _ in range(26 * 120):
        if box.pump().failed:
            tries.append(time.ms)
        time.pass_(seconds=30)
    gaps = [later - earlier for earlier, later in pairwise(tries[:40])]
    assert max(gaps) == 900_000 and gaps == sorted(gaps) and len(slack.requests) < 120
    failed = journal.records("alert.failed")
    assert len(failed) == 2 and failed[0]["level"] == "error" and failed[0]["channel"] == "slack"
    assert "eventferry resume warehouse" in failed[0]["message"]
    before = len(slack.requests)
    box.pump()
    assert len(slack.requests) == before


def test_a_refused_message_stops_no_other(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """What a receiver refuses as such is tried as plain text, then later; the next message goes at once."""
    slack.script.extend([Reply(400, body=b"invalid_blocks"), Reply(400, body=b"no_text")])
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD)
    open_(ledger, QUARANTINED)
    assert (done := box.pump()).sent == 1 and done.failed == 1
    assert "blocks" not in slack.requests[1].json() and "quarantine" in headings(slack)[2]


def test_receivers_that_know_no_blocks_get_plain_text(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """Slack-like receivers that answer 400 to blocks still get the message, once."""
    slack.script.append(Reply(400, body=b"invalid_blocks"))
    open_(ledger, HELD)
    assert outbox(ledger, slack_channel(slack)).pump().sent == 1
    assert slack.requests[1].json().keys() == {"text"}


def test_redirects_are_not_followed(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """A webhook that redirects is an error: our text goes nowhere else."""
    with http_receiver() as elsewhere:
        slack.reply = Reply(302, {"Location": elsewhere.url})
        open_(ledger, HELD)
        assert outbox(ledger, slack_channel(slack)).pump().failed == 1
        assert elsewhere.requests == []


def test_with_all_channels_down_the_journal_has_it(
    ledger: Ledger, time: Clock, mail: MailServer, journal: Journal
) -> None:
    """Refused connections cost nothing but a line; the message is in the journal at its level at once."""
    with http_receiver() as gone:
        url = gone.url
    mail.close()
    open_(ledger, HELD)
    assert outbox(ledger, make_channel("slack", "slack", {"url": url}), mail_channel(mail)).pump().failed == 2
    (raised,) = journal.records("alert.raised")
    assert raised["level"] == "error" and raised["subject"] == HELD["subject"] and raised["command"] == HELD["command"]


class Hanging(Channel[ChannelOptions]):
    """A channel whose first call never returns while the test lasts."""

    def __init__(self, name: str) -> None:
        super().__init__(ChannelOptions(), name)
        self.release = threading.Event()
        self.ended = threading.Event()
        self.calls = 0

    def send(self, message: Message) -> None:
        self.calls += 1
        if self.calls == 1:
            self.release.wait(60)
            self.ended.set()


def test_a_channel_that_hangs_costs_only_itself(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """The other channel gets everything; the hanging one has one abandoned call, and works again after it."""
    hanging = Hanging("pager")
    box = Outbox(
        ledger,
        {"pager": hanging, "slack": slack_channel(slack)},
        OutboxSettings(),
        courier=Courier(patience=0.2),
        jitter=lambda _low, high: high,
    )
    open_(ledger, HELD)
    open_(ledger, QUARANTINED)
    box.pump()
    assert len(slack.requests) >= 1
    time.pass_(seconds=5)
    box.pump()
    assert len(slack.requests) == 2 and hanging.calls == 1
    hanging.release.set()
    for _ in range(500):  # the abandoned call needs a moment to end
        time.pass_(seconds=60)
        box.pump()
        if hanging.calls == 3:
            break
        hanging.ended.wait(1)
    assert hanging.calls == 3


def test_a_channel_with_a_bug_is_only_a_failed_channel(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """Whatever a third party's channel raises, the others are served."""

    class Buggy(Channel[ChannelOptions]):
        def send(self, message: Message) -> None:
            raise KeyError("oops")

    open_(ledger, HELD)
    done = outbox(ledger, Buggy(ChannelOptions(), "buggy"), slack_channel(slack)).pump()
    assert (done.sent, done.failed) == (1, 1)


def test_secrets_and_injections_do_not_leave(
    ledger: Ledger, time: Clock, slack: HttpReceiver, mail: MailServer, journal: Journal
) -> None:
    """A hostile detail arrives redacted, as text, on every way; the journal keeps one line a record."""
    set_redactor(lambda text: text.replace("hunter2", "***"))
    evil = "<!channel>\r\nBcc: thief@example.org\r\n\x1b[2J password=hunter2"
    open_(ledger, HELD, subject=evil, detail=evil, fields={"hint": evil}, command=evil)
    outbox(ledger, slack_channel(slack), mail_channel(mail)).pump()
    sent = slack.requests[0].body.decode() + bytes(mail.letters[0]).decode() + mail.letters[0].get_content()
    assert "hunter2" not in sent + journal.text and "***" in sent
    assert mail.letters[0]["Bcc"] is None and mail.recipients == [["ops@example.org"]]
    assert "<!channel>" not in slack.requests[0].body.decode() and "\x1b" not in sent
    assert all(json.loads(line) for line in journal.text.splitlines())


def test_temporary_refusals_of_a_mail_server_are_tried_again(ledger: Ledger, time: Clock, mail: MailServer) -> None:
    """Greylisting (451) delays a letter, a refusal of the letter itself (554) too; neither loses it."""
    mail.replies.extend(["451 come back later", "554 no"])
    box = outbox(ledger, mail_channel(mail))
    open_(ledger, HELD)
    for _ in range(3):
        box.pump()
        time.pass_(seconds=60)
    assert [letter["Subject"] for letter in mail.letters] == ["[prod] Sink warehouse is held"]


def test_warnings_come_in_the_digest(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """Slack hears of warnings once a day, together; a day without any has at most the line that all is well."""
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD, cause="lines.bad:events", level="warning", subject="12 bad lines in events")
    open_(ledger, HELD, cause="sink.late:w", level="warning", subject="Sink w is late")
    close(ledger, {"cause": "sink.late:w"})
    box.pump()
    assert slack.requests == []
    assert box.digest(all_well=lambda: "5 events delivered")
    box.pump()
    (text,) = [json.dumps(request.json(), ensure_ascii=False) for request in slack.requests]
    for expected in ("Daily digest: 1 open, 1 over", "12 bad lines", "Over: Sink w is late", "5 events"):
        assert expected in text
    close(ledger, {"cause": "lines.bad:events"})
    time.pass_(hours=24)
    assert box.digest()
    time.pass_(hours=24)
    assert not box.digest()
    assert box.digest(all_well=lambda: "7 events delivered")
    box.pump()
    assert "Daily digest: all well" in headings(slack)[-1]


def test_removed_channels_are_forgotten(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """A reload that drops a channel drops what waited for it; it does not come back."""
    slack.reply = Reply(500)
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD)
    box.pump()
    box.replace({}, OutboxSettings())
    time.pass_(hours=1)
    open_(ledger, QUARANTINED)
    box.pump()
    slack.reply = Reply()
    box.replace({"slack": slack_channel(slack)}, OutboxSettings())
    time.pass_(hours=1)
    box.pump()
    assert len(slack.requests) == 1


def test_a_clock_set_back_delays_nothing_for_long(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """A retry time written by a clock that was a month ahead counts as due."""
    slack.script.append(Reply(500))
    box = outbox(ledger, slack_channel(slack))
    open_(ledger, HELD)
    box.pump()
    time.pass_(hours=-24 * 30)
    assert box.pump().sent == 1


def test_nothing_to_do_writes_nothing(ledger: Ledger, time: Clock, slack: HttpReceiver) -> None:
    """A quiet pass takes no write transaction, so that it can run every second beside delivery."""
    box = outbox(ledger, slack_channel(slack))
    with ledger.write() as tx:
        tx.exec_driver_sql("PRAGMA user_version")
        result: list[int] = []
        thread = threading.Thread(target=lambda: result.append(box.pump().sent))
        thread.start()
        thread.join(5)
    assert result == [0]


def test_errors_say_what_is_wrong_without_the_secret(mail: MailServer, slack: HttpReceiver) -> None:
    """Wrong passwords, untrusted certificates and dead webhooks are named, secrets are not."""
    message = Message(1, "c", "test", "info", "alert.tested", "Works")
    with pytest.raises(ChannelError, match="refuses the login") as wrong:
        mail_channel(mail, password="not the password").send(message)
    assert "not the password" not in str(wrong.value)
    with pytest.raises(ChannelError, match=r"certificate cannot be verified.*ca_file"):
        mail_channel(mail, ca_file=None).send(message)
    slack.reply = Reply(404, body=b"no_service")
    with pytest.raises(ChannelError, match=r"127\.0\.0\.1 answered 404: no_service") as dead:
        slack_channel(slack).send(message)
    assert "secretsecret" not in str(dead.value) and "T000" not in str(dead.value)

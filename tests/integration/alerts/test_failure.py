"""The last resort: the service failed, its configuration may be broken, and people still hear of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.alerts.conftest import Journal
from tests.receivers import PASSWORD, USER, HttpReceiver, MailServer, Reply, http_receiver, mail_server

from eventferry.alerts.failure import deliver, lenient_channels, make_test_message, send_failure, shorten

UNIT = "eventferry.service"


@pytest.fixture
def slack() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailServer]:
    with mail_server(tmp_path) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, slack: HttpReceiver, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with secrets of all three kinds."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "smtp").write_text(PASSWORD + "\n")
    (tmp_path / "hook").write_text(slack.url + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("BI_TOKEN", "tok-12345")
    path = tmp_path / "config.toml"
    path.write_text(f"""
[[sources]]
name = "events"
url = "/srv/events"

[[alerts.channels]]
type = "slack"
level = "error"
url = "${{file:{tmp_path}/hook}}"

[[alerts.channels]]
name = "night"
type = "email"
host = "localhost"
port = {mail.port}
username = "{USER}"
password = "${{credential:smtp}}"
ca_file = "{mail.ca_file}"
from = "ferry@example.org"
to = ["ops@example.org"]
level = "error"

[[sinks]]
name = "bi"
token = "${{env:BI_TOKEN}}"
""")
    return path


@pytest.mark.parametrize(
    "mistake",
    [
        ("", ""),
        ('url = "/srv/events"', "url = /srv/events"),
        ("[[sinks]]", "[[sinks"),
        ('host = "localhost"', 'host = "localhost"\nhosst = "typo"'),
        ('token = "${env:BI_TOKEN}"', 'token = "${env:BI_TOKEN}'),
        ('name = "night"', "name = night"),
    ],
    ids=["sound", "unquoted", "header", "unknown key", "unclosed", "inside a channel"],
)
def test_people_hear_of_it_whatever_is_broken(
    config: Path, slack: HttpReceiver, mail: MailServer, mistake: tuple[str, str]
) -> None:
    """Slack and e-mail get the unit's name and the end of its journal, secrets blotted out."""
    config.write_text(config.read_text().replace(*mistake) if mistake[0] else config.read_text())
    tail = ["plain line", '{"timestamp": "2026-03-01T12:00:00.000Z", "level": "error", "event": "config.refused"}']
    outcomes = send_failure(UNIT, [*tail, "Authorization: tok-12345"], lenient_channels(config), host="db-1")
    assert len(outcomes) == 2 and set(outcomes.values()) == {None}
    posted = json.dumps(slack.requests[0].json())
    letter = mail.letters[0].get_content()
    for text in (posted, letter):
        assert UNIT in text and "12:00:00 error config.refused" in text and "tok-12345" not in text
        assert f"journalctl -u {UNIT}" in text


def test_a_channel_that_makes_no_sense_is_left_out(config: Path, slack: HttpReceiver, journal: Journal) -> None:
    """A missing secret costs that channel, not the others; the journal says which."""
    config.write_text(config.read_text().replace("credential:smtp", "credential:gone"))
    assert [one.name for one in lenient_channels(config)] == ["slack"]
    assert journal.records("channel.skipped")[0]["channel"] == "night"


def test_without_any_channel_the_journal_has_it(tmp_path: Path, journal: Journal) -> None:
    """No configuration at all: one error line, no exception."""
    assert send_failure(UNIT, [], lenient_channels(tmp_path / "none.toml")) == {}
    assert journal.records("config.unreadable") and journal.records("alert.failed")


def test_a_first_refusal_is_not_the_last_word(config: Path, slack: HttpReceiver) -> None:
    """The last resort tries again; who took it the first time is not told twice."""
    slack.script.append(Reply(503))
    outcomes = send_failure(UNIT, ["x"], lenient_channels(config), pause=0)
    assert set(outcomes.values()) == {None} and len(slack.requests) == 2


def test_a_test_message_says_that_nothing_is_wrong(config: Path, slack: HttpReceiver, mail: MailServer) -> None:
    """`alert test` reaches every channel and names the reason of one that fails."""
    slack.reply = Reply(403, body=b"invalid_token")
    outcomes = deliver(make_test_message("prod", "db-1"), lenient_channels(config), tries=1)
    assert outcomes["night"] is None and "403: invalid_token" in str(outcomes["slack"])
    assert "Nothing is wrong" in mail.letters[0].get_content()


def test_log_lines_are_shortened_for_people() -> None:
    """JSON lines of the daemon read like sentences; others stay; nothing is endless."""
    line = '<3>{"timestamp": "2026-03-01T12:00:01.5Z", "level": "error", "event": "a.b", "n": 1, "exception": "T\\nE"}'
    assert shorten(line) == "12:00:01 error a.b n=1 E"
    assert shorten("Main process exited, code=killed") == "Main process exited, code=killed"
    assert shorten("{not json") == "{not json" and len(shorten("x" * 10_000)) == 300

"""Each channel type against a real receiver, and what a wrong configuration of it says."""

import hashlib
import hmac
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.integration.alerts.conftest import START
from tests.receivers import PASSWORD, USER, HttpReceiver, Reply, http_receiver, mail_server

from eventferry.alerts.channels import ChannelError, channel_types, make_channel
from eventferry.alerts.message import Message
from eventferry.alerts.ping import ping
from eventferry.errors import ConfigError

MESSAGE = Message(
    id=4,
    cause="sink.held:w",
    kind="problem",
    level="error",
    event="sink.held",
    subject="Sink w is held",
    command="eventferry resume w",
    since_ms=START,
    instance="prod",
    host="db-1",
    created_ms=START,
)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as one:
        yield one


def problems(type: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        make_channel(type, "team", options)
    return "\n".join(error.value.problems)


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_mail_leaves_by_every_kind_of_connection(tmp_path: Path, security: str) -> None:
    """STARTTLS and implicit TLS are verified and log in; plain works for a relay on the same machine."""
    with mail_server(tmp_path, security) as server:
        options: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "security": security}
        if security != "none":
            options |= {"username": USER, "password": PASSWORD, "ca_file": str(server.ca_file)}
        people = {"from": "Ferry <ferry@example.org>", "to": ["a@example.org", "b@example.org"]}
        make_channel("email", "mail", options | people).send(MESSAGE)
        assert server.recipients == [["a@example.org", "b@example.org"]]
        assert server.was_encrypted == [security != "none"]
        assert server.letters[0]["Subject"] == "[prod] Sink w is held"


def test_a_webhook_is_signed_and_keyed(receiver: HttpReceiver) -> None:
    """The receiver can check who sent it, and recognise a repeat."""
    channel = make_channel("webhook", "hook", {"url": receiver.url, "secret": "s3cret", "headers": {"X-Team": "data"}})
    channel.send(MESSAGE)
    channel.send(MESSAGE)
    first, second = receiver.requests
    signed = first.headers["X-Eventferry-Timestamp"].encode() + b"." + first.body
    expected = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert first.headers["X-Eventferry-Signature"] == f"sha256={expected}"
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.headers["X-Team"] == "data" and first.json()["subject"] == "Sink w is held"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_further_services_go_through_apprise(receiver: HttpReceiver) -> None:
    """One of Apprise's hundred services gets title and text; its failure is the channel's."""
    channel = make_channel("apprise", "more", {"urls": [receiver.url.replace("http:", "json:")]})
    channel.send(MESSAGE)
    sent = receiver.requests[0].json()
    assert sent["title"] == "[prod] Sink w is held" and "eventferry resume w" in sent["message"]
    receiver.reply = Reply(500)
    with pytest.raises(ChannelError):
        channel.send(MESSAGE)
    assert "alerts.channels.team.urls.0: Apprise cannot read" in problems("apprise", urls=["nosuchthing://x"])


def test_a_function_is_a_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """`type = "acme_bi:log"` calls it with text and level; what it raises is a failed send."""
    told: list[tuple[str, str]] = []
    module: Any = ModuleType("acme_bi")
    module.log = lambda message, level: told.append((message, level))
    module.broken = lambda message, level: 1 / 0
    module.lonely = lambda message: None
    module.word = "text"
    monkeypatch.setitem(sys.modules, "acme_bi", module)
    make_channel("acme_bi:log", "hook", {}).send(MESSAGE)
    assert told[0][1] == "error" and told[0][0].startswith("Sink w is held.")
    with pytest.raises(ChannelError, match="ZeroDivisionError"):
        make_channel("acme_bi:broken", "hook", {}).send(MESSAGE)
    assert "cannot be called with two arguments" in problems("acme_bi:lonely")
    assert "is a str" in problems("acme_bi:word")
    assert "no module 'acme_none'" in problems("acme_none:log")
    assert "unknown key" in problems("acme_bi:log", url="x")


def test_another_package_can_bring_a_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point in eventferry.channels is a channel type like ours."""
    (tmp_path / "acme_pager.py").write_text(
        "from eventferry.alerts import Channel, ChannelOptions\n"
        "class PagerOptions(ChannelOptions):\n    number: int\n"
        "class Pager(Channel[PagerOptions]):\n"
        "    Options = PagerOptions\n    sent = []\n"
        "    def send(self, message):\n        self.sent.append((self.options.number, message.subject))\n"
    )
    info = tmp_path / "acme_pager-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-pager\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[eventferry.channels]\npager = acme_pager:Pager\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "pager" in channel_types()
    channel: Any = make_channel("pager", "night", {"number": 7})
    channel.send(MESSAGE)
    assert channel.sent == [(7, "Sink w is held")]
    assert problems("pager", number="x").startswith("alerts.channels.team.number: ")


def test_wrong_options_are_named_with_their_remedy() -> None:
    """Each mistake names key and remedy, and no secret is repeated."""
    assert "'slakc' is unknown; did you mean 'slack'?" in problems("slakc")
    assert "alerts.channels.team.url: missing" in problems("slack")
    wrong = problems("slack", url="htp://hooks/SECRET", chanel="x")
    assert "alerts.channels.team.url: " in wrong and "not a URL" in wrong and "SECRET" not in wrong
    assert "alerts.channels.team.chanel: unknown key" in wrong
    good: dict[str, Any] = {"host": "mail.example.org", "from": "f@example.org", "to": "o@example.org"}
    make_channel("email", "team", good)
    assert "belong together" in problems("email", **good, username="u")
    plain = problems("email", **good, security="none", username="u", password="SECRET")
    assert "would send the password unencrypted" in plain and "SECRET" not in plain
    assert "not an e-mail address" in problems("email", **{**good, "to": ["o@example.org\r\nBcc: x@example.org"]})
    assert "not an e-mail address" in problems("email", **{**good, "from": "a@b.org, c@d.org"})
    assert "line breaks" in problems("webhook", url="https://x.example.org", headers={"X": "a\r\nb"})


def test_secrets_are_not_in_the_repr() -> None:
    """Printing a channel's options shows no URL, password or header."""
    hook = make_channel("webhook", "w", {"url": "https://x.example.org/SECRET", "headers": {"A": "SECRET"}})
    assert "SECRET" not in repr(hook.options)


def test_ping_is_a_plain_get(receiver: HttpReceiver) -> None:
    """The dead-man URL is called with GET; an answer that is no success says so without the URL's secret."""
    ping(receiver.url)
    assert [(one.method, one.path) for one in receiver.requests] == [("GET", "/services/T000/B000/secretsecretsecret")]
    receiver.reply = Reply(404)
    with pytest.raises(ChannelError, match="404"):
        ping(receiver.url)


def test_a_silent_receiver_is_left_at_the_deadline(receiver: HttpReceiver) -> None:
    """A ping ends at its total deadline, whatever the other side does."""
    receiver.reply = Reply(hang=True)
    with pytest.raises(ChannelError, match=r"did not answer within 0\.2 s"):
        ping(receiver.url, timeout=0.2)


def test_check_proves_the_way_without_a_message(tmp_path: Path, receiver: HttpReceiver) -> None:
    """`check` connects, encrypts and logs in; nobody gets anything, and what is wrong is said."""
    with mail_server(tmp_path) as server:
        options: dict[str, Any] = {"host": "localhost", "port": server.port, "username": USER, "password": PASSWORD}
        options |= {"ca_file": str(server.ca_file), "from": "f@example.org", "to": "o@example.org"}
        assert "encrypted and logged in" in make_channel("email", "mail", options).check()
        with pytest.raises(ChannelError, match="refuses the login"):
            make_channel("email", "mail", {**options, "password": "no"}).check()
        assert server.letters == []
    assert "127.0.0.1 answers" in make_channel("slack", "team", {"url": receiver.url}).check()
    assert [one.method for one in receiver.requests] == ["HEAD"]
    receiver.close()
    with pytest.raises(ChannelError, match="Connection refused"):
        make_channel("slack", "team", {"url": receiver.url}).check()

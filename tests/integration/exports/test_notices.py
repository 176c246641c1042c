"""Notices over a real mail server and a real receiver: who asked is told, once, also when it takes several tries."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import freezegun
import pytest
from tests.builders import wait_until
from tests.desks import ANA, ask, begin, desk_at, finish, look
from tests.receivers import MailServer, Reply, http_receiver, mail_server

from eventferry.access.links import check_link
from eventferry.exports import ending, requests
from eventferry.exports.desk import Desk
from eventferry.exports.notices import PAUSES, Teller
from eventferry.exports.wanted import Notify
from eventferry.ledger import alerts, export_notices

NOON = "2026-03-01 12:00:00"


@pytest.fixture
def mail(tmp_path) -> Iterator[MailServer]:
    with mail_server(tmp_path, "none") as server:
        yield server


@contextmanager
def desk_with(home: Path, mail: MailServer, **top: object) -> Iterator[Desk]:
    channel = {"type": "email", "host": "127.0.0.1", "port": mail.port, "security": "none", "from": "ferry@example.com",
               "to": "ops@example.com"}  # fmt: skip
    top = {"alerts": {"channels": [channel]}, "api": {"public_url": "https://events.example.com"}, **top}
    with desk_at(home, **top) as desk:
        yield desk


def tell(desk: Desk, teller: Teller) -> None:
    """Send what is due, and wait for its end."""
    teller.pump()
    wait_until(lambda: not teller._under_way)


def states(desk: Desk, row) -> list[tuple[str, int]]:
    with desk.ledger.read() as tx:
        return [(each.state, each.attempts) for each in export_notices.of_export(tx, row.id)]


def test_each_address_gets_a_letter_with_a_link_that_works(tmp_path, mail):
    """Once; the link is signed and valid for a day, and the rest is in the letter."""
    with desk_with(tmp_path, mail) as desk:
        teller = Teller(desk)
        tell(desk, teller)
        row = finish(desk, ask(desk, name="views", notify=Notify(email=("ana@example.com", "bob@example.com"))))
        tell(desk, teller)
        tell(desk, teller)
        assert sorted(mail.recipients) == [["ana@example.com"], ["bob@example.com"]]
        text = mail.letters[0].get_body(("plain",)).get_content()
        assert mail.letters[0]["From"] == "ferry@example.com"
        link = next(line for line in text.split() if line.startswith("https://events.example.com/v1/"))
        check_link(desk.keyring, row.id, "events.csv", urlsplit(link).query)
        assert f"https://events.example.com/console/exports/{row.id}" in text
        assert states(desk, row) == [("sent", 1), ("sent", 1)]


def test_a_failed_export_is_told_of_too(tmp_path, mail):
    """With its reason."""
    with desk_with(tmp_path, mail) as desk:
        row = begin(desk, ask(desk, notify=Notify(email=("ana@example.com",))))
        ending.fail(desk, row.id, "the store does not answer")
        tell(desk, Teller(desk))
        [letter] = mail.letters
        assert "has failed: the store does not answer." in letter.get_body(("plain",)).get_content()


def test_nobody_is_told_of_what_was_cancelled_or_deleted(tmp_path, mail):
    """Its requester did that."""
    with desk_with(tmp_path, mail) as desk:
        notify = Notify(email=("ana@example.com",))
        requests.cancel(desk, ANA, ask(desk, notify=notify).id)
        deleted = finish(desk, ask(desk, notify=notify))
        requests.delete(desk, ANA, deleted.id)
        tell(desk, Teller(desk))
        assert mail.letters == []
        assert states(desk, deleted) == [("failed", 1)]


def test_a_letter_is_tried_again_with_growing_pauses_and_given_up_aloud(tmp_path, mail):
    """A mail server that is down for hours costs nothing but time; after eight tries the operator hears of it."""
    with desk_with(tmp_path, mail) as desk, freezegun.freeze_time(NOON, tick=True) as time:
        teller = Teller(desk)
        row = finish(desk, ask(desk, notify=Notify(email=("ana@example.com",))))
        mail.replies.extend(["451 later"] * (len(PAUSES) + 1))
        for tries, pause in enumerate(PAUSES, 1):
            tell(desk, teller)
            assert states(desk, row) == [("pending", tries)]
            time.tick(pause // 2)
            tell(desk, teller)
            assert states(desk, row) == [("pending", tries)]
            time.tick(pause // 2 + 20)
        tell(desk, teller)
        assert states(desk, row) == [("failed", len(PAUSES) + 1)]
        with desk.ledger.read() as tx:
            [notice] = alerts.notices_since(tx, 0)
        assert notice.event == "notice.failed"
        assert "451" in notice.detail
        assert look(desk, row).state == "complete"


def test_a_refused_letter_is_not_sent_again(tmp_path, mail):
    """A server that refuses the letter itself will do so tomorrow."""
    with desk_with(tmp_path, mail) as desk:
        row = finish(desk, ask(desk, notify=Notify(email=("ana@example.com",))))
        mail.replies.append("554 no such content")
        tell(desk, Teller(desk))
        assert states(desk, row) == [("failed", 1)]


def test_a_webhook_gets_what_came_of_the_export(tmp_path, mail):
    """State, figures and links as JSON; a server in trouble gets it later."""
    with http_receiver() as receiver, desk_with(tmp_path, mail, exports={"allow_endpoints": ["127.0.0.0/8"]}) as desk:
        with freezegun.freeze_time(NOON, tick=True) as time:
            teller = Teller(desk)
            receiver.script.append(Reply(503))
            row = finish(desk, ask(desk, name="views", notify=Notify(webhook=receiver.url)))
            tell(desk, teller)
            assert states(desk, row) == [("pending", 1)]
            time.tick(PAUSES[0] + 20)
            tell(desk, teller)
            [file] = receiver.requests[-1].json()["files"]
            check_link(desk.keyring, row.id, file["name"], urlsplit(file["url"]).query)
        assert states(desk, row) == [("sent", 2)]
        body = receiver.requests[-1].json()
        assert (body["id"], body["state"], body["events"], body["bytes"]) == (row.id, "complete", 2, 10)
        assert (body["name"], body["reason"], body["expires"][:10]) == ("views", None, "2026-03-08")
        assert file["url_expires"][:10] == "2026-03-02"


def test_a_webhook_that_hangs_delays_no_letter(tmp_path, mail):
    """Nor the job that sends them."""
    with http_receiver() as receiver, desk_with(tmp_path, mail, exports={"allow_endpoints": ["127.0.0.0/8"]}) as desk:
        receiver.reply = Reply(hang=True)
        teller = Teller(desk)
        finish(desk, ask(desk, notify=Notify(email=("ana@example.com",), webhook=receiver.url)))
        teller.pump()
        wait_until(lambda: len(mail.letters) == 1 and list(teller._under_way.values()) == ["webhook"])
        receiver.close()
        wait_until(lambda: not teller._under_way)


def test_a_webhook_that_says_gone_is_given_up(tmp_path, mail):
    """410 is for good."""
    with http_receiver() as receiver, desk_with(tmp_path, mail, exports={"allow_endpoints": ["127.0.0.0/8"]}) as desk:
        receiver.reply = Reply(410)
        row = finish(desk, ask(desk, notify=Notify(webhook=receiver.url)))
        tell(desk, Teller(desk))
        assert states(desk, row) == [("failed", 1)]

"""The letter about an export: it says what it is, in plain text and as a page, and nothing in it can be forged."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage

import freezegun
import pytest
from tests.desks import ask, begin, desk_at, finish, look

from eventferry.exports import ending
from eventferry.exports.desk import Desk
from eventferry.exports.letter import Link, Told, write_letter
from eventferry.exports.model import Selection
from eventferry.ledger import exports
from eventferry.ledger.exports import FileRow

DAY = Selection(start_ms=1772323200000, end_ms=1772409600000)
URL = "https://events.example.com/v1/exports/1/files/events.csv?expires=1&key=a&signature=b"


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with freezegun.freeze_time("2026-03-02 00:16:00"), desk_at(tmp_path) as desk:
        yield desk


def letter_of(row: exports.ExportRow, links: int = 1, page: str | None = "https://e.example.com/console/exports/1"):
    """The letter as a reader of mail parses it."""
    made = [Link(FileRow(f"part-{n}.csv", n, 5, 2048, "0"), f"{URL}{n}", row.expires_ms or 0) for n in range(links)]
    sent = write_letter(Told(row, made, page, "ferry"), "Events <ferry@example.com>", "ana@example.com").as_bytes()
    parsed = email.message_from_bytes(sent, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def plain(letter: EmailMessage) -> str:
    return letter.get_body(("plain",)).get_content().replace("\r\n", "\n")


def page(letter: EmailMessage) -> str:
    return letter.get_body(("html",)).get_content()


def test_a_letter_says_what_is_ready_how_large_and_until_when(desk):
    """Rows, size, range, expiry, and a link with how long it works."""
    row = finish(desk, ask(desk, name="daily views", selection=DAY), views=b"x\n" * 2048)
    letter = letter_of(row)
    assert letter["Subject"] == "[ferry] Export “daily views” is ready: 2,048 events"
    assert (letter["To"], letter["Auto-Submitted"]) == ("ana@example.com", "auto-generated")
    assert plain(letter) == (
        "Your export “daily views” is ready.\n"
        "\n"
        "Range    2026-03-01 00:00 UTC to 2026-03-02 00:00 UTC\n"
        "Rows     2,048\n"
        "Size     4.0 KiB, 1 file\n"
        "Format   NDJSON\n"
        "Expires  2026-03-09 00:16 UTC\n"
        f"Export   {row.id}\n"
        "\n"
        "Download:\n"
        "\n"
        "part-0.csv (2.0 KiB)\n"
        f"{URL}0\n"
        "\n"
        "This link works until 2026-03-09 00:16 UTC, for whoever has it.\n"
        "\n"
        "New links, until it expires:\n"
        "https://e.example.com/console/exports/1\n"
        "\n"
        "-- \n"
        "ferry: eventferry\n"
    )
    assert "2,048" in page(letter)
    assert f'href="{URL}0"'.replace("&", "&amp;") in page(letter)


def test_a_failed_export_says_why(desk):
    """And has nothing to download."""
    row = begin(desk, ask(desk, name="daily"))
    ending.fail(desk, row.id, "the store does not answer")
    letter = letter_of(look(desk, row), links=0)
    assert letter["Subject"] == "[ferry] Export “daily” failed"
    assert plain(letter).startswith(
        "Your export “daily” has failed: the store does not answer.\n\nRange   all events\n"
    )
    assert "Download" not in plain(letter) + page(letter)


def test_no_events_are_a_success_that_says_so(desk):
    """Nobody opens an empty file to find that out."""
    letter = letter_of(finish(desk, ask(desk), events=b""))
    assert letter["Subject"] == "[ferry] Export is ready: any time, no events"
    assert "No event matched, so there is nothing in it." in plain(letter)


def test_the_subject_of_an_export_without_a_name_says_its_range(desk):
    """In the words and the zone of the console, or a mailbox could not tell one from the other."""
    row = finish(desk, ask(desk, selection=DAY), views=b"x\n" * 18_000)
    assert letter_of(row)["Subject"] == "[ferry] Export is ready: 1 Mar 2026 UTC, 18,000 events"
    row = begin(desk, ask(desk, selection=Selection(end_ms=DAY.end_ms)))
    ending.fail(desk, row.id, "the store does not answer")
    assert letter_of(look(desk, row), links=0)["Subject"] == "[ferry] Export failed: before 2 Mar 2026 UTC"


def test_several_files_have_a_link_each_and_the_page_has_all(desk):
    """Words agree with the number."""
    row = finish(desk, ask(desk), **{f"f{number}": b"1\n" for number in range(3)})
    text = plain(letter_of(row, links=2))
    assert "3 files" in text
    assert text.count(URL) == 2
    assert "These links work until 2026-03-09 00:16 UTC, for whoever has them." in text
    assert "All 3 files, and new links:" in text


def test_without_a_console_there_is_no_page_to_name(desk):
    """Nor an empty line about one."""
    text = plain(letter_of(finish(desk, ask(desk)), page=None))
    assert text.rstrip().endswith("for whoever has it.\n\n-- \nferry: eventferry")


def test_a_name_cannot_forge_headers_or_markup(desk):
    """Line ends, tags and controls stay text."""
    evil = "x\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script>\x1b[31m"
    row = finish(desk, ask(desk, name=evil))
    letter = letter_of(row)
    assert letter["Bcc"] is None
    assert "<script" not in page(letter)
    assert "&lt;script&gt;" in page(letter)
    assert "\x1b" not in plain(letter) + page(letter) + letter["Subject"]


def test_a_repeat_can_be_recognised(desk):
    """The same export to the same address has one Message-ID, another address another."""
    row = finish(desk, ask(desk))
    ids = {
        write_letter(Told(row, [], None, "ferry"), sender, to)["Message-ID"]
        for sender, to in (("a@example.com", "x@y.z"), ("a@example.com", "x@y.z"), ("a@example.com", "v@w.z"))
    }
    assert len(ids) == 2
    assert all(re.fullmatch(r"<[0-9a-f]{32}@example\.com>", each) for each in ids)

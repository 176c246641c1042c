"""Rendering: short, human, and nothing in a message can act on its reader's behalf."""

import dataclasses
import json
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.alerts.letter import compose
from eventferry.alerts.message import Message
from eventferry.alerts.phrases import duration, facts, heading, size
from eventferry.alerts.render import json_payload, plain_text, sign, slack_payload

NOON = 1_772_366_400_000  # 2026-03-01 12:00 UTC
HELD = Message(
    id=7,
    cause="sink.held:warehouse",
    kind="problem",
    level="error",
    event="sink.held",
    subject="Sink warehouse is held",
    detail="bi.example.org refuses the credentials (401).",
    command="eventferry resume warehouse",
    fields={"backlog_events": 1234567, "backlog_bytes": 5 * 1024**3, "lag_seconds": 7500, "since_key": None},
    since_ms=NOON,
    instance="prod",
    host="db-1",
    created_ms=NOON,
)
RECOVERED = dataclasses.replace(HELD, id=9, kind="recovered", created_ms=NOON + 3_720_000, detail="", count=12)
REMINDER = dataclasses.replace(HELD, id=8, kind="reminder", created_ms=NOON + 86_400_000)

EVERYTHING = """\
Sink warehouse is held.

bi.example.org refuses the credentials (401).

Since:          2026-03-01 12:00 UTC
Backlog events: 1,234,567
Backlog:        5.0 GiB
Lag:            2 h 5 min

Run:
    eventferry resume warehouse

-- 
prod on db-1 · sink.held · 2026-03-01 12:00 UTC
"""  # noqa: W291 - the signature's dashes have a space


def test_the_text_says_what_since_when_how_much_and_what_to_run() -> None:
    """A person who reads only this text knows what to do."""
    assert plain_text(HELD) == EVERYTHING


def test_a_recovery_says_how_long_it_lasted() -> None:
    """A recovery names what is over and how long it was so."""
    text = plain_text(RECOVERED)
    assert text.startswith("Recovered: Sink warehouse is held.")
    assert "Lasted:         1 h 2 min" in text and "Seen:           12 times" in text


def every_text(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in every_text(value)]
    if isinstance(node, list):
        return [text for value in node for text in every_text(value)]
    return [node] if isinstance(node, str) else []


def test_slack_cannot_be_made_to_call_people() -> None:
    """Texts from files and sinks reach Slack as text: no <!channel>, no links, no way out of the code block."""
    evil = "<!channel> <@U1> <https://evil|click> & ``` @here"
    message = dataclasses.replace(
        HELD, subject=evil, detail=evil, command=evil, fields={evil: evil}, event=evil, host=evil
    )
    payload = slack_payload(message)
    for text in every_text(payload):
        allowed = text.replace(f"<!date^{NOON // 1000}^{{date_short_pretty}} {{time}}|2026-03-01 12:00 UTC>", "")
        assert "<" not in allowed and ">" not in allowed
        assert text.count("```") in (0, 1, 2)
    sections = [block["text"] for block in payload["blocks"] if "text" in block]
    assert all(one["verbatim"] is True for one in sections)
    assert sum(one["text"].count("```") for one in sections[1:]) == 2


@given(st.text(max_size=20000), st.text(max_size=5000), st.dictionaries(st.text(), st.text(max_size=5000), max_size=15))
def test_slack_payloads_stay_within_slacks_limits(detail: str, subject: str, fields: dict[str, str]) -> None:
    """No text of any length or kind makes a payload that Slack refuses."""
    for kind in ("problem", "failure"):
        message = dataclasses.replace(HELD, kind=kind, detail=detail, subject=subject, command=detail, fields=fields)
        payload = slack_payload(message)
        assert len(payload["blocks"]) <= 50
        for block in payload["blocks"]:
            assert len(block.get("text", {}).get("text", "")) <= 3000
            assert len(block.get("fields", [])) <= 10
            assert all(0 < len(one["text"]) <= 2000 for one in block.get("fields", []))
        json.dumps(payload).encode()


@given(st.text(), st.text(), st.text())
def test_a_letter_has_no_headers_but_ours(subject: str, instance: str, detail: str) -> None:
    """No text can add a header or a recipient."""
    message = dataclasses.replace(HELD, subject=subject, instance=instance, detail=detail, event=subject, host=instance)
    letter = message_from_bytes(
        bytes(compose(message, "ferry@example.org", ["ops@example.org"])), policy=policy.default
    )
    assert letter["To"] == "ops@example.org"
    expected = {"Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress"}
    expected |= {"X-Eventferry-Event", "Importance", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
    assert set(letter.keys()) == expected


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\x0b", "\u2028", "\x85"])
def test_a_subject_with_a_line_break_stays_one_header(break_: str) -> None:
    """The classic injection ends up visible in the subject."""
    message = dataclasses.replace(HELD, subject=f"held{break_}Bcc: thief@example.org")
    letter = message_from_bytes(bytes(compose(message, "f@example.org", ["o@example.org"])), policy=policy.default)
    assert letter["Bcc"] is None and "thief@example.org" in letter["Subject"]


def test_reminders_and_recovery_thread_under_their_problem() -> None:
    """A mail program shows one incident as one thread, and the next incident as another."""
    sender = ("ferry@example.org", ["ops@example.org"])
    problem, reminder, recovered = (compose(one, *sender) for one in (HELD, REMINDER, RECOVERED))
    assert reminder["In-Reply-To"] == recovered["References"] == problem["Message-ID"]
    assert problem["In-Reply-To"] is None
    assert len({one["Message-ID"] for one in (problem, reminder, recovered)}) == 3
    again = compose(dataclasses.replace(HELD, since_ms=NOON + 1, created_ms=NOON + 1), *sender)
    assert again["Message-ID"] != problem["Message-ID"]


def test_a_repeated_letter_is_the_same_letter() -> None:
    """A retry carries the same Message-ID and date, so that a mail server can drop it."""
    assert bytes(compose(HELD, "f@example.org", ["o@example.org"])) == bytes(
        compose(HELD, "f@example.org", ["o@example.org"])
    )


def test_a_letter_says_that_a_machine_wrote_it() -> None:
    """Out-of-office replies stay away, and the date is that of the event."""
    letter = compose(HELD, "f@example.org", ["o@example.org"])
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert letter["Subject"] == "[prod] Sink warehouse is held"


def test_json_carries_everything() -> None:
    """A program gets every field and the text."""
    payload = json_payload(RECOVERED)
    assert payload["cause"] == HELD.cause and payload["fields"]["backlog_events"] == 1234567
    assert payload["lasted"] == "1 h 2 min" and payload["text"] == plain_text(RECOVERED)


def test_values_read_like_words() -> None:
    """Units in names become units people use."""
    assert [duration(0), duration(59), duration(3600), duration(90061)] == ["0 s", "59 s", "1 h", "1 d 1 h"]
    assert [size(12), size(2048), size(3 * 1024**4)] == ["12 bytes", "2.0 KiB", "3.0 TiB"]
    shown = dict(
        facts(dataclasses.replace(HELD, kind="notice", fields={"is_new": True, "opened_ms": NOON, "n.x": 1.5}))
    )
    assert shown == {"Is new": "yes", "Opened": "2026-03-01 12:00 UTC", "N x": "1.5"}


def test_what_a_person_ended_is_over_and_not_recovered():
    """Only a proof makes a recovery: a pause, a drop, a sink taken out end an alert in other words."""
    over = dataclasses.replace(RECOVERED, kind="over", subject="Sink warehouse is paused by hand")
    assert heading(over) == "Over: Sink warehouse is paused by hand"
    assert sign(over) != sign(RECOVERED)
    assert ("Lasted", "1 h 2 min") in facts(over)
    assert compose(over, "a@example.org", ["b@example.org"])["In-Reply-To"]

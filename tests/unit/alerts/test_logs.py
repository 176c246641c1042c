"""Logs: one redacted record a line, whatever is logged and whoever reads."""

import io
import json
import logging
import os
import pty
import socket
import subprocess
import sys
import tty
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.log_stream import LogStream
from eventferry.logs import configure_logs, dropped_lines, escape, get_logger, set_redactor

NASTY = [
    "two\nlines",
    "\r\n<0>forged",
    "\x1b[2Jgone",
    "a\u2028b",
    "\x85",
    "\u202egnorw",
    "\ud800",
    "\x00",
    "\x7f",
    "\t",
]


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_carries_event_level_time_and_fields() -> None:
    """A record is one JSON object with its event first and its values as fields."""
    stream = io.StringIO()
    configure_logs("json", stream=stream)
    get_logger(sink="warehouse").info("batch.delivered", events=1200, nested={"a": [1, b"x", float("nan")]})
    (record,) = json_lines(stream)
    assert list(record)[:3] == ["timestamp", "level", "event"]
    assert record["timestamp"].endswith("Z") and record["event"] == "batch.delivered" and record["level"] == "info"
    assert record["sink"] == "warehouse" and record["events"] == 1200
    assert record["nested"] == {"a": [1, "b'x'", "nan"]}


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_every_record_is_one_line(format: Any, nasty: str) -> None:
    """No value, key or traceback can forge a second record or reach the terminal's controls."""
    stream = io.StringIO()
    configure_logs(format, stream=stream)
    log = get_logger()
    try:
        raise ValueError(nasty)
    except ValueError:
        log.exception("file.quarantined", key=nasty, inside={"deep": [nasty]}, **{nasty: 1})
    text = stream.getvalue()
    assert text.endswith("\n") and len(text.splitlines()) == 1
    assert not any(character in text[:-1] for character in "\n\r\x1b\x00\x7f\x85\u2028\u202e\ud800")


@given(st.text())
def test_escaping_leaves_one_line(text: str) -> None:
    """Whatever the text, its escaped form has no line break and loses nothing printable."""
    shown = escape(text)
    assert len(shown.splitlines()) <= 1
    assert all(character in shown for character in text if character.isalnum())


def test_json_gives_values_back_unchanged() -> None:
    """Escaping in JSON is JSON's own: a program reads the original text."""
    stream = io.StringIO()
    configure_logs("json", stream=stream)
    get_logger().warning("line.bad", sample="".join(NASTY[:6]))
    assert json_lines(stream)[0]["sample"] == "".join(NASTY[:6])


def test_secrets_are_redacted_everywhere() -> None:
    """Values, nested values, tracebacks and the words of libraries pass the redactor."""
    stream = io.StringIO()
    configure_logs("json", stream=stream)
    set_redactor(lambda text: text.replace("hunter2", "***"))
    log = get_logger()
    try:
        raise OSError("login with hunter2 failed")
    except OSError:
        log.exception("sink.failed", url="https://u:hunter2@x", more={"hunter2": ["hunter2"]})
    log.error("sink.failed", cut="x" * 8190 + "hunter2")
    logging.getLogger("urllib3.pool").warning("retrying %s", "https://x/hunter2")
    assert len(json_lines(stream)) == 3 and "hunter" not in stream.getvalue()


def test_a_broken_redactor_shows_nothing() -> None:
    """When a text cannot be checked it is withheld, and the record still comes."""
    stream = io.StringIO()
    configure_logs("json", stream=stream)
    set_redactor(lambda text: text.missing)  # type: ignore[attr-defined]
    get_logger().error("sink.held", reason="token abc")
    assert "abc" not in stream.getvalue() and "withheld" in stream.getvalue()


def test_levels_filter_and_libraries_are_heard_from_warning_on() -> None:
    """Records below the level do not appear; libraries appear from WARNING on, as library.logged."""
    stream = io.StringIO()
    configure_logs("json", level="warning", stream=stream)
    get_logger().info("run.finished")
    logging.getLogger("apscheduler.scheduler").info("added job")
    logging.getLogger("apscheduler.scheduler").warning("job %s missed", "poll")
    assert [(one["event"], one.get("message")) for one in json_lines(stream)] == [("library.logged", "job poll missed")]


def test_setting_up_again_changes_existing_loggers() -> None:
    """A reload changes level and stream of loggers that modules already hold, and writes nothing twice."""
    log = get_logger()
    first, second = io.StringIO(), io.StringIO()
    configure_logs("json", stream=first)
    configure_logs("json", level="debug", stream=second)
    log.debug("batch.cut")
    logging.getLogger("boto").error("once")
    assert first.getvalue() == "" and len(json_lines(second)) == 2


def test_a_long_record_stays_one_journal_entry() -> None:
    """A record never grows past what the journal keeps in one piece, and stays JSON."""
    stream = io.StringIO()
    configure_logs("json", stream=stream)
    get_logger().error("sink.failed", **{f"field{number}": "\x01" * 100_000 for number in range(50)})
    assert len(stream.getvalue()) < 48 * 1024 and json_lines(stream)[0]["event"] == "sink.failed"


def test_the_journal_gets_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stream is the journal's socket each line begins with its syslog priority."""
    ours, theirs = socket.socketpair()
    found = os.fstat(ours.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    with ours, theirs, os.fdopen(os.dup(ours.fileno()), "w") as stream:
        configure_logs("auto", level="debug", stream=stream)
        log = get_logger()
        log.error("sink.held")
        log.warning("batch.failed")
        log.info("run.finished")
        log.debug("batch.cut")
        lines = theirs.recv(65536).decode().splitlines()
    assert [line[:3] for line in lines] == ["<3>", "<4>", "<6>", "<7>"]
    assert json.loads(lines[0][3:])["event"] == "sink.held"


def test_another_descriptor_than_the_journals_gets_no_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale $JOURNAL_STREAM (output was redirected) changes nothing."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    ours, theirs = socket.socketpair()
    with ours, theirs, os.fdopen(os.dup(ours.fileno()), "w") as stream:
        configure_logs("auto", stream=stream)
        get_logger().error("sink.held")
        assert theirs.recv(65536).startswith(b"{")


def test_a_terminal_gets_colours_and_an_indented_traceback() -> None:
    """People see colours; a traceback cannot start a line of its own at the margin."""
    reader, writer = pty.openpty()
    tty.setraw(writer)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as terminal:
        configure_logs("auto", stream=stream)
        try:
            raise ValueError("first\nforged")
        except ValueError:
            get_logger().exception("sink.failed")
        lines = terminal.read(65536).decode().splitlines()
    assert "\x1b[" in lines[0] and "sink.failed" in lines[0]
    assert len(lines) > 3 and all(line.startswith("    ") for line in lines[1:])


def test_a_full_pipe_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stalled holds nobody up; what was lost is counted and said once it reads again."""
    monkeypatch.setattr("eventferry.log_stream.PATIENCE_MS", 20)
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as pipe:
        configure_logs("json", stream=stream)
        log = get_logger()
        for number in range(5000):  # far more than a pipe holds
            log.info("batch.delivered", number=number, filling="x" * 100)
        lost = dropped_lines()
        assert lost > 0
        text = pipe.read(1 << 20)
        log.info("run.finished")
        log.info("run.started")
        text += pipe.read(1 << 20)
    records = [json.loads(line) for line in text.decode().splitlines() if line.endswith("}")]
    assert {"level": "warning", "event": "log.dropped", "lines": lost} in records
    assert records[-1]["event"] == "run.started"
    assert len(text.splitlines()) - len(records) <= 1  # the one that the stall cut


def test_a_closed_stream_breaks_nothing() -> None:
    """Logging to a closed descriptor or stream loses lines, never the daemon."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    configure_logs("json", stream=stream)
    os.close(reader)
    get_logger().error("sink.held")  # EPIPE
    stream.close()
    get_logger().error("sink.held")  # EBADF
    closed = io.StringIO()
    closed.close()
    LogStream(closed).msg("x")
    LogStream(None).msg("x")
    assert dropped_lines() == 2


def test_a_full_disk_breaks_nothing() -> None:
    """Logging to a full file system loses lines, never the daemon."""
    with open("/dev/full", "w") as full:
        configure_logs("json", stream=full)
        get_logger().error("sink.held")
    assert dropped_lines() == 1


def test_a_value_that_cannot_be_shown_does_not_stop_the_record() -> None:
    """An object whose text raises is named by its type."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    stream = io.StringIO()
    configure_logs("json", stream=stream)
    get_logger().info("run.finished", thing=Broken())
    assert "Broken" in json_lines(stream)[0]["thing"]


def test_holding_a_logger_costs_no_import() -> None:
    """A module may make its logger at import time: `--help` does not pay for structlog."""
    code = "import sys, eventferry.logs as l; l.get_logger(sink='x'); sys.exit('structlog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

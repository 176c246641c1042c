"""Each hook of Altis' scheduled export at its place in the configuration, as docs/coming-from-altis.md has it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.acceptance.test_runs import fill, runs, time
from tests.builders import HOUR, Ferry, events, wait_until

from eventferry.ledger import tables as t
from eventferry.service import Service

__all__ = ["time"]  # the fixture

# What takes the place of the hooks' functions; each call is one line in a file beside the module.
MODULE = """
import json
from pathlib import Path

def process(data: str) -> None:
    note("process", data)

def log(message: str, level: str) -> None:
    note("log", message, level)

def note(hook: str, *arguments: str) -> None:
    with Path(__file__).with_name("calls").open("a") as file:
        file.write(json.dumps([hook, *arguments]) + "\\n")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with such functions."""
    name = f"acme_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    return name


def calls(home: Path, hook: str) -> list[list[str]]:
    """The arguments of each call."""
    path = home / "module" / "calls"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [arguments for name, *arguments in found if name == hook]


@contextmanager
def service(ferry: Ferry) -> Iterator[Service]:
    ferry.open()
    made = Service(ferry.save(), ferry.path, ferry.ledger)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def run_ids(ferry: Ferry) -> list[int]:
    return [row[0] for row in ferry.rows(sa.select(t.runs.c.id).where(t.runs.c.finished_ms.is_not(None)))]


def test_process_gets_batches_of_events_as_ndjson_text(tmp_path, module):
    """A function of one text is a sink: a batch of events, a line each, every event once over all calls."""
    with Ferry(tmp_path, sinks=()) as ferry:
        ferry.sinks["bi"] = {"type": f"{module}:process", "batch": {"max_events": 40, "max_wait": "0s"}}
        ferry.put(f"{HOUR}/a.gz", events(50))
        ferry.put(f"{HOUR}/b.gz", events(50, 50))
        with service(ferry):
            wait_until(lambda: sum(text.count("\n") for (text,) in calls(tmp_path, "process")) >= 100)
        batches = [text for (text,) in calls(tmp_path, "process")]
        assert all(text.endswith("\n") and text.count("\n") <= 40 for text in batches)
        assert "".join(batches).encode() == events(100)


def test_log_gets_messages_with_their_level(tmp_path, module):
    """A function of message and level is a channel: it hears of a file that cannot be read."""
    with Ferry(tmp_path, sinks=()) as ferry:
        ferry.sinks["bi"] = {"type": f"{module}:process"}
        ferry.sources["events"]["unreadable_after"] = "0s"
        ferry.top["alerts"] = {"channels": [{"type": f"{module}:log", "level": "warning"}]}
        ferry.put(f"{HOUR}/broken.gz", b"no gzip at all", packed=False)
        with service(ferry):
            wait_until(lambda: calls(tmp_path, "log"), what="the message")
        ((message, level), *_) = calls(tmp_path, "log")
        assert level == "warning"
        assert f"{HOUR}/broken.gz" in message


def test_enabled_false_stops_everything_until_it_is_true_again(tmp_path, module):
    """Switched off nothing is listed, although a sink is there; an edit and a reload start it."""
    with Ferry(tmp_path, sinks=()) as ferry:
        ferry.top["enabled"] = False
        ferry.sources["events"]["interval"] = "1s"
        ferry.sinks["bi"] = {"type": f"{module}:process", "batch": {"max_wait": "0s"}}
        ferry.put(f"{HOUR}/a.gz", events(5))
        with service(ferry) as daemon:
            daemon.reload()
            assert run_ids(ferry) == []
            assert calls(tmp_path, "process") == []
            ferry.top["enabled"] = True
            ferry.save()
            daemon.reload()
            wait_until(lambda: calls(tmp_path, "process"), what="the first batch")


@pytest.mark.parametrize(
    ("frequency", "seconds"), [(None, 600), ("hourly", 3600), ("twicedaily", 43_200), ("daily", 86_400), ("30m", 1800)]
)
def test_the_frequency_is_ten_minutes_or_what_the_interval_says(tmp_path, time, frequency, seconds):
    """The names of WordPress' schedules work, and so does any other span; a run is due so long after the last one."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {} if frequency is None else {"interval": frequency}
        fill(ferry, 1)
        with runs(ferry, time) as at_work:
            at_work.await_runs(1)
            due = at_work.next_run()
            assert (due - time().astimezone(due.tzinfo)).total_seconds() == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize(("max_files", "taken"), [(None, [100, 100, 50]), (200, [200, 50])])
def test_max_files_bounds_a_run_and_the_next_one_continues(tmp_path, time, max_files, taken):
    """100 files a run unless `max_files` says otherwise, each run from where the one before left off."""
    with Ferry(tmp_path) as ferry:
        ferry.sources["events"] |= {} if max_files is None else {"max_files": max_files}
        fill(ferry, 250)
        with runs(ferry, time) as at_work:
            for count in range(1, len(taken) + 1):
                at_work.await_runs(count)
                at_work.next_run()
                at_work.pass_time(600)
            assert at_work.found()[: len(taken)] == taken
            assert len(ferry.objects(state="indexed")) == 250

"""The duckdb sink keeps the contract, in a real DuckDB file."""

import datetime as dt
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import ClassVar

import duckdb
import pytest

from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, breaking, cut_batch, make_batch, replacing_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.duckdb import sink as module
from eventferry_sinks.duckdb.sink import DuckdbSink


def _read(path, sql):
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def _events(path):
    return [row[0].encode() for row in _read(path, "SELECT event FROM events ORDER BY rowid")] if path.exists() else []


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@contextmanager
def _locked(path):
    """Another process has the file open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()


class TestDuckdb(SinkPromises):
    sink_type = DuckdbSink
    counterpart = "files of DuckDB 2.0"
    records_parts = True
    options: ClassVar = {"path": "/srv/events.duckdb"}

    @contextmanager
    def healthy(self, **options):
        path = self.tmp_path / "events.duckdb"
        yield Target(lambda: make_sink("duckdb", "bi", {"path": str(path), **options}), lambda: _events(path))

    def with_columns(self, columns):
        return self.healthy(columns=columns)

    @contextmanager
    def losing_reply(self):
        with self.healthy() as target:
            yield breaking(target, after=True)

    @contextmanager
    def crashing_before(self):
        with self.healthy() as target:
            yield breaking(target, after=False)

    @contextmanager
    def misconfigured(self):
        yield Target(lambda: make_sink("duckdb", "bi", {"path": str(self.tmp_path / "missing" / "bi.duckdb")}))

    @contextmanager
    def unreachable(self):
        path = self.tmp_path / "locked.duckdb"
        with _locked(path):
            yield Target(lambda: make_sink("duckdb", "bi", {"path": str(path)}))

    @contextmanager
    def refusing(self):
        path = self.tmp_path / "no database"
        path.write_bytes(b"something else" * 1000)
        yield Target(lambda: make_sink("duckdb", "bi", {"path": str(path)}))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bi.duckdb"


@pytest.fixture
def make(path):
    return lambda **options: make_sink("duckdb", "bi", {"path": str(path), **options})


def test_columns_hold_what_fits_and_null_otherwise(make, path):
    """A value of another type is NULL in its column and untouched in the raw event; nothing is rounded or guessed."""
    types = ["text", "integer", "number", "boolean", "timestamp"]
    columns = {kind.lower(): {"path": "a.v", "type": kind} for kind in types}
    noon = dt.datetime(2024, 5, 1, 12)
    cases = {
        "12": ("12", 12, 12.0, None, dt.datetime(1970, 1, 1, 0, 0, 0, 12000)),
        "1.5": ("1.5", None, 1.5, None, None),
        "true": ("true", None, None, True, None),
        '"yes"': ("yes", None, None, None, None),
        '"nan"': ("nan", None, None, None, None),
        "1e400": ("1e400", None, None, None, None),
        '"2024-05-01T12:00:00Z"': ("2024-05-01T12:00:00Z", None, None, None, noon),
        '"2024-05-01T14:00:00+02:00"': ("2024-05-01T14:00:00+02:00", None, None, None, noon),
        '"2024-05-01T12:00:00"': ("2024-05-01T12:00:00", None, None, None, noon),
        "1714564800000": ("1714564800000", 1714564800000, 1714564800000.0, None, noon),
        "9223372036854775808": ("9223372036854775808", None, 9223372036854775808.0, None, None),
        '{"b":1}': ('{"b":1}', None, None, None, None),
        "null": (None, None, None, None, None),
    }
    with make(columns=columns) as sink:
        sink.deliver(make_batch([f'{{"a":{{"v":{value}}}}}'.encode() for value in cases]))
    rows = _read(path, f"SELECT {', '.join(columns)} FROM events ORDER BY rowid")
    assert dict(zip(cases, rows, strict=True)) == cases


def test_default_columns_and_the_first_usable_path(make, path):
    """event_time comes from the first time field that has a usable time; event_type is there without configuration."""
    events = [
        b'{"event_type":"a","event_timestamp":1714564800000}',
        b'{"event_type":"b","event_timestamp":"soon","timestamp":"2024-05-01T12:00:00Z"}',
        b'{"event_type":"c","keen":{"timestamp":"2024-05-01T12:00:00.000Z"}}',
        b"{}",
    ]
    with make() as sink:
        sink.deliver(make_batch(events))
    noon = dt.datetime(2024, 5, 1, 12)
    assert _read(path, "SELECT event_type, event_time FROM events ORDER BY rowid") == [
        ("a", noon),
        ("b", noon),
        ("c", noon),
        (None, None),
    ]


def test_keys_with_dots_are_reached_by_a_pointer(make, path):
    """`/a.b/c'd` names the key with a dot, and quotes in a path are only text."""
    with make(columns={"x": "/a.b/c'd"}) as sink:
        sink.deliver(make_batch([b'{"a.b":{"c\'d":"here"}}']))
    assert _read(path, "SELECT x FROM events") == [("here",)]


def test_new_columns_join_an_old_table(make, path):
    """A column that is configured later is added; one whose type was changed holds the sink and names both types."""
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    with make(columns={"n": {"path": "n", "type": "integer"}}) as sink:
        sink.deliver(make_batch(sample_events(1, 1)))
    assert _read(path, "SELECT n FROM events ORDER BY rowid") == [(None,), (1,)]
    with make(columns={"n": {"path": "n", "type": "number"}}) as sink, pytest.raises(SinkMisconfigured) as caught:
        sink.deliver(make_batch(sample_events(1, 2)))
    assert "'n' of table 'events'" in str(caught.value)
    assert "BIGINT" in str(caught.value)


def test_the_file_is_free_between_deliveries(make, path):
    """Another process reads and writes while the sink waits, and a locked file is untouched."""
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
        with _locked(path), pytest.raises(SinkUnavailable) as caught:
            sink.deliver(make_batch(sample_events(1, 1)))
        assert caught.value.untouched
        sink.deliver(make_batch(sample_events(1, 1)))
    assert _events(path) == sample_events(2)


def test_a_refused_event_takes_its_batch_along(make, path):
    """Either all of a batch is in the table, with its id, or nothing."""
    with make() as sink:
        batch = make_batch([*sample_events(2), b'{"cut'])
        with pytest.raises(BatchRejected):
            sink.deliver(batch)
        assert sink.was_delivered(batch) is False
        sink.deliver(make_batch(sample_events(2)))
    assert _events(path) == sample_events(2)
    assert _read(path, "SELECT events, table_name FROM eventferry_batches") == [(2, "events")]


def test_a_replacement_that_fails_leaves_all_as_it_was(make, path, monkeypatch):
    """Refused, or killed right before the commit: the old events stay, are known, and can still be replaced."""
    old = make_batch(sample_events(3))
    with make() as sink:
        sink.deliver(old)
        with pytest.raises(BatchRejected):
            sink.deliver(replacing_batch(old, [b'{"cut'], old.id))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module.DuckdbBooks, "record", _die)
            sink.deliver(replacing_batch(old, sample_events(3, 10), old.id))
        assert _events(path) == sample_events(3)
        assert sink.was_delivered(old)
        sink.deliver(replacing_batch(old, sample_events(3, 10), old.id))
    assert _events(path) == sample_events(3, 10)


def _die(*args):
    raise KeyboardInterrupt


def test_a_replacement_adds_a_column_in_its_transaction(make, path):
    """What is replaced because a column was added has it at once."""
    old = make_batch(sample_events(2))
    with make() as sink:
        sink.deliver(old)
    with make(columns={"n": {"path": "n", "type": "integer"}}) as sink:
        sink.deliver(replacing_batch(old, sample_events(2), old.id))
    assert _read(path, "SELECT n FROM events ORDER BY n") == [(0,), (1,)]


def test_events_under_a_strange_id_are_not_replaced(make, path):
    """The same ranges from a batch that is not named would stay beside the new ones: a person is asked instead."""
    files = [sample_events(6)]
    old, other, unrelated = cut_batch(files, 0, 4), cut_batch(files, 2, 6, "kit#2"), cut_batch(files, 0, 6, "kitten")
    with make() as sink:
        for batch in (old, other, unrelated):
            sink.deliver(batch)
        with pytest.raises(SinkMisconfigured, match=f"a batch of a lost ledger.*{other.id}"):
            sink.deliver(replacing_batch(old, sample_events(4, 10), old.id))
        assert len(_events(path)) == 14
        sink.deliver(replacing_batch(old, sample_events(4, 10), old.id, other.id))
    assert sorted(_events(path)) == sorted(sample_events(6) + sample_events(4, 10))


def test_two_tables_of_one_file_share_the_ids(make, path):
    """Two sinks may fill two tables of one file."""
    with make(table="a") as one, make(table="b") as two:
        one.deliver(make_batch(sample_events(1), salt="a"))
        two.deliver(make_batch(sample_events(2), salt="b"))
    assert _read(path, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)") == [(1, 2)]


def test_a_missing_directory_is_named(make, tmp_path):
    """The directory of the file is not created: a disk that is not mounted must not be filled at its mount point."""
    with pytest.raises(SinkMisconfigured, match="not-mounted"):
        make(path=str(tmp_path / "not-mounted" / "x.duckdb")).open()


def test_what_does_not_fit_is_counted(make, path):
    """A value that is NULL in its column because it does not fit is counted once, by column; a missing one is not."""
    events = [b'{"n":1,"event_timestamp":0}', b'{"n":"many","event_timestamp":0}', b'{"event_timestamp":"soon"}']
    with make(columns={"n": {"path": "n", "type": "integer"}}) as sink:
        for _ in range(2):
            sink.deliver(make_batch(events))
        assert sink.counts == {("values.misfitted", "n"): 1, ("values.misfitted", "event_time"): 1}


def test_a_frozen_table_gets_no_column(make, path):
    """With schema_contract = "freeze" a missing column holds the sink and the statement is said; nothing is added."""
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    with make(columns={"n": "n"}, schema_contract="freeze") as sink, pytest.raises(SinkMisconfigured) as caught:
        sink.deliver(make_batch(sample_events(1, 1)))
    assert 'ALTER TABLE "events" ADD COLUMN "n" VARCHAR' in str(caught.value)
    assert [row[0] for row in _read(path, "DESCRIBE events")] == ["event_time", "event_type", "event", "batch_id"]


def test_a_discarded_column_is_left_out_and_counted(make, path):
    """With schema_contract = "discard" a column that the table lacks is left out, and its values are counted."""
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    with make(columns={"n": "n"}, schema_contract="discard") as sink:
        sink.deliver(make_batch(sample_events(2, 1)))
        assert sink.counts == {("values.discarded", "n"): 2}
    assert _events(path) == sample_events(3)
    assert len(_read(path, "DESCRIBE events")) == 4


def test_check_says_what_a_delivery_would_do_and_does_nothing(make, path):
    """check names each step, and neither makes the file nor adds the column that the first delivery will add."""
    with make() as sink:
        assert list(sink.check()) == [f"{path} is not there yet; the first delivery makes it"]
        assert not path.exists()
        sink.deliver(make_batch(sample_events(1)))
    with make(columns={"n": "n"}) as sink:
        assert list(sink.check()) == [
            f"{path} can be opened for writing",
            "table events takes the columns event_time, event_type, n, event, batch_id",
        ]
    assert len(_read(path, "DESCRIBE events")) == 4


READ = """
import duckdb, sys
counts = set()
while not counts or max(counts) < int(sys.argv[2]):
    try:
        with duckdb.connect(sys.argv[1], read_only=True) as connection:
            counts.add(connection.execute("SELECT count(*) FROM events").fetchone()[0])
    except (duckdb.IOException, duckdb.CatalogException):
        continue  # not there yet, or a delivery is under way
print(sorted(counts))
"""


def test_readers_in_other_processes_see_whole_batches_while_it_delivers(make, path):
    """Readers with short connections and the sink get by beside each other, and nobody sees a part of a batch."""
    readers = [
        subprocess.Popen([sys.executable, "-c", READ, str(path), "100"], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with make() as sink:
        for start in range(0, 100, 10):
            for _ in range(100_000):  # as the daemon would, which waits in between
                try:
                    sink.deliver(make_batch(sample_events(10, start)))
                    break
                except SinkUnavailable as error:
                    assert error.untouched
    for reader in readers:
        seen, _ = reader.communicate(timeout=60)
        counts = json.loads(seen)
        assert counts[-1] == 100
        assert all(count % 10 == 0 for count in counts), counts
    assert _events(path) == sample_events(100)

"""The clickhouse sink keeps the contract: today's engine behind a front of the tests, and Debian's old server."""

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import HOUR, SCRIPTED, Ferry, event, events, wait_until
from tests.clickhouse_server import PASSWORD, chdb_server, debian_server
from tests.contract.receiver import nobody, receiving

from eventferry.sink import Guarantee, SinkMisconfigured
from eventferry.sink.kit import CuttingProxy, SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.clickhouse.sink import ClickhouseSink

WINDOW = "SETTINGS non_replicated_deduplication_window = 100"
INSERT = b"FORMAT JSONEachRow"
POISON = b'{"event_type":"poison"}'
REFUSES_POISON = "event_type Nullable(String), CONSTRAINT wholesome CHECK NOT event LIKE '%poison%'"


@pytest.fixture(scope="module")
def chdb():
    with chdb_server() as server:
        yield server


@pytest.fixture(scope="module")
def debian():
    with debian_server() as server:
        yield server


def _sink(server, table, **options):
    return make_sink("clickhouse", "ch", server.options(table=table, **options))


def _target(server, table, **options):
    return Target(lambda: _sink(server, table, **options), lambda: server.events(table), lambda: server.keys(table))


@pytest.mark.servers
class TestClickhouse(SinkPromises):
    sink_type = ClickhouseSink
    counterpart = "chdb 26.9 behind an HTTP front of the tests"
    options: ClassVar = {"url": "http://127.0.0.1:8123/"}
    secrets = (PASSWORD,)
    deadline = 0.5
    poison = POISON
    how: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _serve(self, chdb):
        self.server = chdb

    def _table(self, columns=""):
        return self.server.make_table(columns, WINDOW)

    @contextmanager
    def healthy(self):
        yield _target(self.server, self._table(), **self.how)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield _target(self.server, "events", url=url, **self.how)

    @contextmanager
    def refusing(self):
        yield _target(self.server, self._table("n Int8, CONSTRAINT never CHECK n > 0"), **self.how)

    @contextmanager
    def poisoned(self):
        yield _target(self.server, self._table(REFUSES_POISON), **self.how)

    @contextmanager
    def misconfigured(self):
        yield _target(self.server, self._table(), **self.how | {"password": f"not {PASSWORD}"})

    @contextmanager
    def _through(self, trap):
        """A healthy place behind a proxy, whose trap is set before the first delivery."""
        table = self._table()
        with CuttingProxy("127.0.0.1", self.server.port) as proxy:
            target = _target(self.server, table, url=proxy.url, **self.how | {"compression": "none"})
            yield replace(target, arm=lambda: trap(proxy))

    @contextmanager
    def hanging(self):
        with self._through(lambda proxy: proxy.stall_after(INSERT)) as target:
            yield replace(
                target, sink=lambda: make_sink("clickhouse", "ch", _with(target.sink(), timeout=self.deadline))
            )

    def losing_reply(self):
        return self._through(lambda proxy: proxy.cut_after(INSERT, reply=b"\r\n\r\n"))

    def crashing_before(self):
        return self._through(lambda proxy: proxy.cut_before(INSERT))

    @contextmanager
    def throttling(self):
        with receiving(lambda request: (429, {"Retry-After": "7"}, b"slow down")) as receiver:
            yield _target(self.server, "events", url=receiver.url, **self.how)

    @contextmanager
    def lowering(self):
        yield _target(self.server, self.server.make_table(), **self.how)

    @contextmanager
    def with_columns(self, columns):
        yield _target(self.server, self._table(), columns=columns, **self.how)


def _with(sink, **changes):
    return {**sink.options.model_dump(exclude_unset=True), "password": PASSWORD, **changes}


class OldClickhouseSink(ClickhouseSink):
    """What the type is on a server without deduplication tokens."""

    guarantee = Guarantee.AT_LEAST_ONCE_KEYED
    proved_against = "ClickHouse 18.16"


@pytest.mark.servers
class TestOldServer(TestClickhouse):
    """The plain path, on a real server of 2018."""

    sink_type = OldClickhouseSink
    counterpart = "ClickHouse 18.16"
    poison = None
    refusing = poisoned = lowering = SinkPromises.lowering
    poisoned = SinkPromises.poisoned

    @pytest.fixture(autouse=True)
    def _serve(self, debian):
        self.server = debian

    def _table(self, columns=""):
        return self.server.make_table(columns or "event_time Nullable(DateTime), event_type Nullable(String)")


@pytest.mark.servers
class TestZstd(TestClickhouse):
    how: ClassVar = {"compression": "zstd"}


KINDS = ("text", "integer", "number", "boolean", "timestamp", "json")


@pytest.mark.servers
class TestTable:
    """What the sink makes of a table, with the engine of today."""

    @pytest.fixture(autouse=True)
    def _serve(self, chdb):
        self.server = chdb

    def test_a_missing_table_is_named_with_its_statement_or_made(self):
        """Without `create` a person gets the statement, which works; with it the first batch makes the table."""
        with pytest.raises(SinkMisconfigured) as caught, _sink(self.server, "made_by_hand"):
            pass
        self.server.run(str(caught.value).partition("run: ")[2])
        for table, options in (("made_by_hand", {}), ("made_by_sink", {"create": True})):
            with _sink(self.server, table, **options) as sink:
                assert sink.guarantee is Guarantee.EFFECTIVELY_ONCE
                steps = list(sink.check())
                sink.deliver(make_batch(sample_events(3)))
                sink.deliver(make_batch(sample_events(3)))
            assert sorted(self.server.events(table)) == sample_events(3)
        assert "made_by_sink is not there; the first batch makes it" in steps[1]

    def test_columns_hold_what_fits_and_null_otherwise(self):
        """A value of another type is NULL in its column, whole in the event, and counted; nothing is rounded."""
        table = self.server.make_table("", WINDOW)
        columns = {f"a_{kind}": {"path": "v", "type": kind} for kind in KINDS}
        values = [b"1", b"1.5", b'"x"', b"true", b'"2024-05-01T14:00:00.25+02:00"', b"1e400", b"[1, 2]", b"null"]
        lines = [b'{"v":%b}' % value for value in values]
        with _sink(self.server, table, columns=columns) as sink:
            sink.deliver(make_batch(lines))
            misfits = {kind: sink.counts["values.misfitted", f"a_{kind}"] for kind in KINDS}
        names = ", ".join(f"toString({name})" for name in columns)
        rows = self.server.rows(f"SELECT {names} FROM {table} ORDER BY rowNumberInAllBlocks()")
        assert rows[:5] == [
            ["1", "1", "1", None, "1970-01-01 00:00:00.001000", "1"],
            ["1.5", None, "1.5", None, None, "1.5"],
            ["x", None, None, None, None, '"x"'],
            ["true", None, None, "true", None, "true"],
            [
                "2024-05-01T14:00:00.25+02:00",
                None,
                None,
                None,
                "2024-05-01 12:00:00.250000",
                '"2024-05-01T14:00:00.25+02:00"',
            ],
        ]
        assert [row[1:5] for row in rows[5:]] == [[None] * 4] * 3
        assert misfits == {"text": 0, "integer": 6, "number": 5, "boolean": 6, "timestamp": 5, "json": 0}
        assert self.server.events(table) == lines

    @pytest.mark.parametrize("contract", ["evolve", "freeze", "discard"])
    def test_a_missing_column_is_added_refused_or_left_out(self, contract):
        """As schema_contract says; what is left out is counted."""
        table = self.server.make_table("", WINDOW)
        options = {"columns": {"n": {"path": "n", "type": "integer"}}, "schema_contract": contract}
        sink = _sink(self.server, table, **options)
        if contract == "freeze":
            with pytest.raises(SinkMisconfigured, match="ADD COLUMN IF NOT EXISTS `n` Nullable"), sink:
                pass
            return
        with sink:
            sink.deliver(make_batch(sample_events(3)))
            assert list(sink.check())[-1].startswith("effectively once")
        there = {name for (name,) in self.server.rows(f"SELECT name FROM system.columns WHERE table = '{table}'")}
        assert ("n" in there) is (contract == "evolve")
        assert sink.counts["columns.added", "n"] == (contract == "evolve")
        assert sink.counts["values.discarded", "n"] == (3 if contract == "discard" else 0)
        assert self.server.events(table) == sample_events(3)

    def test_a_column_of_another_type_holds_the_sink(self):
        """Both types are named; and what the table has beside the columns gets its own defaults."""
        table = self.server.make_table(
            "event_time DateTime, event_type LowCardinality(String), n Int32, more Int8", WINDOW
        )
        with pytest.raises(SinkMisconfigured, match=r"'n' of table .* is Int32, but Nullable\(Int64\)"):
            _sink(self.server, table, columns={"n": {"path": "n", "type": "integer"}}).open()
        with _sink(self.server, table) as sink:
            sink.deliver(make_batch([*sample_events(1), b"{}"]))
        found = self.server.rows(f"SELECT toUnixTimestamp(event_time), event_type, more FROM {table} ORDER BY 1")
        assert found == [[0, "", 0], [1714564800, "pageView", 0]]

    def test_a_repeat_beyond_the_window_is_found_by_its_id(self):
        """The table forgets; a repeat that is known as one looks for its batch first."""
        table = self.server.make_table("", "SETTINGS non_replicated_deduplication_window = 2")
        batches = [make_batch(sample_events(2, start)) for start in range(0, 12, 2)]
        with _sink(self.server, table) as sink:
            for batch in [*batches, replace(batches[0], attempt=2)]:
                sink.deliver(batch)
        assert self.server.events(table) == sample_events(12)

    def test_every_other_engine_lowers_the_claim_and_says_why(self):
        """Without a window, or without a MergeTree, a repeat may be stored twice, and `check` says so."""
        for engine in ("MergeTree ORDER BY tuple()", "Memory"):
            table = self.server.make_table("", engine=engine)
            with _sink(self.server, table) as sink:
                assert sink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED
                assert "may still be stored twice" in list(sink.check())[-1]

    @given(
        st.lists(
            st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.floats(allow_nan=False)), min_size=1
        )
    )
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def test_an_event_is_stored_as_it_was_sent(self, made):
        """Byte for byte, whatever stands in it: separators, quotes, backslashes, tabs between the tokens."""
        lines = [_line(each, number) for number, each in enumerate(made)]
        table = self.server.make_table("", WINDOW)
        for compression in ("none", "gzip", "zstd"):
            with _sink(self.server, table, compression=compression) as sink:
                sink.deliver(make_batch(lines, salt=compression))
        assert self.server.events(table) == lines * 3
        self.server.run(f"DROP TABLE {table}")


def _line(made, number):
    finite = {name: value for name, value in made.items() if not (isinstance(value, float) and math.isinf(value))}
    text = msgspec.json.encode(finite)
    return text.replace(b'":', b'" \t: ', 1) if number % 2 else text


@pytest.mark.servers
class TestDaemon:
    """Refusals and holds through the daemon, with the engine of today."""

    @pytest.fixture(autouse=True)
    def _serve(self, chdb):
        self.server = chdb

    def _ferry(self, tmp_path, table, content, **options):
        ferry = Ferry(tmp_path)
        usual = {key: value for key, value in SCRIPTED.items() if key != "type"}
        ferry.sinks["out"] = {**usual, "type": "clickhouse", **self.server.options(table=table, **options)}
        ferry.put(f"{HOUR}/a.ndjson", content)
        ferry.open()
        ferry.index()
        return ferry

    def test_one_refused_event_among_many_becomes_one_dead_letter(self, tmp_path):
        """All others arrive; the letter has the file and the line, ClickHouse's words, and none of the event's."""
        table = self.server.make_table(REFUSES_POISON, WINDOW)
        content = events(700) + event(700, bad="poison secret") + events(299, 701)
        with self._ferry(tmp_path, table, content) as ferry:
            ferry.deliver(seconds=60)
            (letter,) = ferry.letters()
            assert letter.place == f"{HOUR}/a.ndjson:701"
            assert "VIOLATED_CONSTRAINT" in letter.reason
            assert "secret" not in letter.reason
            assert (ferry.book().delivered, ferry.book().dead) == (999, 1)
        assert len(self.server.events(table)) == 999

    def test_a_table_that_refuses_everything_holds_the_sink(self, tmp_path):
        """A wholly wrong table costs no dead letters: the sink is held until a person has mended it."""
        table = self.server.make_table("event_type Nullable(String), CONSTRAINT never CHECK length(event) < 0", WINDOW)
        with self._ferry(tmp_path, table, events(100)) as ferry:
            with ferry.working() as workers:
                workers["out"].flush()
                wait_until(lambda: ferry.sink().state == "held", 60, "the hold")
                assert ferry.letters() == []
                self.server.run(f"ALTER TABLE {table} DROP CONSTRAINT never")
            ferry.do("resume", sink="out")
            ferry.deliver(seconds=60)
            assert ferry.book().delivered == 100

    def test_a_missing_table_holds_the_sink_until_it_is_there(self, tmp_path):
        """The probe takes the delivery up by itself once the table was made."""
        with self._ferry(tmp_path, "not_yet", events(10)) as ferry, ferry.working() as workers:
            workers["out"].flush()
            wait_until(lambda: ferry.sink().state == "held", 60, "the hold")
            assert "CREATE TABLE" in ferry.sink().reason
            made = self.server.make_table("", WINDOW)
            self.server.run(f"RENAME TABLE {made} TO not_yet")
            wait_until(lambda: len(self.server.events("not_yet")) == 10, 60, "the delivery")

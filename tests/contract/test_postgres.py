"""The postgres sink keeps the contract, in real servers: the one that pip brings, and the machine's own."""

import contextlib
import datetime as dt
import itertools
import random
import re
import socket
import string
import threading
import time
import traceback
from contextlib import contextmanager
from typing import ClassVar

import psycopg
import pytest
import trustme
from tests.postgres_commits import PASSWORD, CommitPromises, events_in, new_table
from tests.postgres_server import machine_programs, pip_programs, postgres_server
from tests.servers import free_ports

from eventferry.errors import ConfigError
from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import CuttingProxy, Target, cut_batch, make_batch, replacing_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.postgres.sink import PostgresSink
from eventferry_sinks.postgres.table import quoted


@pytest.fixture(scope="module")
def server():
    with postgres_server(pip_programs()) as running:
        running.run(f"CREATE ROLE ferry LOGIN PASSWORD '{PASSWORD}'")
        yield running


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def older(authority):
    certificate = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
    with postgres_server(machine_programs(), certificate) as running:
        running.run(f"CREATE ROLE ferry LOGIN PASSWORD '{PASSWORD}'")
        yield running


def make(server, **options):
    return make_sink("postgres", "bi", {"dsn": server.dsn(), "create": True, **options})


class Promises(CommitPromises):
    """On a server over its unix socket, through a proxy where replies are to be lost."""

    sink_type = PostgresSink
    counterpart = "PostgreSQL 18 and 15"
    options: ClassVar = {"dsn": "postgresql://ferry@db.example.org/analytics"}
    secrets = (PASSWORD, "wrong secret")
    more: ClassVar = {}

    def place(self, **options):
        table = new_table()
        given = {"dsn": self.server.dsn(), "table": table, "create": True, **self.more, **options}
        return Target(lambda: make_sink("postgres", "bi", given), lambda: events_in(self.server, table))

    def proxy(self):
        return CuttingProxy(self.server.socket)

    @contextmanager
    def misconfigured(self):
        yield self.place(dsn=self.server.tcp(user="ferry"), password="wrong secret")

    @contextmanager
    def refusing(self):
        target = self.place()
        with target.sink() as sink:
            table = sink.options.table
        self.server.run(
            f"CREATE TABLE {table} (event_time timestamptz, event_type text, event {self.more.get('event_as', 'jsonb')}"
            " CHECK (false), batch_id text)"
        )
        yield target


class TestPostgres(Promises):
    exact = False  # jsonb keeps values, not spelling
    takes_nul = False

    @pytest.fixture(autouse=True)
    def _give_server(self, server):
        self.server = server


class TestPostgresJson(Promises):
    more: ClassVar = {"event_as": "json", "unique_event_id": "id"}  # no event of the kit has one

    @pytest.fixture(autouse=True)
    def _give_server(self, server):
        self.server = server


class TestOlder(TestPostgres):
    @pytest.fixture(autouse=True)
    def _give_server(self, older):
        self.server = older


def fails(error, sink, batch=None):
    """What the delivery says."""
    with pytest.raises(error) as caught:
        sink.deliver(batch or make_batch(sample_events(2)))
    return caught.value


@pytest.fixture
def table():
    return new_table()


@pytest.fixture
def new(server, table):
    return lambda **options: make(server, table=table, **options)


class TestColumns:
    def test_they_hold_what_fits_and_null_otherwise(self, server, new, table):
        """A value of another type is NULL there and untouched in the raw event; nothing is rounded or guessed."""
        types = ["text", "integer", "number", "boolean", "timestamp", "json"]
        noon = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
        zoned = "2024-05-01T14:00:00+02:00"
        early = dt.datetime(1970, 1, 1, 0, 0, 0, 12000, tzinfo=dt.UTC)
        cases = {
            "12": ("12", 12, 12.0, None, early, 12),
            "1.5": ("1.5", None, 1.5, None, None, 1.5),
            "true": ("true", None, None, True, None, True),
            '"yes\\t\\\\ \\n"': ("yes\t\\ \n", None, None, None, None, "yes\t\\ \n"),
            '"2024-05-01T14:00:00+02:00"': (zoned, None, None, None, noon, zoned),
            "9223372036854775808": (str(2**63), None, float(2**63), None, None, 2**63),
            '{"b":[1]}': ('{"b":[1]}', None, None, None, None, {"b": [1]}),
            "null": (None,) * 6,
        }  # fmt: skip
        server.run("ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'")  # what must not matter
        with new(columns={each: {"path": "a.v", "type": each} for each in types}) as sink:
            sink.deliver(make_batch([f'{{"a":{{"v":{value}}}}}'.encode() for value in cases]))
            assert sink.counts["values.misfitted", "boolean"] == 6
        found = server.run(f"SELECT {', '.join(map(quoted, types))} FROM {table} ORDER BY ctid")
        assert dict(zip(cases, found, strict=True)) == cases
        server.run("ALTER DATABASE postgres RESET timezone")

    def test_spelling_is_kept_by_json_alone(self, server, new, table):
        """jsonb keeps values, json and text the bytes: tabs, escapes, order and twins of keys."""
        event = b'{\t"b":1.50,"a":"\\u00e9\\\\\\/",\r"a":1 }'
        with new(event_as="text") as sink:
            sink.deliver(make_batch([event]))
        assert events_in(server, table) == [event]

    def test_a_new_column_joins_an_old_table(self, server, new, table):
        """evolve adds what is configured later and counts it; the type of a column never changes."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
        with new(columns={"n": {"path": "n", "type": "integer"}}) as sink:
            sink.deliver(make_batch(sample_events(1, 1)))
            assert sink.counts["columns.added", "n"] == 1
        assert server.run(f"SELECT n FROM {table} ORDER BY ctid") == [(None,), (1,)]
        with new(columns={"n": {"path": "n", "type": "boolean"}}) as sink:
            said = str(fails(SinkMisconfigured, sink))
        assert f"column 'n' of table {table} in " in said
        assert " is bigint, but boolean is configured" in said

    def test_freeze_holds_and_tells_the_statement(self, server, new, table):
        """A frozen table that lacks a column holds the sink; the statement that is told mends it."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
        with new(columns={"n": "n", "m": "m"}, schema_contract="freeze") as sink:
            said = str(fails(SinkMisconfigured, sink))
            server.run(said.partition("run: ")[2])
            sink.deliver(make_batch(sample_events(1, 1)))
        assert server.run(f"SELECT n FROM {table} ORDER BY ctid") == [(None,), ("1",)]

    def test_discard_leaves_out_and_counts(self, server, new, table):
        """Under discard the table stays as it is, and what is not kept in columns is counted."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
        with new(columns={"n": "n", "none": "nothing.here"}, schema_contract="discard") as sink:
            sink.deliver(make_batch(sample_events(3, 1)))
            assert sink.counts["values.discarded", "n"] == 3
            assert ("values.discarded", "none") not in sink.counts
            assert "it lacks n, none" in "\n".join(sink.check())
        assert len(events_in(server, table)) == 4

    def test_a_twin_in_case_is_named(self, server, new, table):
        """A table with "URL" gets no second column "url" beside it."""
        server.run(
            f'CREATE TABLE {table} (event jsonb, batch_id text, event_time timestamptz, event_type text, "URL" text)'
        )
        with new(columns={"url": "attributes.url"}) as sink:
            assert "'URL', which differs from 'url' in case only" in str(fails(SinkMisconfigured, sink))
        with new(columns={"URL": "attributes.url"}) as sink:
            sink.deliver(make_batch(sample_events(1)))
        assert server.run(f'SELECT "URL" FROM {table}') == [("https://example.org/0",)]

    def test_a_table_of_other_makers_is_taken(self, server, new, table):
        """Other types that hold the same, other columns, partitions and defaults do not matter."""
        server.run(
            f"CREATE TABLE {table} (id bigserial, event jsonb, batch_id uuid, event_time timestamp NOT NULL,"
            " event_type varchar, n numeric) PARTITION BY RANGE (event_time)",
            f"CREATE TABLE {table}_old PARTITION OF {table} FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        )
        old = make_batch(sample_events(3))
        with new(create=False, columns={"n": {"path": "n", "type": "integer"}}) as sink:
            sink.deliver(old)
            sink.deliver(replacing_batch(old, sample_events(2, 5), old.id))
            said = str(fails(BatchRejected, sink, make_batch([b'{"event_timestamp":1}'])))
        assert server.run(f"SELECT id, n, event_time FROM {table} ORDER BY id")[0] == (
            4,
            5,
            dt.datetime(2024, 5, 1, 12, 0, 5),
        )
        assert "no partition of relation" in said

    def test_the_event_as_another_type_is_said(self, server, new, table):
        """Who makes the table with json and configures jsonb is told the option."""
        server.run(f"CREATE TABLE {table} (event json, batch_id text, event_time timestamptz, event_type text)")
        with new() as sink:
            assert 'set event_as = "json"' in str(fails(SinkMisconfigured, sink))


class TestPeople:
    """What a person reads, and whether doing it helps."""

    def test_a_missing_table_comes_with_its_statement(self, server, new, table):
        """Without `create` the statement is told, and running it is enough."""
        with new(create=False, columns={"n": {"path": "n", "type": "integer"}}, unique_event_id="id") as sink:
            said = str(fails(SinkMisconfigured, sink))
            assert "; set create = true, or run: " in said
            with pytest.raises(SinkMisconfigured, match="there is no table"):
                list(sink.check())
            server.run(said.partition("run: ")[2])
            sink.deliver(make_batch(sample_events(2)))
        assert len(events_in(server, table)) == 2

    def test_missing_rights_come_with_their_grants(self, server):
        """A user without rights is told GRANT statements; each of them helps, in the order in which they are needed."""
        server.run("CREATE DATABASE strict", "CREATE ROLE clerk LOGIN")
        with make(server, dsn=server.dsn("strict", "clerk"), table="public.events") as sink:
            said = str(fails(SinkMisconfigured, sink))
            assert "permission denied for schema public" in said
            grants = re.findall(r"GRANT [^;(]+", said)
            server.run(grants[0], database="strict")
            sink.deliver(make_batch(sample_events(2)))
            server.run("REVOKE ALL ON events FROM clerk", "ALTER TABLE events OWNER TO postgres", database="strict")
            server.run("REVOKE ALL ON events FROM clerk", database="strict")
            assert "permission denied for table events" in str(
                fails(SinkMisconfigured, sink, make_batch(sample_events(1)))
            )
            server.run(grants[1], database="strict")
            sink.deliver(make_batch(sample_events(1)))
            assert "events may be replaced" in "\n".join(sink.check())

    def test_a_missing_schema_is_named(self, server):
        """A schema is never made, only asked for."""
        with make(server, table="nowhere.events") as sink:
            said = str(fails(SinkMisconfigured, sink))
            server.run(said.rpartition("create the schema: ")[2])
            sink.deliver(make_batch(sample_events(1)))
        assert server.run("SELECT count(*) FROM nowhere.events, nowhere.eventferry_batches") == [(1,)]

    def test_a_missing_schema_comes_with_both_statements(self, server):
        """Without `create`, too: running what is told is enough."""
        with make(server, table="absent.events", create=False) as sink:
            for statement in str(fails(SinkMisconfigured, sink)).partition("run: ")[2].split("; "):
                server.run(statement)
            sink.deliver(make_batch(sample_events(1)))
        assert server.run("SELECT count(*) FROM absent.events") == [(1,)]

    def test_a_view_is_told_apart_from_a_table(self, server, new, table):
        """COPY cannot write to one."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
        server.run(f"CREATE VIEW {table}_seen AS SELECT * FROM {table}")
        with make(server, table=f"{table}_seen") as sink:
            assert "has to be a table, not a view" in str(fails(SinkMisconfigured, sink))

    def test_a_column_that_must_be_filled_is_named_with_its_remedy(self, server, new, table):
        """It is another maker's."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
        server.run(f"ALTER TABLE {table} ADD COLUMN tenant text", f"UPDATE {table} SET tenant = ''")
        server.run(f"ALTER TABLE {table} ALTER COLUMN tenant SET NOT NULL")
        with new() as sink:
            said = str(fails(BatchRejected, sink))
        assert "(column tenant)" in said
        assert "fill that column by `columns`, or allow it to be empty" in said

    def test_a_check_tells_what_is_there(self, server, new, table):
        """The steps in order: before the first delivery, and after it."""
        with new(columns={"n": "n"}) as sink:
            before = list(sink.check())
            assert not server.run(f"SELECT 1 WHERE to_regclass('{table}') IS NOT NULL")
            sink.deliver(make_batch(sample_events(1)))
            after = list(sink.check())
        assert re.fullmatch(r"/tmp/pg-\w+/postgres runs PostgreSQL 18\.\d+.*", before[0])
        assert before[1:4] == [
            "it takes the user postgres, without TLS",
            "it takes writes",
            f"table {table} is not there yet and will be made by the first delivery",
        ]
        assert after[3] == f"table {table} has all 5 columns"
        assert after[5] == f"a batch can be written to {table} (tried and rolled back)"

    def test_a_database_with_fewer_characters_is_refused_by_the_check(self, server):
        """LATIN1 would turn events with other characters into dead letters one by one."""
        server.run("CREATE DATABASE old ENCODING 'LATIN1' TEMPLATE template0")
        with make(server, dsn=server.dsn("old")) as sink, pytest.raises(SinkMisconfigured, match="encoding LATIN1"):
            list(sink.check())

    def test_what_only_reads_is_told_and_awaited(self, server, new):
        """A delivery waits for the primary to come back; a check asks the person."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
        server.run("CREATE ROLE reader LOGIN SUPERUSER", "ALTER ROLE reader SET default_transaction_read_only = on")
        with new(dsn=server.dsn(user="reader")) as sink:
            assert fails(SinkUnavailable, sink).untouched
            with pytest.raises(SinkMisconfigured, match="only reads"):
                list(sink.check())

    @pytest.mark.parametrize(
        ("dsn", "more", "problem"),
        [
            ("mysql://u@h/d", {}, "dsn is not a connection URI"),
            ("postgresql://u:pw@h/d", {"password": "x"}, "dsn holds a password"),
            ("postgresql://u@h/d", {"table": "events\"; --"}, "is not a usable name"),
            ("postgresql://u@h/d", {"table": "x.eventferry_batches"}, "expected another name"),
            ("postgresql://u@h/d", {"unique_event_id": "id", "columns": {"Event_id": "id"}}, "expected another name"),
        ],
    )  # fmt: skip
    def test_options_that_cannot_be_are_refused(self, dsn, more, problem):
        """Mistakes that need no server are found without one."""
        with pytest.raises(ConfigError, match=problem):
            make_sink("postgres", "bi", {"dsn": dsn, **more})

    def test_a_dsn_that_cannot_be_used_is_named_without_its_text(self):
        """What libpq says of a broken string would quote it."""
        for dsn in ("postgresql://u:hush@h:port/d?x=1", "postgresql:///d"):
            with pytest.raises(SinkMisconfigured, match=r"^dsn ") as caught:
                make_sink("postgres", "bi", {"dsn": dsn}).open()
            assert "hush" not in "".join(traceback.format_exception(caught.value))


class TestPoison:
    @pytest.mark.parametrize(
        ("event", "words"),
        [
            (b'{"a":"SECRET\\u0000"}', "unsupported Unicode escape sequence (column event) [22P05]"),
            (b'{"a":["SECRET",1e999999]}', "value overflows numeric format (column event) [22003]"),
        ],
    )
    def test_it_is_refused_in_the_servers_words(self, server, new, table, event, words):
        """NUL, or a number too large for jsonb: the primary message and the column, never the event."""
        with new() as sink:
            batch = make_batch([*sample_events(3), event])
            problem = fails(BatchRejected, sink, batch)
            assert str(problem).endswith(words)
            assert "SECRET" not in "".join(traceback.format_exception(problem))
            assert sink.was_delivered(batch) is False
            sink.deliver(make_batch(sample_events(3)))
        assert len(events_in(server, table)) == 3

    def test_it_is_taken_as_json(self, server, new, table):
        """json takes both; a text column, which cannot hold a NUL, is NULL and counted."""
        events = [b'{"a":"\\u0000","n":1e999999}']
        with new(event_as="json", columns={"a": "a"}) as sink:
            sink.deliver(make_batch(events))
            assert sink.counts["values.misfitted", "a"] == 1
        assert events_in(server, table) == events

    def test_a_constraint_that_is_checked_at_commit(self, server, new, table):
        """A deferred constraint refuses at COMMIT, and that is certain."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
            server.run(f"ALTER TABLE {table} ADD UNIQUE (event_type) DEFERRABLE INITIALLY DEFERRED")
            assert "duplicate key" in str(fails(BatchRejected, sink, make_batch(sample_events(1, 1))))
        assert len(events_in(server, table)) == 1


class TestUniqueIds:
    def test_an_event_is_there_once_whatever_batch_brings_it(self, server, new, table):
        """The first one stays, within a batch and across batches; events without an id are all taken."""
        events = [b'{"id":"a","v":1}', b'{"id":"b"}', b'{"id":"a","v":2}', b"{}", b"{}"]
        with new(unique_event_id="id", event_as="json") as sink:
            sink.deliver(make_batch(events))
            sink.deliver(make_batch([b'{"id":"b","v":3}', b'{"id":"c"}'], salt="next"))
            assert sink.counts["events.repeated", "event_id"] == 2
        assert events_in(server, table) == [*events[:2], b"{}", b"{}", b'{"id":"c"}']

    def test_an_id_too_long_for_the_index_is_refused(self, new):
        """An over-long key refuses its event, in the server's words."""
        letters = "".join(random.Random(1).choices(string.ascii_letters, k=6000))  # that no compression shortens
        with new(unique_event_id="id") as sink:
            said = str(fails(BatchRejected, sink, make_batch([b'{"id":"%s"}' % letters.encode()])))
        assert "index row size" in said
        assert letters[:20] not in said

    def test_a_table_without_the_index_is_told_its_statement(self, server, new, table):
        """The index that the option needs is not made on a table that may be large; the statement is told."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
        with new(unique_event_id="n") as sink:
            said = str(fails(SinkMisconfigured, sink, make_batch(sample_events(2))))
            server.run(said.partition("unique index: ")[2])
            sink.deliver(make_batch(sample_events(2)))
        assert len(events_in(server, table)) == 3


class TestReplacing:
    def test_a_replacement_that_is_refused_leaves_all_as_it_was(self, server, new, table):
        """The old events stay, are known, and can still be replaced."""
        old = make_batch(sample_events(3))
        with new() as sink:
            sink.deliver(old)
            fails(BatchRejected, sink, replacing_batch(old, [b'{"a":"\\u0000"}'], old.id))
            assert len(events_in(server, table)) == 3
            assert sink.was_delivered(old)
            sink.deliver(replacing_batch(old, sample_events(2, 10), old.id))
        assert server.run(f"SELECT event->'n' FROM {table} ORDER BY 1") == [(10,), (11,)]

    def test_events_under_a_strange_id_are_not_replaced(self, server, new, table):
        """The same ranges from a batch that is not named would stay beside the new ones: a person is asked instead."""
        files = [sample_events(6)]
        old, other = cut_batch(files, 0, 4), cut_batch(files, 2, 6, "kit#2")
        with new() as sink:
            sink.deliver(old)
            sink.deliver(other)
            said = fails(SinkMisconfigured, sink, replacing_batch(old, sample_events(4, 10), old.id))
            assert re.search(f"a batch of a lost ledger.*{other.id}", str(said))
        assert len(events_in(server, table)) == 8

    def test_the_books_say_how_many_events_went_in(self, server, new, table):
        """What a differently cut batch repeats is not counted."""
        files = [sample_events(6)]
        with new() as sink:
            sink.deliver(cut_batch(files, 0, 4))
            sink.deliver(cut_batch(files, 2, 6))
        assert server.run(f"SELECT events FROM eventferry_batches WHERE table_name = '{table}' ORDER BY 1") == [
            (2,),
            (4,),
        ]


class TestTrouble:
    def test_a_connection_that_died_meanwhile_is_replaced(self, server, new, table):
        """A restart of the server between two deliveries is not even noticed."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
            server.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'eventferry'"
            )
            sink.deliver(make_batch(sample_events(1, 1)))
        assert len(events_in(server, table)) == 2

    def test_one_connection_serves_many_deliveries(self, server, new):
        """The connection is kept, after a refusal, too."""
        with new() as sink:
            sink.deliver(make_batch(sample_events(1)))
            question = (
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'eventferry' ORDER BY backend_start DESC"
            )
            first = server.run(question)[0]
            fails(BatchRejected, sink, make_batch([b'{"a":"\\u0000"}']))
            sink.deliver(make_batch(sample_events(1, 1)))
            assert server.run(question)[0] == first

    def test_a_lock_is_awaited_no_longer_than_the_deadline(self, server, new, table):
        """Somebody who holds the table makes it later, and certainly untouched; then it arrives."""
        with new(timeout="1s") as sink:
            sink.deliver(make_batch(sample_events(1)))
            with psycopg.connect(server.dsn()) as other:
                other.execute(f"LOCK TABLE {table}")
                problem = fails(SinkUnavailable, sink, make_batch(sample_events(1, 1)))
            assert problem.untouched
            assert "lock" in str(problem)
            sink.deliver(make_batch(sample_events(1, 1)))
        assert len(events_in(server, table)) == 2

    def test_a_server_without_free_connections_means_later(self, server, new):
        """All connections in use is nobody's mistake."""
        server.run("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
        with pytest.raises(SinkUnavailable, match="too many connections") as caught:
            new(dsn=server.dsn(user="crowd")).open()
        assert caught.value.untouched

    def test_a_user_that_does_not_exist_holds(self, server, new):
        """Unknown users and databases are for a person."""
        for dsn in (server.dsn(user="nobody_here"), server.dsn("no_such_database")):
            with pytest.raises(SinkMisconfigured, match="does not exist"):
                new(dsn=dsn).open()

    def test_a_password_is_asked_for(self, server, new):
        """Without a password the option is named; a wrong one is told by the server; the right one goes."""
        with pytest.raises(SinkMisconfigured, match="set the option `password`"):
            new(dsn=server.tcp(user="ferry")).open()
        new(dsn=server.tcp(user="ferry"), password=PASSWORD).open()

    @pytest.mark.parametrize("drip", [b"", b"N\0\0\0\5\0"])
    def test_a_login_that_never_ends_is_left(self, new, drip):
        """A server that takes the connection and says nothing, or asks for ever, is left at the deadline, untouched."""
        with silent_server(drip) as port:
            begun = time.monotonic()
            with pytest.raises(SinkUnavailable) as caught:
                new(dsn=f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable", timeout="500ms").open()
            assert time.monotonic() - begun < 1.5
            assert caught.value.untouched

    def test_an_attempt_that_still_commits_is_waited_for(self, server, new, table):
        """While an earlier attempt hangs in its COMMIT nobody says that it was in vain; once it ended, all is clear."""
        batch = make_batch(sample_events(2))
        with new(timeout="500ms") as sink:
            sink.deliver(make_batch(sample_events(1), salt="before"))
            with psycopg.connect(server.dsn()) as hanging:
                claim = f"INSERT INTO eventferry_batches VALUES ('{batch.id}', '{table}', 2)"
                hanging.execute(claim)
                with pytest.raises(SinkUnavailable):
                    sink.was_delivered(batch)
                assert fails(SinkUnavailable, sink, batch).untouched
                hanging.rollback()
                assert sink.was_delivered(batch) is False
                hanging.execute(claim)
                hanging.commit()
            assert sink.was_delivered(batch) is True

    def test_a_table_that_a_crash_empties_holds(self, server, new, table):
        """An unlogged table would lose what was confirmed: the sink is held until it is logged."""
        columns = "event jsonb, batch_id text, event_time timestamptz, event_type text"
        server.run(f"CREATE UNLOGGED TABLE {table} ({columns})")
        with new() as sink:
            assert "is UNLOGGED" in str(fails(SinkMisconfigured, sink))
            server.run(f"ALTER TABLE {table} SET LOGGED")
            sink.deliver(make_batch(sample_events(1)))
        assert len(events_in(server, table)) == 1

    def test_silence_before_commit_is_certain(self, server, new, table):
        """At the deadline before COMMIT was sent nothing can have been taken, and nothing is."""
        with CuttingProxy(server.socket) as proxy:
            dsn = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
            with new() as direct:
                direct.deliver(make_batch(sample_events(1)))
            with new(dsn=dsn, timeout="500ms") as sink:
                proxy.stall_after(b"COPY ")
                assert fails(SinkUnavailable, sink, make_batch(sample_events(1, 1))).untouched
                proxy.pass_all()
                sink.deliver(make_batch(sample_events(1, 1)))
        assert len(events_in(server, table)) == 2

    def test_the_next_host_is_tried(self, server, new, table):
        """Of several hosts the first that answers is taken, as after a failover."""
        dsn = f"postgresql://trusted@127.0.0.1:{free_ports(1)[0]},127.0.0.1:{server.port}/postgres?sslmode=disable"
        server.run("CREATE ROLE trusted LOGIN SUPERUSER")
        with new(dsn=dsn) as sink:
            sink.deliver(make_batch(sample_events(1)))
        assert len(events_in(server, table)) == 1

    def test_two_sinks_make_their_tables_at_once(self, server):
        """Tables and books that two instances make in the same moment are made once."""
        server.run("CREATE DATABASE crowded")
        failed = []

        def deliver(number):
            try:
                with make(server, dsn=server.dsn("crowded")) as sink:
                    sink.deliver(make_batch(sample_events(1, number)))
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=deliver, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not failed
        assert server.run("SELECT count(*) FROM events", database="crowded") == [(4,)]


@contextmanager
def silent_server(drip):
    """Takes connections, and sends `drip` for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve():
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        while not ended.wait(0.05):
                            client.sendall(drip)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


class TestEncryption:
    """Against the machine's own server: the one that pip brings is built without TLS."""

    @pytest.fixture
    def folder(self, authority, tmp_path):
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        return tmp_path

    def test_a_known_authority_is_verified(self, older, folder):
        """With ca_file the server's certificate and name are checked, and the check tells about TLS."""
        dsn = f"postgresql://ferry@127.0.0.1:{older.port}/postgres"
        with make(older, dsn=dsn, password=PASSWORD, ca_file=str(folder / "ca.pem")) as sink:
            assert "it takes the user ferry, under TLS" in itertools.islice(sink.check(), 2)

    def test_an_unknown_authority_holds(self, older, folder):
        """A certificate that somebody else issued is told as that, and so is a missing file."""
        dsn = f"postgresql://ferry@127.0.0.1:{older.port}/postgres"
        with pytest.raises(SinkMisconfigured, match="cannot be verified; name the authority"):
            make(older, dsn=dsn, password=PASSWORD, ca_file=str(folder / "other.pem")).open()
        with pytest.raises(SinkMisconfigured, match="is not there or cannot be read"):
            make(older, dsn=dsn, password=PASSWORD, ca_file=str(folder / "none.pem")).open()

    def test_a_server_without_tls_holds_where_it_is_wanted(self, server):
        """Nothing is sent in clear where TLS was asked for."""
        with pytest.raises(SinkMisconfigured, match="does not speak TLS"):
            make(server, dsn=f"postgresql://trusted@127.0.0.1:{server.port}/postgres", sslmode="require").open()

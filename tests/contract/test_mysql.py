"""The mysql sink keeps the contract, in a real MariaDB."""

import datetime as dt
import itertools
import json
import socket
import threading
from contextlib import contextmanager
from typing import ClassVar

import pytest
import trustme
from tests.mariadb_server import PASSWORD, USER, mariadb_server

from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, cut_batch, make_batch, replacing_batch, sample_events
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.registry import make_sink
from eventferry_sinks.mysql.sink import MysqlSink

pytestmark = pytest.mark.servers

COMMIT = b"\x03COMMIT"  # the command, not the isolation level READ COMMITTED
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def server(tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp("mariadb")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    # Besides TLS: every default that a sink must not rely on.
    flags = (
        f"--ssl-cert={folder / 'server.pem'}", f"--ssl-key={folder / 'server.pem'}", "--max-allowed-packet=4M",
        "--sql-mode=", "--character-set-server=latin1", "--default-time-zone=+05:00",
        "--default-storage-engine=MyISAM", "--transaction-isolation=SERIALIZABLE",
    )  # fmt: skip
    with mariadb_server(folder, *flags) as one:
        yield one


@pytest.fixture
def place(server):
    return Place(server)


class Place:
    """A new database of the server."""

    def __init__(self, server):
        self.server = server
        self.database = f"kit{next(_numbers)}"
        server.make_database(self.database)

    def make(self, **options):
        given = {
            "host": self.server.host, "port": self.server.port, "database": self.database, "user": USER,
            "password": PASSWORD, "tls": "off", "create": True, **options,
        }  # fmt: skip
        return make_sink("mysql", "bi", given)

    def target(self, **options):
        return Target(lambda: self.make(**options), self.arrived)

    def ask(self, statement, *values):
        return self.server.ask(statement, *values, database=self.database)

    def arrived(self):
        if not self.ask("SHOW TABLES LIKE 'events'"):
            return []
        return [event.encode() for (event,) in self.ask("SELECT event FROM events ORDER BY seq")]

    def made(self):
        """The same place, with its tables."""
        with self.make():
            return self


class TestMysql(SinkPromises):
    sink_type = MysqlSink
    counterpart = "MariaDB 10.11"
    records_parts = True
    options: ClassVar = {"host": "db.example.com", "database": "analytics", "user": "ferry"}
    secrets = (PASSWORD, "wr0ng-s3cret")
    poison = b'{"event_type":"poison"}'

    @pytest.fixture(autouse=True)
    def _give_server(self, server):
        self.server = server

    @property
    def place(self):
        return Place(self.server)

    @contextmanager
    def healthy(self):
        yield self.place.target()

    @contextmanager
    def with_columns(self, columns):
        yield self.place.target(columns=columns)

    @contextmanager
    def poisoned(self):
        place = self.place.made()
        place.ask("ALTER TABLE events ADD CONSTRAINT known CHECK (event_type <> 'poison')")
        yield place.target()

    @contextmanager
    def unreachable(self):
        with CuttingProxy(self.place.server.host, self.place.server.port) as proxy:
            port = proxy.port
        yield self.place.target(port=port)

    @contextmanager
    def misconfigured(self):
        yield self.place.target(password="wr0ng-s3cret")

    @contextmanager
    def refusing(self):
        place = self.place.made()
        place.ask("ALTER TABLE events ADD CONSTRAINT never CHECK (event_type = 'never')")
        yield place.target()

    @contextmanager
    def hanging(self):
        with self.proxied(timeout="1s") as (proxy, target):
            yield Target(target.sink, target.arrived, arm=lambda: proxy.stall_after(COMMIT))

    @contextmanager
    def losing_reply(self):
        with self.proxied() as (proxy, target):
            yield Target(target.sink, target.arrived, arm=lambda: proxy.cut_after(COMMIT))
            assert proxy.snapped

    @contextmanager
    def crashing_before(self):
        with self.proxied() as (proxy, target):
            yield Target(target.sink, target.arrived, arm=lambda: proxy.cut_before(COMMIT))
            assert proxy.snapped

    @contextmanager
    def proxied(self, **options):
        with CuttingProxy(self.server.host, self.server.port) as proxy:
            yield proxy, self.place.made().target(port=proxy.port, **options)


# -- what the columns hold ---------------------------------------------------------------------------------------------

NOON = dt.datetime(2024, 5, 1, 12)


def test_columns_hold_what_fits_and_null_otherwise(place):
    """A value of another type is NULL in its column and untouched in the raw event; nothing is rounded or guessed."""
    types = ["text", "integer", "number", "boolean", "timestamp", "json"]
    columns = {f"as_{kind}": {"path": "a.v", "type": kind} for kind in types}
    cases = {
        "12": ("12", 12, 12.0, None, dt.datetime(1970, 1, 1, 0, 0, 0, 12000), "12"),
        "1.5": ("1.5", None, 1.5, None, None, "1.5"),
        "true": ("true", None, None, 1, None, "true"),
        '"yes"': ("yes", None, None, None, None, '"yes"'),
        "1e400": ("1e400", None, None, None, None, "1e400"),
        "1.7976931348623157e308": ("1.7976931348623157e308", None, 1.7976931348623157e308, None, None,
                                   "1.7976931348623157e308"),
        "5e-324": ("5e-324", None, 5e-324, None, None, "5e-324"),
        "0.1": ("0.1", None, 0.1, None, None, "0.1"),
        '"2024-05-01T14:00:00.123456+02:00"': ("2024-05-01T14:00:00.123456+02:00", None, None, None,
                                               NOON.replace(microsecond=123456), '"2024-05-01T14:00:00.123456+02:00"'),
        "-62135596800000": ("-62135596800000", -62135596800000, -62135596800000.0, None, dt.datetime(1, 1, 1),
                            "-62135596800000"),
        "253402300799999": ("253402300799999", 253402300799999, 253402300799999.0, None,
                            dt.datetime(9999, 12, 31, 23, 59, 59, 999000), "253402300799999"),
        "-9223372036854775808": ("-9223372036854775808", -(2**63), -float(2**63), None, None, "-9223372036854775808"),
        "9223372036854775808": ("9223372036854775808", None, float(2**63), None, None, "9223372036854775808"),
        '{"b":1.0}': ('{"b":1.0}', None, None, None, None, '{"b":1.0}'),
        "null": (None,) * 6,
    }  # fmt: skip
    events = [f'{{"a":{{"v":{value}}}}}'.encode() for value in cases]
    with place.make(columns=columns) as sink:
        sink.deliver(make_batch(events))
        assert sink.counts["values.misfitted", "as_integer"] == 10
    rows = place.ask(f"SELECT {', '.join(columns)} FROM events ORDER BY seq")
    assert dict(zip(cases, rows, strict=True)) == cases
    assert place.arrived() == events


def test_texts_are_kept_to_the_letter(place):
    """Quotes, backslashes, NUL, line breaks, emoji and SQL are only text, in a column as in the raw event."""
    texts = [
        "it's",
        "''",
        "\\",
        "\\'",
        "a\0b",
        "a\nb\r\t",
        "🚢 ü",
        "'); DROP TABLE events; -- ",
        " spaces ",
        "%s",
        "",
        "\u2028",
    ]
    events = [json.dumps({"t": text}, ensure_ascii=number % 2 == 0).encode() for number, text in enumerate(texts)]
    with place.make(columns={"t": "t"}) as sink:
        sink.deliver(make_batch(events))
    assert [text for (text,) in place.ask("SELECT t FROM events ORDER BY seq")] == texts
    assert place.arrived() == events


def test_a_text_that_is_longer_than_its_column_is_not_cut(place):
    """In a table that somebody made with shorter columns such a value is NULL and counted; its event has it whole."""
    place.made().ask(
        "ALTER TABLE events ADD short VARCHAR(4) CHARACTER SET utf8mb4, ADD bytes TINYTEXT CHARACTER SET utf8mb4"
    )
    texts = ["four", "fünf", "fifth", "🚢🚢🚢🚢", "ü" * 127, "ü" * 128]
    with place.make(columns={"short": "t", "bytes": "t"}) as sink:
        sink.deliver(make_batch([json.dumps({"t": text}).encode() for text in texts]))
        assert (sink.counts["values.misfitted", "short"], sink.counts["values.misfitted", "bytes"]) == (3, 1)
    assert place.ask("SELECT short, bytes FROM events ORDER BY seq") == [
        ("four", "four"), ("fünf", "fünf"), (None, "fifth"), ("🚢🚢🚢🚢", "🚢🚢🚢🚢"), (None, "ü" * 127), (None, None),
    ]  # fmt: skip


def test_what_is_too_long_for_the_raw_column_is_refused(place):
    """Nothing is cut in silence: the batch is refused, nothing of it is there, and the words quote no event."""
    place.made().ask("ALTER TABLE events MODIFY event VARCHAR(40) CHARACTER SET utf8mb4 NOT NULL")
    with place.make() as sink, pytest.raises(BatchRejected, match=r"too long .*'event'.*1406") as caught:
        sink.deliver(make_batch([b"{}", b'{"secret":"' + b"x" * 40 + b'"}']))
    assert "xx" not in str(caught.value)
    assert place.arrived() == []


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_missing_table_is_named_with_its_statement(place):
    """Nothing is created unasked; the statements of the messages make tables that work."""
    with pytest.raises(SinkMisconfigured, match="set create = true, or run: ") as caught:
        place.make(create=False).open()
    statements = str(caught.value).partition("run: ")[2].split("; ")
    assert len(statements) == 3
    for statement in statements:
        place.ask(statement)
    with place.make(create=False) as sink:
        sink.deliver(make_batch(sample_events(3)))
    assert place.arrived() == sample_events(3)


def test_the_contract_says_what_happens_to_a_new_column(place):
    """evolve adds it, freeze names the statement, discard leaves it out and counts its values."""
    place.made()
    column = {"n": {"path": "n", "type": "integer"}}
    with pytest.raises(
        SinkMisconfigured, match=r"lacks the column 'n'.*run: ALTER TABLE `events` ADD COLUMN `n` BIGINT$"
    ):
        place.make(columns=column, schema_contract="freeze").open()
    with place.make(columns=column, schema_contract="discard") as sink:
        sink.deliver(make_batch(sample_events(2)))
        assert sink.counts["values.discarded", "n"] == 2
    with place.make(columns=column) as sink, place.make(columns=column) as twin:
        assert (sink.counts["columns.added", "n"], twin.counts["columns.added", "n"]) == (1, 0)
        sink.deliver(make_batch(sample_events(2, 2)))
        twin.deliver(make_batch(sample_events(2, 4)))
    assert place.ask("SELECT n FROM events ORDER BY seq") == [(None,), (None,), (2,), (3,), (4,), (5,)]


def test_a_column_that_joins_a_table_of_other_letters_takes_all(place):
    """Where the table's own character set is narrower, an added column is utf8mb4 all the same."""
    columns = "event LONGTEXT CHARACTER SET utf8mb4, batch_id CHAR(32)"
    place.ask(f"CREATE TABLE events ({columns}) ENGINE=InnoDB CHARACTER SET latin1")
    with place.make(columns={"t": "t"}) as sink:
        sink.deliver(make_batch(['{"t":"🚢"}'.encode()]))
    assert place.ask("SELECT t, event FROM events") == [("🚢", '{"t":"🚢"}')]


@pytest.mark.parametrize(
    ("altered", "words"),
    [
        ("ADD n INT", "column 'n' of table events is int.*, but BIGINT is configured"),
        ("ADD n BIGINT UNSIGNED", "column 'n' .* is bigint.* unsigned, but BIGINT"),
        ("ADD n TEXT CHARACTER SET latin1", "column 'n' .*but BIGINT"),
        ("MODIFY event_time DATETIME", "column 'event_time' .* is datetime, but DATETIME\\(6\\)"),
        ("MODIFY event_type TEXT CHARACTER SET latin1", "event_type .* is latin1.*CHARACTER SET utf8mb4"),
        ("ENGINE=MyISAM", "events is MyISAM, which has no transactions; run: ALTER TABLE `events` ENGINE=InnoDB"),
        ("DROP KEY event_id", "event_id .* no unique key.*ADD UNIQUE KEY"),
    ],
)
def test_a_table_that_would_not_keep_everything_is_refused(place, altered, words):
    """Narrower types, narrower character sets, an engine without transactions: the sink is held with the remedy."""
    options = {
        "columns": {"n": {"path": "n", "type": "integer"}} if "ADD n" in altered else {},
        "unique_event_id": "id",
    }
    with place.make(unique_event_id="id"):
        place.ask(f"ALTER TABLE events {altered}")
    with pytest.raises(SinkMisconfigured, match=words):
        place.make(**options).open()


def test_unique_event_ids_are_kept_once(place):
    """An event whose id is there is not added again; ids that differ in case or a space are different; none is none."""
    ids = ["a", "a", "A", "a ", None, None, "x" * 255, "x" * 256, "x" * 256]
    events = [json.dumps({"id": each, "n": n} if each else {"n": n}).encode() for n, each in enumerate(ids)]
    with place.make(unique_event_id="id") as sink:
        sink.deliver(make_batch(events))
        sink.deliver(make_batch([events[0], b'{"id":"new"}'], salt="other"))
        assert sink.counts["values.misfitted", "event_id"] == 2
        place.ask("ALTER TABLE events ADD CONSTRAINT known CHECK (event_type <> 'poison')")
        with pytest.raises(BatchRejected):  # IGNORE would have dropped it in silence
            sink.deliver(make_batch([b'{"id":"bad","event_type":"poison"}']))
    assert place.arrived() == [events[0], *events[2:], b'{"id":"new"}']


def test_events_of_any_size_arrive_and_larger_ones_are_refused_by_name(place):
    """Statements stay within max_allowed_packet; an event that alone is longer is refused, and the rest is taken."""
    large = [b'{"n":%d,"fill":"%b"}' % (n, b"'" * 1_500_000) for n in range(3)]
    with place.make() as sink:
        sink.deliver(make_batch(large))
        with pytest.raises(BatchRejected, match="max_allowed_packet is 4,194,304"):
            sink.deliver(make_batch([b"{}", b'{"fill":"' + b"'" * 2_100_000 + b'"}']))
        sink.deliver(make_batch([b"{}"]))
    assert place.arrived() == [*large, b"{}"]


# -- one transaction ---------------------------------------------------------------------------------------------------


def test_a_twin_under_way_is_waited_for(place):
    """While another attempt holds the batch's id, a second one and the question wait for what it decides."""
    batch = make_batch(sample_events(3))
    for is_committed in (False, True):
        place.made().ask("TRUNCATE eventferry_batches")
        other = place.server.connect(place.database)
        with other, other.cursor() as cursor, place.make() as sink, place.make() as asking:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO eventferry_batches VALUES (%s, 'events', 3)", [batch.id])
            answers = []
            threads = [
                threading.Thread(target=lambda call, to: to.append(call(batch)), args=(call, answers))
                for call in (sink.deliver, asking.was_delivered)
            ]
            for thread in threads:
                thread.start()
                thread.join(0.2)
                assert thread.is_alive(), "it did not wait"
            cursor.execute("COMMIT" if is_committed else "ROLLBACK")
            for thread in threads:
                thread.join(20)
        assert None in answers
        if is_committed:
            assert True in answers
            assert len(place.arrived()) == 3, "what the first round added, and nothing more"
        else:
            assert place.arrived() == sample_events(3)


def test_a_lock_that_is_not_let_go_means_later(place):
    """A twin that never ends: the server says so before the deadline, and nothing was taken."""
    batch = make_batch(sample_events(3))
    other = place.made().server.connect(place.database)
    with other, other.cursor() as cursor, place.make(timeout="2s") as sink:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO eventferry_batches VALUES (%s, 'events', 3)", [batch.id])
        with pytest.raises(SinkUnavailable, match=r"1205.*held a lock") as caught:
            sink.deliver(batch)
        assert caught.value.untouched
        with pytest.raises(SinkUnavailable):
            sink.was_delivered(batch)


def test_a_twin_that_vanished_blocks_for_a_moment_only(place):
    """An attempt whose machine is gone without a word is ended by the server a second after its deadline."""
    batch = make_batch(sample_events(3))
    with place.make(timeout="1s") as gone, place.make() as sink:
        gone._connection.begin()
        gone._write(gone._connection, batch)
        sink.deliver(batch)
    assert place.arrived() == sample_events(3)


def test_a_connection_that_breaks_before_the_commit_took_nothing(place):
    """Cut in the middle of the events the attempt is untouched; cut after COMMIT it is unknown, and known later."""
    batch = make_batch(sample_events(2_000))
    with CuttingProxy(place.server.host, place.server.port) as proxy:
        with place.make(port=proxy.port) as sink:
            proxy.cut_before(b'"n":1500,')
            with pytest.raises(SinkUnavailable) as caught:
                sink.deliver(batch)
            assert caught.value.untouched
            assert place.arrived() == []
            proxy.cut_after(COMMIT)
            with pytest.raises(SinkUnavailable, match="unknown") as caught:
                sink.deliver(batch)
            assert not caught.value.untouched
            assert sink.was_delivered(batch)
        assert proxy.snapped == 2
    assert place.arrived() == sample_events(2_000)


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(place):
    """What stood idle for too long costs no attempt."""
    with place.make() as sink:
        sink.deliver(make_batch(sample_events(1)))
        ((id_,),) = place.ask(
            "SELECT id FROM information_schema.processlist WHERE user = %s AND db = %s", USER, place.database
        )
        place.ask(f"KILL {id_}")
        sink.deliver(make_batch(sample_events(1, 1)))
    assert place.arrived() == sample_events(2)


def test_events_under_a_strange_id_are_not_replaced(place):
    """The same ranges from a batch that is not named would stay beside the new ones: a person is asked instead."""
    files = [sample_events(6)]
    old, other = cut_batch(files, 0, 4), cut_batch(files, 2, 6, "kit#2")
    with place.make() as sink:
        sink.deliver(old)
        sink.deliver(other)
        with pytest.raises(SinkMisconfigured, match=f"a batch of a lost ledger.*{other.id}"):
            sink.deliver(replacing_batch(old, sample_events(4, 10), old.id))
        assert len(place.arrived()) == 8
        sink.deliver(replacing_batch(old, sample_events(4, 10), old.id, other.id))
    assert place.arrived() == sample_events(4, 10)


def test_two_tables_of_one_database_share_the_books(place):
    """Two sinks may fill two tables, also with batches of the same id."""
    with place.make(table="a") as one, place.make(table="b") as two:
        for sink in (one, two, one):
            sink.deliver(make_batch(sample_events(2)))
    assert place.ask("SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)") == [(2, 2)]


# -- the server says no ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"password": "wrong"}, "1045.*check `user` and `password`"),
        ({"user": "nobody"}, "1045|1698"),
        ({"database": "elsewhere"}, "1044|1049"),
        ({"tls": "verify"}, "certificate cannot be verified .*ca_file"),
        ({"tls": "verify", "ca_file": "/no/such.pem"}, "ca_file /no/such.pem is not there"),
    ],
)
def test_what_a_person_must_mend_is_said(place, options, words):
    """Wrong logins, databases and certificates hold the sink, by name."""
    with pytest.raises(SinkMisconfigured, match=words):
        place.make(**options).open()


def test_a_missing_right_is_named_with_its_statement(place):
    """A user without the right to delete is told what to grant, by the check already; nothing is left of it."""
    place.made().ask(f"REVOKE DELETE ON {place.database}.* FROM {USER}")
    with place.make() as sink, pytest.raises(SinkMisconfigured, match=f"1142.*GRANT .*DELETE.*`{place.database}`"):
        list(sink.check())
    assert place.arrived() == []


def test_tls_is_verified(place, authority, tmp_path):
    """With the authority's certificate the server is trusted under its name, and only under that."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    options = {"tls": "verify", "ca_file": str(tmp_path / "ca.pem")}
    with place.make(host="localhost", **options) as sink:
        assert "under TLS" in next(sink.check())
        sink.deliver(make_batch(sample_events(2)))
    with pytest.raises(SinkMisconfigured, match="certificate"):
        place.make(host="127.0.0.1", **options).open()
    with place.make(tls="require") as sink:
        assert "under TLS" in next(sink.check())
    assert place.arrived() == sample_events(2)


def test_a_server_that_is_read_only_for_now_means_later(place):
    """It took nothing, and is asked again."""
    with place.made().make() as sink:
        place.ask("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(SinkUnavailable, match="1290") as caught:
                sink.deliver(make_batch(sample_events(1)))
            assert caught.value.untouched
        finally:
            place.ask("SET GLOBAL read_only = 0")
        sink.deliver(make_batch(sample_events(1)))
    assert place.arrived() == sample_events(1)


def test_too_many_connections_mean_later(place):
    """The second connection of a user who may have one is asked for again, and takes the place of the first."""
    place.ask(f"ALTER USER {USER} WITH MAX_USER_CONNECTIONS 1")
    try:
        with place.make(), pytest.raises(SinkUnavailable, match=r"1226.*raise the limits") as caught:
            place.make().open()
        assert caught.value.untouched
    finally:
        place.ask(f"ALTER USER {USER} WITH MAX_USER_CONNECTIONS 0")
    with place.make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    assert place.arrived() == sample_events(1)


def test_a_check_tells_when_the_server_may_forget(place):
    """A server that does not sync its commits loses what it confirmed: the operator is told."""
    place.ask("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    try:
        with place.make() as sink:
            assert any("innodb_flush_log_at_trx_commit is 2" in step for step in sink.check())
    finally:
        place.ask("SET GLOBAL innodb_flush_log_at_trx_commit = 1")


def test_something_else_at_the_port_is_not_taken_for_a_server(place):
    """An answer in another protocol is later, not a bug, and nothing is left open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            client, _ = listener.accept()
            with client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SinkUnavailable) as caught:
            place.make(port=listener.getsockname()[1], timeout="3s").open()
        thread.join(5)
    assert caught.value.untouched

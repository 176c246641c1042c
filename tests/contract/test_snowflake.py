"""The snowflake sink keeps the contract: Snowflake's own driver against fakesnow's server."""

import datetime as dt
import json
import time
import traceback
import uuid
from contextlib import contextmanager
from typing import ClassVar

import pytest
from pydantic import ValidationError
from tests.contract.receiver import dripping, nobody
from tests.snowflake_server import snowflake_server

from eventferry.sink import BatchRejected, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, cut_batch, make_batch, replacing_batch, sample_events
from eventferry.sink.kit.arriving import ArrivingPromises
from eventferry.sink.registry import make_sink
from eventferry_sinks.snowflake.sink import SnowflakeSink

pytestmark = [
    pytest.mark.servers,
    pytest.mark.filterwarnings("ignore:Arrow output on a DB-API result:UserWarning"),  # fakesnow's own
]

PASSWORD = "snow-4711"


@pytest.fixture(scope="module")
def server():
    with snowflake_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _give_server(request, server):
    if request.instance is not None:
        request.instance.server = server
    yield
    server.trap = None


def _rows(server, database, sql):
    from snowflake.connector.errors import ProgrammingError

    with server.cursor(database) as cursor:
        try:
            return cursor.execute(sql).fetchall()
        except ProgrammingError:  # no table yet
            return []


def _events(server, database):
    return [event.encode() for (event,) in _rows(server, database, 'SELECT "EVENT"::VARCHAR FROM "EVENTS"')]


def _database():
    return f"db_{uuid.uuid4().hex[:12]}"


class TestSnowflake(SinkPromises):
    sink_type = SnowflakeSink
    counterpart = "fakesnow"
    records_parts = True
    deadline = 4.0  # a login and the table's making are within it, on a busy machine, too
    secrets = (PASSWORD,)
    options: ClassVar = {
        "account": "acme-main",
        "user": "ferry",
        "password": PASSWORD,
        "warehouse": "w",
        "database": "d",
    }
    more: ClassVar = {}

    @contextmanager
    def _place(self, arm=lambda: None, **options):
        database = _database()
        options = self.server.options(database, **{**self.more, **options})
        yield Target(lambda: make_sink("snowflake", "wh", options), lambda: _events(self.server, database), arm=arm)
        self.server.trap = None

    def healthy(self):
        return self._place()

    def with_columns(self, columns):
        return self._place(columns=columns)

    def misconfigured(self):
        return self._place(create=False)

    def hanging(self):
        return self._place(lambda: self.server.arm("stall", "COPY INTO"), timeout=self.deadline)

    def losing_reply(self):
        return self._place(lambda: self.server.arm("after", "COMMIT"))

    def crashing_before(self):
        return self._place(lambda: self.server.arm("before", "COMMIT"))

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            options = {**self.options, "endpoint": url, **self.more}
            yield Target(lambda: make_sink("snowflake", "wh", options))

    @contextmanager
    def refusing(self):
        said = {"errorCode": "003001", "sqlState": "42501"}
        answer = {"success": False, "code": "003001", "data": said, "message": "Insufficient privileges to operate"}
        with self._place() as target:
            self.server.arm((200, json.dumps(answer).encode()), "COPY INTO")
            yield target


class TestSnowflakeText(ArrivingPromises):
    """The event as text."""

    sink_type = SnowflakeSink

    @contextmanager
    def healthy(self):
        database = _database()
        options = self.server.options(database, event_as="string")
        yield Target(lambda: make_sink("snowflake", "wh", options), lambda: _events(self.server, database))


@pytest.fixture
def database():
    return _database()


@pytest.fixture
def make(server, database):
    return lambda **options: make_sink("snowflake", "wh", server.options(database, **options))


def test_a_call_that_drips_ends_at_the_deadline(server):
    """A server that answers a byte now and then is left at the total deadline, at the login already."""
    with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a") as url:
        options = server.options("d", endpoint=url.removesuffix("/in"), timeout=1)
        with pytest.raises(SinkUnavailable, match="did not finish within 1 s"):
            make_sink("snowflake", "wh", options).open()


@pytest.mark.parametrize("place", ["PUT 'file", "PUT /fs_bucket", "BEGIN", "UPDATE"])
def test_any_call_of_a_delivery_ends_at_the_deadline(server, make, database, place):
    """Upload and statements alike; the lock is let go, so that the next attempt goes well."""
    batch = make_batch(sample_events(2))
    with make(timeout=4) as sink:
        began = time.monotonic()
        server.arm("stall", place)
        with pytest.raises(SinkUnavailable, match="did not finish within 4 s") as caught:
            sink.deliver(batch)
        assert time.monotonic() - began < 5
        assert not caught.value.untouched
    with make() as sink:
        sink.deliver(batch)
    assert _events(server, database) == sample_events(2)


def test_columns_hold_what_fits_exactly(server, make, database):
    """Each type arrives as it is: integers beyond 2^53 to the last digit, times in UTC, misfits as NULL, counted."""
    types = ["text", "integer", "number", "boolean", "timestamp", "json"]
    columns = {f"as_{type}": {"path": "v", "type": type} for type in types}
    values = ["9007199254740993", '"soon"', "0.5", "true", '{"a": [1.0]}', '"2024-05-01T14:00:00.5+02:00"']
    with make(columns=columns) as sink:
        sink.deliver(make_batch([f'{{"v":{value}}}'.encode() for value in values]))
        assert sink.counts["values.misfitted", "as_integer"] == 5
    names = ", ".join(columns)
    rows = _rows(server, database, f"SELECT {names}, AS_TIMESTAMP IS NULL, EVENT_TIME IS NULL FROM EVENTS")
    described = {row[0]: row[1] for row in _rows(server, database, "DESCRIBE TABLE EVENTS")}
    assert described["AS_INTEGER"] == "NUMBER(38,0)"
    assert described["AS_TIMESTAMP"] == "TIMESTAMP_NTZ(9)"
    assert rows[0][1] == 9007199254740993
    assert [row[1] for row in rows[1:]] == [None] * 5
    assert rows[2][2] == 0.5
    assert rows[3][3] is True
    assert json.loads(rows[4][5]) == {"a": [1.0]}
    assert rows[5][4] == dt.datetime(2024, 5, 1, 12, 0, 0, 500000)
    assert [row[6] for row in rows] == [True, True, True, True, True, False]
    assert all(row[7] for row in rows)


def test_what_is_staged_is_removed(server, make, database):
    """After a delivery, a repeat and a check the stage is empty, and the books know the batch."""
    batch = make_batch(sample_events(3))
    with make() as sink:
        sink.deliver(batch)
        sink.deliver(batch)
        list(sink.check())
    assert _rows(server, database, "LIST @EVENTFERRY_STAGE") == []
    assert _rows(server, database, "SELECT * FROM EVENTFERRY_BATCHES") == [(batch.id, "EVENTS", 3)]
    assert _events(server, database) == sample_events(3)


def test_a_missing_table_is_named_with_its_statement(make, database):
    """Without `create` the message holds the SQL that makes the table."""
    place = f'"{database.upper()}"."PUBLIC"."EVENTS"'
    with pytest.raises(SinkMisconfigured) as caught:
        make(create=False).open()
    assert (
        f"there is no table {place}; set create = true, or run: CREATE TABLE IF NOT EXISTS {place}"
        ' ("EVENT_TIME" TIMESTAMP_NTZ, "EVENT_TYPE"'
        ' VARCHAR, "EVENT" VARIANT, "BATCH_ID" VARCHAR)'
    ) in str(caught.value)


def test_a_new_column_meets_the_schema_contract(server, make, database):
    """evolve adds it and counts it, freeze names the statement, discard leaves it out and counts its values."""
    new = {"columns": {"n": {"path": "n", "type": "integer"}}}
    with make():
        pass
    with pytest.raises(
        SinkMisconfigured, match=r"lacks the column 'n'.* run: ALTER TABLE .* ADD COLUMN \"N\" NUMBER\(38,0\)"
    ):
        make(schema_contract="freeze", **new).open()
    with make(schema_contract="discard", **new) as sink:
        sink.deliver(make_batch(sample_events(3)))
        assert sink.counts["values.discarded", "n"] == 3
    with make(**new) as sink:
        assert sink.counts["columns.added", "n"] == 1
        sink.deliver(make_batch(sample_events(1, 3)))
    assert _rows(server, database, "SELECT N FROM EVENTS") == [(None,), (None,), (None,), (3,)]


def test_a_table_that_cannot_do_is_refused(server, make, database):
    """Another type, or a column that must have a value and gets none, holds the sink and names the remedy."""
    with make():
        pass
    with pytest.raises(
        SinkMisconfigured, match=r"column 'event_type' .* is VARCHAR\(16777216\), but FLOAT is configured"
    ):
        make(columns={"event_type": {"path": "event_type", "type": "number"}}).open()
    with pytest.raises(SinkMisconfigured, match=r"column 'event' .* set event_as = "):
        make(event_as="string").open()
    _rows(server, database, "CREATE TABLE OTHER (WHO VARCHAR NOT NULL, EVENT VARIANT, BATCH_ID VARCHAR)")
    with pytest.raises(SinkMisconfigured, match=r'column WHO .* ALTER COLUMN "WHO" DROP NOT NULL'):
        make(table="other").open()


@pytest.mark.parametrize(
    ("number", "message", "kind", "words"),
    [
        (100038, "Numeric value 'hush' is not recognized", BatchRejected, "not recognized"),
        (100069, 'Error parsing JSON: "hush"', BatchRejected, "Error parsing JSON"),
        (2003, "SQL compilation error:\nStage 'X' does not exist or not authorized.", SinkMisconfigured, "GRANTs"),
        (3001, "SQL access control error:\nInsufficient privileges", SinkMisconfigured, "Insufficient privileges"),
        (606, "No active warehouse selected in the current session.", SinkMisconfigured, "running warehouse"),
        (90073, "Warehouse cannot be resumed because resource monitor", SinkMisconfigured, "resource monitor"),
        (625, "Statement 'x' has locked table 'Y' in transaction 17", SinkUnavailable, "ABORT_TRANSACTION"),
        (630, "Statement reached its statement or warehouse timeout", SinkUnavailable, "timeout"),
        (603, "SQL execution internal error:\nProcessing aborted by error 300010", SinkUnavailable, "internal problem"),
        (390111, "Session no longer exists. New login required.", SinkUnavailable, "session is over"),
        (390114, "Authentication token has expired.", SinkUnavailable, "session is over"),
        (4711, "A word that nobody knows", SinkMisconfigured, "nobody knows"),
    ],
)
def test_an_error_number_says_what_to_do(server, make, database, number, message, kind, words):
    """Data: bisect. Names, rights, warehouses: a person. Locks and timeouts: later. Nothing of the batch is there."""
    answer = {"success": False, "code": f"{number:06d}", "message": message}
    answer["data"] = {"errorCode": f"{number:06d}", "sqlState": "42000"}
    with make() as sink:
        server.arm((200, json.dumps(answer).encode()), "INSERT INTO")
        with pytest.raises(kind, match=words) as caught:
            sink.deliver(make_batch(sample_events(2)))
        assert "hush" not in str(caught.value)
        assert getattr(caught.value, "untouched", True)
        assert not _events(server, database)
        sink.deliver(make_batch(sample_events(2)))
    assert _events(server, database) == sample_events(2)


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_status_is_not_retried_by_the_driver(server, make, database, status):
    """What the driver would try again for minutes is said at once; the daemon decides."""
    with make() as sink:
        server.arm((status, b"busy"), "COMMIT")
        with pytest.raises(SinkUnavailable, match=str(status)) as caught:
            sink.deliver(make_batch(sample_events(2)))
        assert caught.value.untouched == (status == 429)
        sink.deliver(make_batch(sample_events(2)))
    assert server.snapped
    assert _events(server, database) == sample_events(2)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("390100", "Incorrect username or password was specified."),
        ("390144", "JWT token is invalid."),
        ("390189", "Role 'FERRY' specified in the connect string does not exist or not authorized."),
        ("390201", "The requested warehouse does not exist or not authorized."),
    ],
)
def test_a_refused_login_holds_the_sink(server, make, number, message):
    """Whatever number the refusal has: a wrong password that is tried again and again would lock the user out."""
    answer = {"success": False, "code": number, "message": message, "data": {"nextAction": "RETRY_LOGIN"}}
    server.arm((200, json.dumps(answer).encode()), "POST /session/v1/login-request")
    with pytest.raises(SinkMisconfigured, match=f"refuses to log in .*{number}") as caught:
        make().open()
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("status", "words"), [(403, "no such account"), (404, "check account")])
def test_an_account_that_is_not_there_holds_the_sink(server, make, status, words):
    """The answer to a wrong account is said at once; the driver would ask again until the deadline."""
    server.arm((status, b"no"), "POST /session/v1/login-request")
    started = time.monotonic()
    with pytest.raises(SinkMisconfigured, match=words):
        make(timeout=60.0).open()
    assert time.monotonic() - started < 30


def test_a_wrong_login_holds_the_sink(make, monkeypatch):
    """What the driver itself says of a login it could not finish is a matter for a person, too."""
    from snowflake.connector import auth
    from snowflake.connector.errors import DatabaseError

    def refuse(*args, **kwargs):
        raise DatabaseError(msg="Failed to connect to DB: Incorrect username or password was specified.", errno=250001)

    monkeypatch.setattr(auth.Auth, "authenticate", refuse)
    with pytest.raises(SinkMisconfigured, match=r"refuses to log in .*Incorrect username") as caught:
        make().open()
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_a_key_file_that_cannot_be_used_is_named(make, tmp_path):
    """Missing, or no key: the file is named, and its content is not."""
    path = tmp_path / "key.p8"
    for content in (None, "hush-hush"):
        if content:
            path.write_text(content)
        with pytest.raises(SinkMisconfigured, match=r"private_key_file .*key\.p8") as caught:
            make(password=None, private_key_file=str(path), private_key_passphrase="snow-4711").open()
        said = "".join(traceback.format_exception(caught.value))
        assert "hush-hush" not in said
        assert str(caught.value).count(PASSWORD) == 0


def test_events_under_a_strange_id_are_not_replaced(server, make, database):
    """The same ranges from a batch that is not named would stay beside the new ones: a person is asked instead."""
    files = [sample_events(6)]
    old, other = cut_batch(files, 0, 4), cut_batch(files, 2, 6, "kit#2")
    with make() as sink:
        for batch in (old, other):
            sink.deliver(batch)
        with pytest.raises(SinkMisconfigured, match=f"a batch of a lost ledger.*{other.id}"):
            sink.deliver(replacing_batch(old, sample_events(4, 10), old.id))
        assert len(_events(server, database)) == 8
        sink.deliver(replacing_batch(old, sample_events(4, 10), old.id, other.id))
    assert sorted(_events(server, database)) == sorted(sample_events(4, 10))


def test_options_that_do_not_go_together_are_refused():
    """One way to log in; no table of the books; a passphrase has a key."""
    good = TestSnowflake.options
    model = SnowflakeSink.Options
    for more in (
        {"password": None},
        {"token": "t"},
        {"private_key_passphrase": "x"},
        {"table": "public.eventferry_batches"},
        {"database": 'a"b'},
        {"account": "a/b"},
    ):
        with pytest.raises(ValidationError):
            model.model_validate({**good, **more})
    assert model.model_validate({**good, "table": "raw.events"}).full_name("x") == '"D"."RAW"."X"'

"""The bigquery sink keeps the contract: Google's own client against a stub of the REST API."""

import datetime as dt
import json
import traceback
from contextlib import contextmanager
from random import Random
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError
from tests.bigquery_stub import Refusal, bigquery_stub
from tests.contract.receiver import nobody

from eventferry.sink import (
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    Guarantee,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.kit.arriving import ArrivingPromises
from eventferry.sink.kit.failing import FailingPromises
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.registry import make_sink
from eventferry_sinks.bigquery.sink import BigquerySink

OPTIONS = {"project": "acme", "dataset": "lake", "create": True}


POISON = b'{"event_type":"too much","n":1}'


def _target(stub, url=None, arm=lambda: None, **options):
    return Target(
        lambda: make_sink("bigquery", "wh", {**OPTIONS, "endpoint": url or stub.url, **options}),
        stub.events,
        lambda: [each.partition("-")[0] for each in stub.insert_ids],
        arm,
    )


@contextmanager
def _behind_proxy():
    with bigquery_stub() as stub:
        host, port = stub.url.removeprefix("http://").split(":")
        with CuttingProxy(host, int(port)) as proxy:
            yield stub, proxy


class Places:
    """One stub each, and what is wrong with it."""

    sink_type = BigquerySink
    counterpart = "a stub of the REST API"
    options: ClassVar = {"project": "acme", "dataset": "lake"}
    deadline = 0.5
    poison = POISON
    more: ClassVar = {}
    writes = b"uploadType=multipart"  # the request that takes effect
    answers = b"bigquery#job"

    @contextmanager
    def healthy(self):
        with bigquery_stub() as stub:
            yield _target(stub, **self.more)

    @contextmanager
    def poisoned(self):
        with bigquery_stub() as stub:
            stub.poison = POISON
            yield _target(stub, **self.more)

    @contextmanager
    def with_columns(self, columns):
        with bigquery_stub() as stub:
            yield _target(stub, columns=columns, **self.more)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield Target(lambda: make_sink("bigquery", "wh", {**OPTIONS, **self.more, "endpoint": url}))

    @contextmanager
    def misconfigured(self):
        with bigquery_stub() as stub:
            yield _target(stub, create=False, **self.more)

    @contextmanager
    def refusing(self):
        with bigquery_stub() as stub:
            stub.refusal = Refusal(403, "accessDenied", "Access Denied: Table acme:lake.events: no permission")
            yield _target(stub, **self.more)

    @contextmanager
    def throttling(self):
        with bigquery_stub() as stub:
            stub.refusal = Refusal(403, "rateLimitExceeded", "Exceeded rate limits", **{"Retry-After": "7"})
            yield _target(stub, **self.more)

    @contextmanager
    def hanging(self):
        with bigquery_stub() as stub:
            stub.hangs = True
            yield _target(stub, timeout=self.deadline, **self.more)

    @contextmanager
    def losing_reply(self):
        with _behind_proxy() as (stub, proxy):
            yield _target(stub, proxy.url, lambda: proxy.cut_after(self.writes, reply=self.answers), **self.more)
            assert proxy.snapped

    @contextmanager
    def crashing_before(self):
        with _behind_proxy() as (stub, proxy):
            yield _target(stub, proxy.url, lambda: proxy.cut_before(self.writes), **self.more)
            assert proxy.snapped


class TestBigquery(Places, SinkPromises):
    """Load jobs."""

    @contextmanager
    def lowering(self):
        with bigquery_stub() as stub:
            yield _target(stub, method="insert_all")


class TestInsertAll(Places, ArrivingPromises, FailingPromises):
    """The other way in: rows under ids of their own; what it promises of repeats is `lowering` above."""

    more: ClassVar = {"method": "insert_all"}

    def test_the_largest_batch_arrives(self):
        """A batch is many requests, and every event carries the batch's id and its place in it."""
        with bigquery_stub() as stub, _target(stub, **self.more).sink() as sink:
            assert sink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED
            batch = make_batch(sample_events(12_345))
            sink.deliver(batch)
            assert sink.was_delivered(batch) is None
            assert stub.insert_ids == [f"{batch.id}-{number}" for number in range(12_345)]
            assert stub.events() == sample_events(12_345)


@pytest.fixture
def stub():
    with bigquery_stub() as stub:
        yield stub


@pytest.fixture
def make(stub):
    return lambda **options: make_sink("bigquery", "wh", {**OPTIONS, "endpoint": stub.url, **options})


# Jobs


def test_a_job_that_still_runs_is_waited_for(stub, make):
    """A delivery ends when its job is done, not when it is started."""
    stub.looks = 2
    with make() as sink:
        batch = make_batch(sample_events(2))
        sink.deliver(batch)
        assert stub.jobs[f"eventferry_{batch.id}"]["looks"] == 0
        assert sink.was_delivered(batch)


def test_a_job_that_outlives_the_deadline_is_found_again(stub, make):
    """Overdue is unknown; the next attempt finds the running job, starts no other, and waits for this one."""
    stub.looks = 1000
    batch = make_batch(sample_events(2))
    with make(timeout=0.4) as sink:
        with pytest.raises(SinkUnavailable, match="within") as caught:
            sink.deliver(batch)
        assert not caught.value.untouched
    with make() as sink:
        with pytest.raises(SinkUnavailable, match=f"load job eventferry_{batch.id} still runs") as caught:
            sink.was_delivered(batch)
        assert not caught.value.untouched
        stub.jobs[f"eventferry_{batch.id}"]["looks"] = 1
        sink.deliver(batch)
    assert stub.uploads == [f"eventferry_{batch.id}"]
    assert stub.events() == sample_events(2)


def test_a_job_that_may_not_be_looked_up_is_unknown(stub, make):
    """403 for a job says neither that it is there nor that it is not; a delivery names the right that is lacking."""
    batch = make_batch(sample_events(2))
    stub.hidden = True
    with make() as sink:
        assert sink.was_delivered(batch) is None
        for ask in (lambda: sink.deliver(batch), lambda: list(sink.check())):
            with pytest.raises(SinkMisconfigured, match=r"grant bigquery\.jobs\.get on the project acme"):
                ask()
    assert not stub.uploads


def test_a_started_job_that_may_not_be_looked_up_leaves_the_outcome_unknown(stub, make):
    """Nobody may say that nothing was taken: the job runs on. The next attempt finds it by its id."""
    batch = make_batch(sample_events(2))
    stub.runs_hidden = True
    with make() as sink:
        with pytest.raises(SinkUnavailable, match=r"grant bigquery\.jobs\.get on the project acme") as caught:
            sink.deliver(batch)
        assert not caught.value.untouched
        stub.runs_hidden = False
        sink.deliver(batch)
    assert stub.events() == sample_events(2)


def test_a_job_that_failed_before_one_that_may_not_be_looked_up_is_unknown(stub, make):
    """The next job may be another account's, and have gone well."""
    stub.failure = {"reason": "backendError", "message": "Try again later"}
    batch = make_batch(sample_events(2))
    with make() as sink:
        with pytest.raises(SinkUnavailable):
            sink.deliver(batch)
        stub.hidden = True
        assert sink.was_delivered(batch) is None


@pytest.mark.parametrize("goes_away", [False, True], ids=["throttled", "unreachable"])
def test_a_look_at_a_running_job_that_fails_is_not_untouched(make, stub, goes_away):
    """Once a job was started, a server that asks for patience or is gone leaves the batch's outcome unknown."""
    stub.looks = 1000
    with make() as sink:
        find = sink._api.find_job

        def refuse(job_id, location):
            if stub.uploads and goes_away:
                raise SinkUnavailable("no connection", untouched=True)
            if stub.uploads:
                stub.refusal = Refusal(429, "rateLimitExceeded", "Slow down")
            return find(job_id, location)

        sink._api.find_job = refuse
        with pytest.raises(SinkUnavailable) as caught:
            sink.deliver(make_batch(sample_events(2)))
        assert not caught.value.untouched


@pytest.mark.parametrize("size", [3, 90_000], ids=["multipart", "resumable"])
def test_a_lost_reply_is_no_second_load(stub, size):
    """The job is started and done, its answer lost: unknown, then known; and the batch is there once."""
    random = Random(7)
    batch = make_batch(b'{"n":%d,"x":"%s"}' % (n, random.randbytes(60).hex().encode()) for n in range(size))
    host, port = stub.url.removeprefix("http://").split(":")
    with CuttingProxy(host, int(port)) as proxy:
        options = {**OPTIONS, "endpoint": proxy.url}
        with make_sink("bigquery", "wh", options) as sink:
            # The last request of either upload: in one, or the bytes after the job.
            proxy.cut_after(b"uploadType=multipart" if size == 3 else b"PUT ", reply=b"bigquery#job")
            with pytest.raises(SinkUnavailable) as caught:
                sink.deliver(batch)
            assert not caught.value.untouched
            assert proxy.snapped
        with make_sink("bigquery", "wh", options) as sink:
            assert sink.was_delivered(batch)
            sink.deliver(batch)
    assert len(stub.events()) == size
    assert len(stub.uploads) == 1


def test_two_at_once_load_once(stub, make):
    """Somebody else starts the same job between the look and the upload: its job counts."""
    batch = make_batch(sample_events(2))
    with make() as first, make() as second:
        first.deliver(batch)
        second._api.find_job = _blind_once(second._api.find_job)
        second.deliver(batch)
    assert len(stub.uploads) == 2
    assert stub.events() == sample_events(2)


def _blind_once(find):
    seen = []

    def look(*args):
        seen.append(args)
        return None if len(seen) == 1 else find(*args)

    return look


def test_only_a_known_failure_uses_another_id(stub, make):
    """Each job that ended in vain uses its id up; the next attempt takes the next number, and finds it by few looks."""
    stub.failure = {"reason": "backendError", "message": "Try again later"}
    batch = make_batch(sample_events(1))
    for _ in range(5):
        with make() as sink:
            with pytest.raises(SinkUnavailable, match="Try again later") as caught:
                sink.deliver(batch)
            assert caught.value.untouched
            assert sink.was_delivered(batch) is False
    stub.failure = None
    with make() as sink:
        sink.deliver(batch)
        assert sink.was_delivered(batch)
        sink.deliver(batch)
    first = f"eventferry_{batch.id}"
    assert stub.uploads == [first, *(f"{first}_{number}" for number in range(2, 7))]
    assert stub.events() == sample_events(1)


# What is refused


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (Refusal(403, "quotaExceeded", "Quota exceeded: imports per table"), SinkUnavailable, "batch.max_wait"),
        (Refusal(403, "rateLimitExceeded", "Exceeded rate limits"), SinkUnavailable, "rate limits"),
        (Refusal(503, "backendError", "Error encountered"), SinkUnavailable, "backendError"),
        (Refusal(403, "accessDenied", "Access Denied: Table"), SinkMisconfigured, "roles"),
        (Refusal(404, "notFound", "Not found: Dataset acme:lake"), SinkMisconfigured, "acme:lake"),
        (Refusal(401, "authError", "Invalid Credentials"), SinkMisconfigured, "no usable credentials"),
        (Refusal(403, "billingNotEnabled", "Billing has not been enabled"), SinkMisconfigured, "billing"),
        (Refusal(413, "uploadTooLarge", "Request Entity Too Large"), BatchTooLarge, "Too Large"),
    ],
    ids=lambda each: getattr(each, "reason", None),
)
@pytest.mark.parametrize("method", ["load", "insert_all"])
def test_a_refused_request_says_what_to_do(stub, make, method, refusal, kind, words):
    """Quotas and broken backends: later. Rights, names, billing: a person. Nothing of a refused request is there."""
    with make(method=method) as sink:
        stub.refusal = refusal
        with pytest.raises(kind, match=words) as caught:
            sink.deliver(make_batch(sample_events(2)))
        if kind is SinkUnavailable:
            assert caught.value.untouched == (refusal.code < 500)
    assert not stub.events()


def test_a_named_wait_is_kept(stub, make):
    """Retry-After in seconds, or as a date by the server's own clock."""
    later = "Wed, 21 Oct 2026 07:28:30 GMT"
    for headers, seconds in (({"Retry-After": "17"}, 17.0), ({"Retry-After": later}, None)):
        with make() as sink:
            stub.refusal = Refusal(429, "rateLimitExceeded", "Slow down", **headers)
            with pytest.raises(SinkUnavailable) as caught:
                sink.deliver(make_batch(sample_events(1)))
        assert caught.value.retry_after == seconds


def test_a_row_that_does_not_fit_refuses_its_job(stub, make):
    """All or nothing: the batch is refused in BigQuery's words, without what they quote of the event."""
    with make() as sink:
        stub.tables["events"]["schema"]["fields"][1]["type"] = "INTEGER"  # event_type
        batch = make_batch([b'{"event_type":"%s"}' % bytes(reversed(b"hsuh")), *sample_events(2)])
        with pytest.raises(BatchRejected, match="starting at position 0: Could not convert") as caught:
            sink.deliver(batch)
    assert "hush" not in "".join(traceback.format_exception(caught.value))
    assert not stub.events()


def test_a_table_that_changed_meanwhile_holds_the_sink(stub, make):
    """A column or the table gone: no event would do, and opening anew mends it."""
    with make() as sink:
        del stub.tables["events"]["schema"]["fields"][1]
        with pytest.raises(SinkMisconfigured, match="No such field: event_type"):
            sink.deliver(make_batch(sample_events(1)))
        stub.tables.clear()
        with pytest.raises(SinkMisconfigured, match="Not found: Table"):
            sink.deliver(make_batch(sample_events(1)))
    with make() as sink:
        sink.deliver(make_batch(sample_events(1)))
    assert stub.events() == sample_events(1)


def test_streamed_rows_are_refused_one_by_one(stub, make):
    """insert_all names the positions over all of its requests; the rest is taken; a repeat says the same."""
    with make(method="insert_all") as sink:
        stub.tables["events"]["schema"]["fields"][1]["type"] = "INTEGER"  # event_type
        events = [b'{"n":%d}' % n for n in range(1100)]
        events[3] = events[1001] = b'{"event_type":"hush-hush"}'
        for _ in range(2):
            with pytest.raises(EventsRejected) as caught:
                sink.deliver(make_batch(events))
            assert sorted(caught.value.reasons) == [3, 1001]
            assert "hush" not in str(caught.value)
            assert "(invalid)" in caught.value.reasons[3]
    assert len(stub.events()) == 1098


def test_a_break_after_the_first_request_is_not_untouched(stub, make):
    """Streamed rows of earlier requests are there: refused later, the batch counts as unknown."""
    with make(method="insert_all") as sink:
        insert = sink._api.insert

        def refuse_second(values, ids):
            found = insert(values, ids)
            stub.refusal = Refusal(429, "rateLimitExceeded", "Slow down")
            return found

        sink._api.insert = refuse_second
        with pytest.raises(SinkUnavailable) as caught:
            sink.deliver(make_batch(sample_events(900)))
        assert not caught.value.untouched


# The table


def test_a_missing_table_is_named_with_its_statement(stub, make):
    """Without `create` the message holds the SQL that makes the table, partitioned and clustered."""
    with pytest.raises(SinkMisconfigured) as caught:
        make(create=False).open()
    assert (
        "set create = true, or run: CREATE TABLE"
        " `acme.lake.events` (`event_time` TIMESTAMP, `event_type` STRING, `event` STRING,"
        " `batch_id` STRING) PARTITION BY DATE(`event_time`) CLUSTER BY `event_type`"
    ) in str(caught.value)
    with make() as sink:
        sink.deliver(make_batch([]))
    table = stub.tables["events"]
    assert table["timePartitioning"] == {"type": "DAY", "field": "event_time"}
    assert table["clustering"] == {"fields": ["event_type"]}


def test_columns_hold_what_fits_exactly(stub, make):
    """Each type arrives as BigQuery reads it: integers beyond 2^53 to the last digit, times in UTC, misfits as NULL."""
    types = ["text", "integer", "number", "boolean", "timestamp", "json"]
    columns = {f"as_{type}": {"path": "v", "type": type} for type in types}
    values = ["9007199254740993", '"soon"', "0.5", "true", '{"a": [1.0]}', '"2024-05-01T14:00:00.5+02:00"']
    with make(columns=columns) as sink:
        sink.deliver(make_batch([f'{{"v":{value}}}'.encode() for value in values]))
        counts = {of: number for (what, of), number in sink.counts.items() if what == "values.misfitted"}
    rows = stub.rows["events"]
    assert stub.schema()["as_integer"] == "INTEGER"
    assert stub.schema()["as_json"] == "JSON"
    assert rows[0]["as_integer"] == 9007199254740993
    assert rows[2]["as_number"] == 0.5
    assert rows[3]["as_boolean"] is True
    assert json.loads(rows[4]["as_json"]) == {"a": [1.0]}
    assert rows[5]["as_timestamp"] == "2024-05-01 12:00:00.500000"
    assert [row.get("as_integer") for row in rows[1:]] == [None] * 5
    assert counts["as_integer"] == 5


def test_the_event_may_be_json(stub, make):
    """event_as = "json": the column is of type JSON and holds the object itself."""
    with make(event_as="json") as sink:
        sink.deliver(make_batch(sample_events(2)))
    assert stub.schema()["event"] == "JSON"
    assert stub.events() == sample_events(2)
    with pytest.raises(SinkMisconfigured, match='event_as = "json"'):
        make(event_as="string").open()


def test_a_new_column_meets_the_schema_contract(stub, make):
    """evolve adds it and counts it, freeze names the statement, discard leaves it out and counts its values."""
    new = {"columns": {"n": {"path": "n", "type": "integer"}}}
    make_sink("bigquery", "wh", {**OPTIONS, "endpoint": stub.url}).__enter__().close()
    with pytest.raises(SinkMisconfigured, match=r"run: ALTER TABLE `acme.lake.events` ADD COLUMN `n` INT64"):
        make(schema_contract="freeze", **new).open()
    with make(schema_contract="discard", **new) as sink:
        sink.deliver(make_batch(sample_events(3)))
        assert sink.counts["values.discarded", "n"] == 3
    assert "n" not in stub.schema()
    with make(**new) as sink:
        assert sink.counts["columns.added", "n"] == 1
        sink.deliver(make_batch(sample_events(1, 3)))
    assert [row.get("n") for row in stub.rows["events"]] == [None, None, None, 3]


def test_a_schema_that_cannot_do_is_refused(stub, make):
    """Another type, or a REQUIRED column that nothing fills, holds the sink and names the remedy."""
    make().__enter__().close()
    with pytest.raises(SinkMisconfigured, match=r"'event_type' of table .* is STRING, but INT64"):
        make(columns={"event_type": {"path": "event_type", "type": "integer"}}).open()
    stub.tables["events"]["schema"]["fields"].append({"name": "who", "type": "STRING", "mode": "REQUIRED"})
    with pytest.raises(SinkMisconfigured, match="ALTER COLUMN `who` DROP NOT NULL"):
        make().open()


def test_a_change_by_somebody_else_is_not_overwritten(stub, make):
    """The schema is patched on condition of its etag."""
    make().__enter__().close()
    sink = make(columns={"n": "n"})
    find = stub.get_table

    def find_and_change(name):
        found = dict(find(name))
        stub.tables[name]["etag"] = "7"
        return found

    stub.get_table = find_and_change
    stub.patch_table = lambda name, change, condition: type(stub).patch_table(_Plain(stub), name, change, condition)
    with pytest.raises(SinkUnavailable) as caught:
        sink.open()
    assert caught.value.untouched


class _Plain:
    """The stub without what a test put in its way."""

    def __init__(self, stub):
        self.tables, self.get_table = stub.tables, stub.tables.__getitem__


# Who, and whether it could work


def test_the_steps_of_check(stub, make):
    """Each step is a sentence, and a right that is missing is named; nothing is left behind."""
    with make() as sink:
        steps = list(sink.check())
        assert [step.split(" ")[0] for step in steps] == [stub.url, "table", "table", "load"]
        assert "in europe-west6 has all 4 columns" in steps[1]
        stub.granted.remove("bigquery.tables.updateData")
        with pytest.raises(SinkMisconfigured, match=r"updateData; grant roles/bigquery\.dataEditor"):
            list(sink.check())
    assert not stub.jobs
    assert not stub.rows["events"]


def _key_file(path, url):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    fields = {"type": "service_account", "client_email": "ferry@acme.iam.example", "private_key": pem}
    path.write_text(json.dumps({**fields, "token_uri": f"{url}/token", "private_key_id": "1", "project_id": "acme"}))
    return pem


def test_a_key_file_is_used(stub, make, tmp_path):
    """Its token is fetched and sent; a refused token, or a file that is none, holds the sink without secrets."""
    path = tmp_path / "key.json"
    pem = _key_file(path, stub.url)
    stub.tokens = {"tok-4711"}
    with make(credentials_file=str(path)) as sink:
        assert next(iter(sink.check())) == f"{stub.url} takes ferry@acme.iam.example"
        sink.deliver(make_batch(sample_events(1)))
    assert stub.events() == sample_events(1)
    stub.tokens = set()
    with pytest.raises(SinkMisconfigured, match=r"no usable credentials.*Invalid JWT Signature") as caught:
        make(credentials_file=str(path)).open()
    said = "".join(traceback.format_exception(caught.value))
    assert not any(line in said for line in pem.splitlines()[1:-1])
    path.write_text('{"private_key":"hush')
    for place in (path, tmp_path / "none.json"):
        with pytest.raises(SinkMisconfigured, match="no usable credentials") as caught:
            make(credentials_file=str(place)).open()
        assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_options_that_do_not_go_together_are_refused(make):
    """insert_all sends texts; BigQuery's own names are taken; a project's name is not a path."""
    with pytest.raises(ValidationError, match="insert_all"):
        BigquerySink.Options.model_validate({**OPTIONS, "method": "insert_all", "event_as": "json"})
    for columns in ({"_PARTITIONTIME": "x"}, {"größe": "x"}):
        with pytest.raises(ValidationError, match="not a column's name"):
            BigquerySink.Options.model_validate({**OPTIONS, "columns": columns})
    with pytest.raises(ValidationError):
        BigquerySink.Options.model_validate({**OPTIONS, "project": "acme/../x"})
    assert dt.timedelta(seconds=BigquerySink.Options.model_validate({**OPTIONS, "timeout": "10m"}).timeout)

"""What "effectively once" of the postgres sink needs beyond the kit: answers that wait, commits that last."""

import threading

import psycopg
import pytest
from tests.postgres_server import pip_programs, postgres_server

from eventferry.sink import SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import make_sink


@pytest.fixture(scope="module")
def server():
    with postgres_server(pip_programs(), synchronous_commit="off") as running:
        yield running


@pytest.fixture
def make(server):
    server.run("DROP TABLE IF EXISTS events, eventferry_batches, eventferry_parts")
    with make_sink("postgres", "bi", {"dsn": server.dsn(), "create": True}) as sink:
        sink.deliver(make_batch(sample_events(1), salt="before"))
    return lambda **options: make_sink("postgres", "bi", {"dsn": server.dsn(), **options})


@pytest.mark.parametrize("is_committed", [False, True])
def test_the_question_waits_for_an_attempt_whose_commit_is_under_way(server, make, is_committed):
    """was_delivered says what that attempt decides: to deny a batch whose COMMIT is only slow would double it."""
    batch, answers = make_batch(sample_events(3)), []
    with psycopg.connect(server.dsn()) as other, make() as sink:
        other.execute("INSERT INTO eventferry_batches VALUES (%s, 'public.events', 3)", [batch.id])
        asking = threading.Thread(target=lambda: answers.append(sink.was_delivered(batch)))
        asking.start()
        asking.join(0.3)
        assert not answers, "it answered while nobody could know"
        other.commit() if is_committed else other.rollback()
        asking.join(20)
        assert answers == [is_committed]
        assert sink.was_delivered(batch) is is_committed, "the question left something behind"


def test_the_question_ends_at_the_deadline(server, make):
    """An attempt that never ends makes the answer later, not no."""
    batch = make_batch(sample_events(3))
    with psycopg.connect(server.dsn()) as other, make(timeout="1s") as sink:
        other.execute("INSERT INTO eventferry_batches VALUES (%s, 'public.events', 3)", [batch.id])
        with pytest.raises(SinkUnavailable):
            sink.was_delivered(batch)


def test_a_batch_is_on_the_disk_when_it_is_confirmed(server, make):
    """Also where the server, the database or the user has synchronous_commit off: a crash may not forget a batch."""
    with make() as sink:
        for number in range(5):
            sink.deliver(make_batch(sample_events(2), salt=str(number)))
            ((is_flushed,),) = server.run("SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()")
            assert is_flushed


@pytest.mark.parametrize("table", ["events", "eventferry_batches", "eventferry_parts"])
def test_a_table_that_a_crash_empties_is_refused(server, make, table):
    """An UNLOGGED table, of events or of the books, holds the sink; the statement that is told mends it."""
    server.run(f"ALTER TABLE {table} SET UNLOGGED")
    with make() as sink:
        with pytest.raises(SinkMisconfigured, match="UNLOGGED") as caught:
            sink.deliver(make_batch(sample_events(2)))
        with pytest.raises(SinkMisconfigured, match="UNLOGGED"):
            list(sink.check())
        server.run(str(caught.value).partition("run: ")[2])
        sink.deliver(make_batch(sample_events(2)))

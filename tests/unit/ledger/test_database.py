"""Opening the ledger: never another program's file, never a newer or broken one, never re-created silently."""

import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from eventferry.app import is_owned, own_state
from eventferry.errors import LedgerBrokenError, LedgerBusyError, LedgerError
from eventferry.ledger import Ledger, open_ledger
from eventferry.ledger import tables as t
from eventferry.ledger.database import get_meta, set_meta


def new(path: Path) -> Ledger:
    return open_ledger(path, migrate=True)


def test_the_migrations_make_exactly_the_tables_of_the_code(tmp_path):
    """From nothing, the migrations lead to what tables.py says: autogenerate finds no difference."""
    ledger = new(tmp_path / "ledger.db")
    with ledger.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True})
        assert compare_metadata(context, t.metadata) == []
    ledger.close()


def test_opening_again_changes_nothing(tmp_path):
    """A second start finds the schema as it is and makes no copy."""
    path = tmp_path / "ledger.db"
    new(path).close()
    new(path).close()
    assert sorted(each.name for each in tmp_path.iterdir() if "before" in each.name) == []


def test_the_settings_that_survive_a_power_cut_are_on(tmp_path):
    """WAL, full synchronisation, foreign keys; readers cannot write."""
    ledger = new(tmp_path / "ledger.db")
    with ledger.write() as tx:
        values = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with pytest.raises(sa.exc.OperationalError, match="readonly"), ledger.read() as tx:
        tx.execute(sa.insert(t.meta).values(key="a", value="1"))
    ledger.close()


def set_revision(path: Path, revision: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


@pytest.mark.parametrize("migrate", [True, False])
def test_a_newer_schema_is_refused(tmp_path, migrate):
    """A downgraded program does not touch what a newer one wrote, and says what to install."""
    path = tmp_path / "ledger.db"
    new(path).close()
    set_revision(path, "9999")
    with pytest.raises(LedgerError, match="newer eventferry"):
        open_ledger(path, migrate=migrate)


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    """A path that names somebody else's SQLite file is a mistake, not a ledger."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(LedgerError, match="another program"):
        new(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


@pytest.mark.parametrize("migrate", [True, False])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, migrate):
    """Garbage in place of the ledger is an error with a remedy; nothing is re-created."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(LedgerError, match="restore it from a backup"):
        open_ledger(path, migrate=migrate)
    assert path.read_bytes() == b"not a database at all" * 500


def test_a_corrupt_ledger_is_refused_with_a_remedy(tmp_path):
    """Overwritten pages are noticed at the latest where they are read, and named with the way out."""
    path = tmp_path / "ledger.db"
    new(path).close()
    damaged = bytearray(path.read_bytes())
    damaged[100 : len(damaged)] = b"\xff" * (len(damaged) - 100)
    path.write_bytes(bytes(damaged))
    with pytest.raises(LedgerError, match="restore it from a backup"):
        new(path)
    assert path.read_bytes() == bytes(damaged)


def test_without_a_ledger_the_command_line_says_what_to_do(tmp_path):
    """A command that only looks creates nothing."""
    with pytest.raises(LedgerError, match="eventferry once"):
        open_ledger(tmp_path / "ledger.db", migrate=False)
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_can_read_the_ledger_or_its_copies(tmp_path):
    """Whatever the umask: it holds encrypted credentials, addresses, filters and the names of tenants."""
    from eventferry.ledger import migrate

    before = os.umask(0o022)
    try:
        ledger = new(tmp_path / "state" / "ledger.db")
        with ledger.write() as tx:
            set_meta(tx, "kept", [1, 2])
        migrate._copy(tmp_path / "state" / "ledger.db")
        modes = {each.name: each.stat().st_mode & 0o077 for each in (tmp_path / "state").iterdir()}
        ledger.close()
    finally:
        os.umask(before)
    assert len(modes) >= 4
    assert set(modes.values()) == {0}, modes
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


def test_an_older_schema_is_copied_before_it_is_migrated(tmp_path, monkeypatch):
    """The way back from an upgrade lies beside the ledger, with everything in it."""
    from eventferry.ledger import migrate

    path = tmp_path / "ledger.db"
    ledger = new(path)
    with ledger.write() as tx:
        set_meta(tx, "kept", [1, 2])
    ledger.close()
    set_revision(path, "0000")  # a revision that this version knows as its past
    known = migrate._revisions
    monkeypatch.setattr(migrate, "_revisions", lambda engine: (*known(engine)[:2], known(engine)[2] | {"0000"}))
    monkeypatch.setattr(migrate.command, "upgrade", lambda config, to: None)
    open_ledger(path, migrate=True).close()
    (copy,) = [each for each in tmp_path.iterdir() if each.name.startswith("ledger.db.before-")]
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT value FROM meta WHERE key = 'kept'").fetchall() == [("[1, 2]",)]
    connection.close()


def test_a_write_is_all_or_nothing(tmp_path):
    """What fails in the middle of a transaction leaves no trace."""
    ledger = new(tmp_path / "ledger.db")
    with pytest.raises(RuntimeError), ledger.write() as tx:
        set_meta(tx, "half", 1)
        raise RuntimeError
    with ledger.read() as tx:
        assert get_meta(tx, "half") is None
    ledger.close()


def test_two_processes_writing_wait_for_each_other(tmp_path):
    """A command that writes while the daemon writes waits its turn; neither fails, no write is lost."""
    path = tmp_path / "ledger.db"
    ledger = new(path)
    other = open_ledger(path, migrate=False)
    failures: list[BaseException] = []

    def count(own: Ledger) -> None:
        try:
            for _ in range(40):
                with own.write() as tx:  # reads, then writes: what a deferred transaction fails at
                    set_meta(tx, "count", (get_meta(tx, "count") or 0) + 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=count, args=(each,)) for each in (ledger, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.read() as tx:
        assert (failures, get_meta(tx, "count")) == ([], 80)
    other.close()
    ledger.close()


def test_a_reader_never_blocks_the_writer(tmp_path):
    """A view that is held open sees its moment, while writes go on."""
    ledger = new(tmp_path / "ledger.db")
    with ledger.write() as tx:
        set_meta(tx, "n", 1)
    with ledger.read() as view:
        assert get_meta(view, "n") == 1
        with ledger.write() as tx:
            set_meta(tx, "n", 2)
        assert get_meta(view, "n") == 1
    with ledger.read() as tx:
        assert get_meta(tx, "n") == 2
    ledger.close()


def try_to_own(state: Path, answer: "multiprocessing.Queue[str]") -> None:
    try:
        with own_state(state, wait=False):
            answer.put("owned")
    except LedgerBusyError as error:
        answer.put(str(error))


def test_one_daemon_per_ledger(tmp_path):
    """A second daemon is refused and told who runs; once the first one is gone, it may."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    assert not is_owned(tmp_path)
    with own_state(tmp_path, wait=False):
        assert is_owned(tmp_path)
        other = context.Process(target=try_to_own, args=(tmp_path, answer))
        other.start()
        assert "another eventferry (pid " in answer.get(timeout=30)
        other.join()
    with own_state(tmp_path, wait=True):
        pass
    assert not is_owned(tmp_path)


def test_a_ledger_that_vanished_is_not_made_anew_silently(tmp_path):
    """A removed or emptied ledger is refused with the remedy; to start anew a person removes the marker."""
    path = tmp_path / "ledger.db"
    open_ledger(path, migrate=True).close()
    for lose in (path.unlink, lambda: path.write_bytes(b"")):
        lose()
        with pytest.raises(LedgerError, match=r"ledger\.db\.used"):
            open_ledger(path, migrate=True)
    (tmp_path / "ledger.db.used").unlink()
    open_ledger(path, migrate=True).close()


def write_in_background(ledger: Ledger, inside: threading.Event, go_on: threading.Event) -> threading.Thread:
    """A thread in the middle of a transaction until `go_on`."""

    def write() -> None:
        with ledger.write() as tx:
            set_meta(tx, "before", 1)
            inside.set()
            go_on.wait(10)
            set_meta(tx, "after", 2)

    thread = threading.Thread(target=write)
    thread.start()
    assert inside.wait(10)
    return thread


def test_closing_waits_for_a_transaction_under_way(tmp_path):
    """A stop in the middle of another thread's write neither crashes the process nor loses the write."""
    ledger, inside, go_on = new(tmp_path / "ledger.db"), threading.Event(), threading.Event()
    writer = write_in_background(ledger, inside, go_on)
    closer = threading.Thread(target=ledger.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    closer.join(10)
    writer.join(10)
    again = new(tmp_path / "ledger.db")
    with again.read() as tx:
        assert (get_meta(tx, "before"), get_meta(tx, "after")) == (1, 2)
    again.close()


def test_closing_gives_up_on_a_transaction_that_hangs(tmp_path, monkeypatch):
    """A disk that hangs must not keep a stop waiting: nothing is lost by going."""
    monkeypatch.setattr("eventferry.ledger.database.CLOSE_SECONDS", 0.01)
    ledger, inside, go_on = new(tmp_path / "ledger.db"), threading.Event(), threading.Event()
    writer = write_in_background(ledger, inside, go_on)
    ledger.close()
    go_on.set()
    writer.join(10)
    ledger.close()


def test_after_the_last_closing_nobody_opens_the_ledger_again(tmp_path):
    """What still wants to write when the daemon goes waits for its end; the file stays checkpointed and whole."""
    ledger, began = new(tmp_path / "ledger.db"), threading.Event()
    ledger.close(at_exit=True)

    def write() -> None:
        began.set()
        with ledger.write() as tx:
            set_meta(tx, "late", 1)

    late = threading.Thread(target=write, daemon=True)
    late.start()
    assert began.wait(10)
    late.join(0.05)
    assert late.is_alive()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.db", "ledger.db.used"]


def test_nothing_is_written_after_a_sync_that_failed(tmp_path):
    """Whether an earlier page reached the disk is unknown then: no later commit is believed, and somebody is told."""
    told = []
    ledger = open_ledger(tmp_path / "ledger.db", migrate=True)
    ledger.on_broken = told.append

    def fail(_connection):
        failure = sqlite3.OperationalError("disk I/O error")
        failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise sa.exc.OperationalError("COMMIT", None, failure)

    sa.event.listen(ledger._writer, "commit", fail)
    with pytest.raises(LedgerBrokenError, match="look at it"), ledger.write() as tx:
        set_meta(tx, "a", 1)
    sa.event.remove(ledger._writer, "commit", fail)
    with pytest.raises(LedgerBrokenError), ledger.write() as tx:
        set_meta(tx, "b", 1)
    assert len(told) == 1
    with ledger.read() as tx:
        assert (get_meta(tx, "a"), get_meta(tx, "b")) == (None, None)
    ledger.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_BUSY])
def test_a_full_disk_is_no_broken_one(code, tmp_path):
    """What could not be written is undone, and may be tried again."""
    ledger = open_ledger(tmp_path / "ledger.db", migrate=True)

    def fail(_connection):
        failure = sqlite3.OperationalError("no")
        failure.sqlite_errorcode = code
        raise sa.exc.OperationalError("COMMIT", None, failure)

    sa.event.listen(ledger._writer, "commit", fail)
    with pytest.raises(sa.exc.OperationalError), ledger.write() as tx:
        set_meta(tx, "a", 1)
    sa.event.remove(ledger._writer, "commit", fail)
    with ledger.write() as tx:
        set_meta(tx, "b", 2)
    with ledger.read() as tx:
        assert (get_meta(tx, "a"), get_meta(tx, "b")) == (None, 2)
    ledger.close()

"""Opening the ledger: engines with the right pragmas, migrations after a copy, one writer."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool, StaticPool

from eventferry import clock
from eventferry.errors import LedgerBrokenError, LedgerError
from eventferry.ledger import tables as t

# "EFRY": marks the file as ours, so that another program's database is never migrated.
APPLICATION_ID = 0x45465259
BUSY_MS = 10_000
CLOSE_SECONDS = 2.0
# After a sync that failed the system may take pages for clean that never reached the disk: the next one proves nothing.
# A write that failed (a quota, a full disk) is undone and can be tried again.
UNSYNCED = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


class Ledger:
    """The ledger of one installation. Writes go one at a time, each in one durable transaction.

    After a commit that could not be synced nothing is written any more; `on_broken` is told, once, to end the process.
    """

    def __init__(self, path: Path, writer: sa.Engine, reader: sa.Engine) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._lock = threading.RLock()
        self._broken: LedgerBrokenError | None = None
        self.on_broken: Callable[[LedgerBrokenError], None] = lambda _: None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One durable transaction: all of it is committed when the block ends, or nothing of it.

        Raises LedgerBrokenError once a commit could not be made durable.
        """
        with self._lock:
            if self._broken is not None:
                raise self._broken
            try:
                with self._writer.begin() as tx:
                    yield tx
            except sa.exc.DatabaseError as error:
                if getattr(error.orig, "sqlite_errorcode", None) not in UNSYNCED:
                    raise
                self._broken = LedgerBrokenError(
                    f"ledger {self.path}: {error.orig} in a sync: the disk may have lost what was written; look at it "
                    "(journalctl -k, smartctl) before anything else"
                )
                self.on_broken(self._broken)
                raise self._broken from error

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view; never blocks the writer. Keep it short."""
        with self._reader.begin() as tx:
            yield tx

    def check(self) -> None:
        """Whether it can still be read, with the schema of this version. Raises LedgerError."""
        from eventferry.ledger.migrate import check_schema

        try:
            check_schema(self._reader, self.path)
        except (sa.exc.DatabaseError, OSError) as error:
            raise LedgerError(_explain(self.path, error)) from error

    def close(self, *, at_exit: bool = False) -> None:
        """Checkpoint and close; waits for a transaction under way, but not for ever.

        `at_exit` the process ends next: whoever still wants to write waits for that, instead of opening it again.
        """
        if not self._lock.acquire(timeout=CLOSE_SECONDS):
            return  # a commit hangs on the disk: a kill at this moment loses nothing either
        try:
            self._reader.dispose()
            self._writer.dispose()  # while another thread uses it, SQLite would crash the process
        finally:
            if not at_exit:
                self._lock.release()


def open_ledger(path: Path, *, migrate: bool, create: bool | None = None) -> Ledger:
    """Open the SQLite ledger at `path`.

    The daemon migrates (after a copy beside the file); other commands refuse another schema. Raises LedgerError.
    """
    create = migrate if create is None else create
    if not create and not path.exists():
        raise LedgerError(
            f"no ledger at {path}: nothing has run here yet; start with `eventferry once` or `eventferry run`"
        )
    used = path.with_name(f"{path.name}.used")
    if used.exists() and (not path.exists() or path.stat().st_size == 0):
        raise LedgerError(
            f"ledger {path} is missing or empty, but {used.name} beside it says that there was one; restore it from a "
            f"backup, or remove {used.name} to start anew: then everything is delivered again"
        )
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                path.touch(mode=0o600)  # the files that SQLite makes beside it get the same mode
        writer = _engine(path, writes=True, owner=migrate)
        _check_identity(writer, path)
        if migrate:
            from eventferry.ledger.migrate import migrate as run_migrations

            run_migrations(writer, path)
            used.touch(mode=0o600)
        else:
            from eventferry.ledger.migrate import check_schema

            check_schema(writer, path)
    except (sa.exc.DatabaseError, sqlite3.DatabaseError, OSError) as error:
        raise LedgerError(_explain(path, error)) from error
    return Ledger(path, writer, _engine(path, writes=False, owner=migrate))


def _engine(path: Path, *, writes: bool, owner: bool) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        # One connection for all writes: SQLite below 3.51.3 can corrupt the WAL when two write and checkpoint at once.
        poolclass=StaticPool if writes else QueuePool,
        connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        run = connection.execute
        run(f"PRAGMA busy_timeout={BUSY_MS}")
        if writes:
            run("PRAGMA journal_mode=WAL")
            run("PRAGMA synchronous=FULL")
            run("PRAGMA foreign_keys=ON")
        else:
            run("PRAGMA query_only=ON")
        # Only the daemon's writer checkpoints.
        run(f"PRAGMA wal_autocheckpoint={1000 if writes and owner else 0}")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A deferred transaction that reads and then writes fails at once when another writer came between.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _check_identity(engine: sa.Engine, path: Path) -> None:
    with engine.begin() as tx:
        found = tx.exec_driver_sql("PRAGMA application_id").scalar_one()
        empty = tx.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one() == 0
    if found != APPLICATION_ID:
        if not empty:
            raise LedgerError(
                f"{path} is a database of another program (application id {found}); point [ledger] url elsewhere"
            )
        with engine.begin() as tx:
            tx.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def _explain(path: Path, error: Exception) -> str:
    text = str(getattr(error, "orig", None) or error)
    remedy = {
        "not a database": "restore it from a backup (ledger.db.before-*) or move it away on purpose to start anew",
        "malformed": "restore it from a backup (ledger.db.before-*); eventferry never re-creates it silently",
        "locked": "another process holds it; see `systemctl status eventferry`",
        "disk is full": "free space on its file system",
        "readonly": "under systemd a ReadWritePaths= drop-in may be missing; see docs/operations.md",
        "unable to open": "check that this user may write in its folder; under systemd see ReadWritePaths=",
    }
    hint = next((words for mark, words in remedy.items() if mark in text), "see docs/operations.md, Ledger")
    return f"ledger {path}: {text}; {hint}"


def get_meta(tx: sa.Connection, key: str) -> Any:
    """The JSON value stored under `key`, or None."""
    value = tx.execute(sa.select(t.meta.c.value).where(t.meta.c.key == key)).scalar_one_or_none()
    return None if value is None else json.loads(value)


def set_meta(tx: sa.Connection, key: str, value: Any) -> None:
    """Store a JSON value under `key`."""
    text = json.dumps(value)
    done = tx.execute(sa.update(t.meta).where(t.meta.c.key == key).values(value=text))
    if done.rowcount == 0:
        tx.execute(sa.insert(t.meta).values(key=key, value=text))


def heartbeat(tx: sa.Connection) -> None:
    """Note that the daemon is alive."""
    set_meta(tx, "heartbeat_ms", clock.now_ms())

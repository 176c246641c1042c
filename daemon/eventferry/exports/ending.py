"""How an export ends, or is tried again: each a single transaction with all that people are told of it."""

import sqlalchemy as sa

from eventferry import clock
from eventferry.exports.desk import Desk
from eventferry.ledger import alerts, export_notices, exports
from eventferry.ledger.exports import ExportRow, FileRow
from eventferry.logs import get_logger

# A process that dies so often at one export is not started for it again.
MAX_KILLS = 5
# A death of the daemon itself says little about the export: power cuts and people kill daemons, too.
MAX_INTERRUPTIONS = 20
# A store that does not answer is asked again for so long, with pauses that grow between these, ms.
PATIENCE_MS = 3_600_000
FIRST_PAUSE_MS = 5_000
LONGEST_PAUSE_MS = exports.LONGEST_PAUSE_MS

DISK_FULL = "exports.stalled"
BUCKET_FAILED = "exports.unstored"

logger = get_logger()


def complete(desk: Desk, export_id: str, files: list[FileRow], place: str | None = None) -> bool:
    """The export is complete with these files; False where it was cancelled meanwhile.

    `place`: the root of the bucket that they lie in; None: the folder of exports, or the requester's store.
    """
    keep_ms = int(desk.settings.retention.total_seconds() * 1000)
    with desk.ledger.write() as tx:
        row = _still_wanted(tx, export_id)
        if row is None:
            return False
        exports.complete(tx, export_id, files, keep_ms=keep_ms)
        exports.set_place(tx, export_id, place)
        export_notices.insert(tx, export_id, _addresses(row))
        if row.schedule is not None:
            told = f"The scheduled export {row.schedule} works again"
            alerts.close_condition(tx, schedule_cause(row.schedule), subject=told)
        alerts.close_condition(tx, DISK_FULL, subject="Exports find room on their disk again")
        if place is not None:
            alerts.close_condition(tx, BUCKET_FAILED, subject="Exports can be put into their bucket again")
    seconds = (clock.now_ms() - row.created_ms) / 1000
    events, size = sum(each.events for each in files), sum(each.bytes for each in files)
    logger.info("export.completed", export=export_id, events=events, bytes=size, files=len(files), seconds=seconds)
    return True


def fail(desk: Desk, export_id: str, reason: str, detail: str | None = None) -> None:
    """The export has failed for good; `reason` is a sentence for its requester, `detail` the same for the operator."""
    with desk.ledger.write() as tx:
        _fail(tx, export_id, reason, detail)


def fail_or_retry(desk: Desk, export_id: str, reason: str, kind: str = "", detail: str | None = None) -> None:
    """Queue the export again after a pause, or, after an hour of trouble, give it up; meanwhile its reason says so.

    `kind` and `detail` as of a task's Failure: of disk_full and bucket the operator is told at once.
    """
    now = clock.now_ms()
    with desk.ledger.write() as tx:
        if kind == "disk_full":
            _alert_disk(tx, desk, detail or reason)
        elif kind == "bucket":
            _alert_bucket(tx, detail or reason)
        row = _still_wanted(tx, export_id)
        if row is None:
            return
        since = min(row.troubled_ms or now, now)  # the clock may have been wrong
        if now - since >= PATIENCE_MS:
            _fail(tx, export_id, reason, detail)
            return
        pause = min(max((now - since) // 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS)
        told = f"waits: {reason}; it is tried again"
        exports.put_back(tx, export_id, next_ms=now + pause, troubled_ms=since, reason=told)
    logger.warning("export.postponed", export=export_id, seconds=pause / 1000, reason=detail or reason)


def note_death(desk: Desk, export_id: str, reason: str) -> None:
    """The process that made the export has died, or as good as; it is begun anew, but not for ever."""
    with desk.ledger.write() as tx:
        row = _still_wanted(tx, export_id)
        if row is None:
            return
        kills = row.kills + 1
        if kills >= MAX_KILLS:
            _fail(tx, export_id, f"{reason} ({kills} times)")
            return
        pause = FIRST_PAUSE_MS if kills > 1 else 0
        exports.put_back(tx, export_id, kills=kills, next_ms=clock.now_ms() + pause)
    logger.error("export.interrupted", export=export_id, reason=reason, deaths=kills)


def take_back(desk: Desk) -> list[str]:
    """At the start: queue again what a death of the daemon interrupted; the ids of it."""
    with desk.ledger.write() as tx:
        found = exports.under_way(tx)
        for row in found:
            if _still_wanted(tx, row.id) is None:
                continue
            times = row.interruptions + 1
            if times >= MAX_INTERRUPTIONS:
                _fail(tx, row.id, f"it was interrupted {times} times; eventferry itself died while it was made")
            else:
                exports.put_back(tx, row.id, interruptions=times)
    for row in found:
        logger.warning("export.interrupted", export=row.id, reason="eventferry died")
    return [row.id for row in found]


def put_back(desk: Desk, export_id: str) -> None:
    """Queue the export again because the daemon stops or makes no more exports: nobody's fault."""
    with desk.ledger.write() as tx:
        if _still_wanted(tx, export_id) is not None:
            exports.put_back(tx, export_id)


def cancel(desk: Desk, export_id: str) -> None:
    """The export is cancelled, where it was running."""
    with desk.ledger.write() as tx:
        exports.cancel(tx, export_id)
    logger.info("export.cancelled", export=export_id)


def schedule_cause(name: str) -> str:
    """The cause of what is wrong with a schedule."""
    return f"export.failed:{name}"


def _still_wanted(tx: sa.Connection, export_id: str) -> ExportRow | None:
    """The export, where it is running and to go on; one whose end was asked for has it now."""
    row = exports.get(tx, export_id)
    if row is None or row.state != "running":
        return None
    if row.cancelled:
        exports.cancel(tx, export_id)
        logger.info("export.cancelled", export=export_id)
        return None
    return row


def _fail(tx: sa.Connection, export_id: str, reason: str, detail: str | None = None) -> None:
    row = _still_wanted(tx, export_id)
    if row is None:
        return
    exports.fail(tx, export_id, reason)
    export_notices.insert(tx, export_id, _addresses(row))
    logger.warning("export.failed", export=export_id, dialect=row.dialect, reason=detail or reason)
    if row.schedule is not None:
        alerts.open_condition(
            tx,
            cause=schedule_cause(row.schedule),
            level="error",
            event="export.failed",
            subject=f"The scheduled export {row.schedule} failed",
            detail=detail or reason,
            command="eventferry status",
            fields={"export": export_id},
        )


def _alert_disk(tx: sa.Connection, desk: Desk, reason: str) -> None:
    alerts.open_condition(
        tx,
        cause=DISK_FULL,
        level="error",
        event=DISK_FULL,
        subject="Exports find no room on their disk; they are tried again for an hour",
        detail=reason,
        command=f"df -h {desk.folder}",
    )


def _alert_bucket(tx: sa.Connection, reason: str) -> None:
    alerts.open_condition(
        tx,
        cause=BUCKET_FAILED,
        level="error",
        event=BUCKET_FAILED,
        subject="Exports cannot be put into their bucket; they are tried again for an hour",
        detail=reason,
        command="eventferry check",
    )


def _addresses(row: ExportRow) -> list[tuple[str, str]]:
    found = [("email", address) for address in row.notify["email"]]
    if row.notify["webhook"]:
        found.append(("webhook", row.notify["webhook"]))
    return found

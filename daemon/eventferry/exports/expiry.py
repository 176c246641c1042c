"""The end of exports' files: those whose time is over, and those that belong to nobody any more."""

from contextlib import AbstractContextManager

from eventferry import clock
from eventferry.exports import folders
from eventferry.exports.desk import Desk
from eventferry.ledger import exports
from eventferry.logs import get_logger

logger = get_logger()


def expire(desk: Desk, nothing_begins: AbstractContextManager[object]) -> int:
    """Expire what is due and remove the files of whatever has none to have; returns how many have expired.

    The ledger says so first: from then on no link works, and a file that a death leaves behind goes with the next call.
    Inside `nothing_begins` no export is begun. Raises OSError where files cannot be removed.
    """
    with desk.ledger.read() as tx:
        due = exports.expired(tx, clock.now_ms())
    if due:
        with desk.ledger.write() as tx:
            for export_id in due:
                exports.expire(tx, export_id)
        for export_id in due:
            logger.info("export.expired", export=export_id)
    with nothing_begins:
        with desk.ledger.read() as tx:
            keep = exports.with_files(tx)
        folders.sweep(desk.folder, keep)
    folders.clear(desk.folder)
    return len(due)

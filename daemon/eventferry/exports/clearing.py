"""Removes from the operator's bucket what belongs to exports that are over, again and again until it is gone."""

from collections.abc import Callable, Collection

from eventferry import clock
from eventferry.errors import StoreError
from eventferry.exports.bucket import Bucket
from eventferry.exports.desk import Desk
from eventferry.ledger import alerts, exports
from eventferry.logs import get_logger

NOT_CLEARED = "exports.uncleared"
# A bucket that does not answer is tried again after a pause that doubles up to the longest, s.
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 600.0

logger = get_logger()


class Clearing:
    """Call `clear` every few seconds from one scheduler job; it may wait for the store."""

    def __init__(self, desk: Desk, at_work: Callable[[], Collection[str]]) -> None:
        self._desk = desk
        self._at_work = at_work  # of these more may come to the bucket, though they have ended
        self._pause = 0.0
        self._not_before = float("-inf")

    def use(self, desk: Desk) -> None:
        """Go by another configuration, at once."""
        self._desk, self._pause, self._not_before = desk, 0.0, float("-inf")

    def clear(self) -> int:
        """Remove what is needless; returns of how many exports. Their links have been dead since the ledger said so."""
        desk, bucket = self._desk, self._desk.bucket
        if bucket is None or clock.monotonic() < self._not_before:
            return 0
        with desk.ledger.read() as tx:
            found = exports.with_needless_objects(tx, bucket.root)
        at_work = self._at_work()
        needless = [each for each in found if each not in at_work]
        try:
            for export_id in needless:
                _remove(desk, bucket, export_id)
        except StoreError as error:
            self._wait(str(error))
            return 0
        self._pause = 0.0
        return len(needless)

    def _wait(self, reason: str) -> None:
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self._not_before = clock.monotonic() + self._pause
        logger.warning("exports.not_cleared", seconds=self._pause, reason=reason)
        with self._desk.ledger.write() as tx:
            alerts.open_condition(
                tx,
                cause=NOT_CLEARED,
                level="error",
                event=NOT_CLEARED,
                subject="Files of deleted or expired exports cannot be removed from their bucket; it is tried again",
                detail=reason,
                command="eventferry check",
            )


def _remove(desk: Desk, bucket: Bucket, export_id: str) -> None:
    bucket.remove(export_id)
    with desk.ledger.write() as tx:
        exports.set_place(tx, export_id, None)
        alerts.close_condition(tx, NOT_CLEARED, subject="Files of exports can be removed from their bucket again")
    logger.info("export.cleared", export=export_id)

"""What becomes of a sink's thread that meets what nobody foresaw: people are told, and it waits longer each time."""

import threading

import sqlalchemy as sa

from eventferry.ledger import Ledger, alerts
from eventferry.logs import get_logger
from eventferry.pipeline.outcome import describe
from eventferry.pipeline.record import Rules, waiting

logger = get_logger()

# One failure may be a hiccup of the ledger, and is over when anybody reads of it.
FAILURES_BEFORE_ALERT = 2
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


class Trouble:
    """The failures of one sink's own thread, in a row. Used by that thread alone."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self._rules = rules
        self._failures = 0
        self._is_past = False  # nothing is open, also not from an earlier process or worker

    @property
    def _cause(self) -> str:
        return f"deliver.failed:{self._rules.name}"

    def meet(self, error: Exception) -> None:
        """Say that the thread failed: in the journal each time, to people once."""
        logger.exception("deliver.failed", sink=self._rules.name, error=describe(error), failures=self._failures + 1)
        self._failures += 1
        self._is_past = False
        if self._failures < FAILURES_BEFORE_ALERT:
            return
        try:
            with self._ledger.write() as tx:
                self._tell(tx, error)
        except Exception as unwritten:  # most likely what made the thread fail; the next failure tries again
            logger.error("alert.unwritten", sink=self._rules.name, error=describe(unwritten))

    def _tell(self, tx: sa.Connection, error: Exception) -> None:
        name = self._rules.name
        alerts.open_condition(
            tx,
            cause=self._cause,
            level="error",
            event="deliver.failed",
            subject=f"Delivery to sink {name} fails for a reason that nobody foresaw; its events wait",
            detail=describe(error),
            command=f"journalctl -u eventferry -p err; eventferry status --sink {name}",
            fields=waiting(tx, self._rules, self._cause),
        )

    def wait(self, stopping: threading.Event) -> None:
        """Pause before the next try: longer each time, and not for long where it is asked to stop."""
        if stopping.is_set():
            threading.Event().wait(FIRST_WAIT_S)  # a stop must not turn this into a spin
        else:
            stopping.wait(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._failures - 1, 30)))

    def is_over(self) -> None:
        """The thread went through its whole loop: the failures in a row have an end."""
        if self._is_past:
            return
        with self._ledger.read() as tx:
            is_open = alerts.opened_ms(tx, self._cause) is not None
        if is_open:
            with self._ledger.write() as tx:
                alerts.close_condition(tx, self._cause, subject=f"Delivery to sink {self._rules.name} works again")
        self._failures, self._is_past = 0, True

"""The daemon with one deliberate fault: `python altered.py FAULT run --config …`; proves that the lane would find it.

    nothing        the control

Bugs of order, which the lane must find:
    ack_first      a batch is recorded as delivered before it is sent
    random_id      another attempt of a batch goes out under a new id
    cursor_first   the cursor moves in a transaction before the one that writes the batch down
Faults outside of the daemon's power, which it must bear:
    lost_replies   the first delivery of each batch takes effect in the sink, and its reply is lost
"""

import dataclasses
import sys
import uuid
from typing import Any

from eventferry.ledger import sinks
from eventferry.pipeline import deliver, record
from eventferry.pipeline.cargo import Cargo
from eventferry.pipeline.outcome import Ending, Verdict
from eventferry.sink import SinkUnavailable
from eventferry_sinks.duckdb.sink import DuckdbSink
from eventferry_sinks.file.sink import FileSink

Worker = deliver.SinkWorker


def nothing() -> None:
    """The daemon as it is."""


def ack_first() -> None:
    launch = Worker._launch

    def acknowledge_and_launch(self: Any, attempted: Any, slot: Any) -> None:
        with self._ledger.write() as tx:
            record.record(tx, self.setup.rules, attempted, Verdict(Ending.DELIVERED))
        launch(self, attempted, slot)

    Worker._launch = acknowledge_and_launch


def random_id() -> None:
    make = Worker._batch

    def make_with_any_id(self: Any, attempted: Any) -> Any:
        batch = make(self, attempted)
        return batch if batch.attempt == 1 else dataclasses.replace(batch, id=uuid.uuid4().hex)

    Worker._batch = make_with_any_id


def cursor_first() -> None:
    write_down = Cargo._write_down

    def move_and_write_down(self: Any, source: Any, sink: Any, cursor: Any, material: Any) -> Any:
        position, byte = material.end
        with self._ledger.write() as tx:
            left = material.left_events(cursor.left_events)
            sinks.move_cursor(tx, self.setup.id, source.id, position, byte, left)
        return write_down(self, source, sink, cursor, material)

    Cargo._write_down = move_and_write_down


def lost_replies() -> None:
    for sink_type in (FileSink, DuckdbSink):
        sink_type.deliver = _losing(sink_type.deliver)


def _losing(deliver_it: Any) -> Any:
    def deliver_and_lose(self: Any, batch: Any) -> None:
        deliver_it(self, batch)
        if batch.attempt == 1:
            raise SinkUnavailable("the reply was lost")

    return deliver_and_lose


FAULTS = {each.__name__: each for each in (nothing, ack_first, random_id, cursor_first, lost_replies)}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    from eventferry.cli import main

    main()

"""What sinks count that people should see: values that did not fit a column, columns that were added."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from eventferry import clock
from eventferry.ledger.tables import metadata as metadata

# So many different counts a sink may have; what it invents beyond is counted together.
MOST = 200
OTHERS = "others"

sink_counts = sa.Table(
    "sink_counts",
    metadata,
    sa.Column("sink_id", sa.ForeignKey("sinks.id"), primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),  # e.g. values.misfitted
    sa.Column("of", sa.Text, primary_key=True),  # e.g. a column
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("counted_ms", sa.BigInteger, nullable=False),  # the last time
)

_c = sink_counts.c


@dataclass(frozen=True, slots=True)
class Count:
    """One count of a sink, ever, and when it last grew."""

    what: str
    of: str
    number: int
    counted_ms: int


def add(tx: sa.Connection, sink_id: int, counts: Mapping[tuple[str, str], int]) -> None:
    """Add what an attempt that was taken has counted: (what, of what) → how often."""
    if not counts:
        return
    known = {(each.what, each.of) for each in counts_of(tx, sink_id)}
    for (what, of), number in counts.items():
        fits = (what, of) in known or len(known) < MOST
        known.add((what, of) if fits else (what, OTHERS))
        row = insert(sink_counts).values(
            sink_id=sink_id, what=what, of=of if fits else OTHERS, number=number, counted_ms=clock.now_ms()
        )
        grown = {"number": _c.number + row.excluded.number, "counted_ms": row.excluded.counted_ms}
        tx.execute(row.on_conflict_do_update(index_elements=["sink_id", "what", "of"], set_=grown))


def counts_of(tx: sa.Connection, sink_id: int) -> list[Count]:
    """The counts of a sink, by name."""
    rows = tx.execute(
        sa.select(_c.what, _c.of, _c.number, _c.counted_ms).where(_c.sink_id == sink_id).order_by(_c.what, _c.of)
    )
    return [Count(*row) for row in rows]

"""Chooses the batches that a replay is about, and says which ones a replacement supersedes."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from eventferry.ledger import batches
from eventferry.ledger import tables as t
from eventferry.ledger.batches import OPEN, BatchRow
from eventferry.ledger.identity import letter_id
from eventferry.ledger.sinks import SinkRow

_s, _o, _d = t.segments.c, t.objects.c, t.dead_letters.c
ENDED = ("delivered", "missing", "dead")
ALL = (*OPEN, *batches.ENDED)

# Numbers per query.
PAGE = 10_000


def choose(tx: sa.Connection, sink_id: int, mode: str, low_ms: int, high_ms: int) -> list[BatchRow]:
    """The ended batches that a replay `missing`, `again` or `replace` of the files dated in [low, high) is about."""
    chosen = {"missing": to_repair, "again": ended_between, "replace": to_replace}[mode]
    return chosen(tx, sink_id, low_ms, high_ms)


def ended_between(tx: sa.Connection, sink_id: int, low_ms: int, high_ms: int) -> list[BatchRow]:
    """The sink's ended batches that touch files dated in [low, high)."""
    rows = [row for span in _spans(tx, sink_id, low_ms, high_ms) for row in batches.batches_between(tx, *span, ENDED)]
    return [row for row in rows if row.replay_id is None]


def to_repair(tx: sa.Connection, sink_id: int, low_ms: int, high_ms: int) -> list[BatchRow]:
    """The same, but what was replaced stays so: the batches that stand in its place since.

    Not a refused event that a person dropped.
    """
    rows = [row for span in _spans(tx, sink_id, low_ms, high_ms) for row in batches.batches_between(tx, *span, ALL)]
    standing: list[BatchRow] = []
    # One that could not be read deleted nothing.
    roots = [row for row in rows if row.replaces is not None and row.parent_seq is None and row.state != "missing"]
    for epoch in sorted({root.epoch for root in roots}, reverse=True):
        newer = _Cover(standing)
        standing += [root for root in roots if root.epoch == epoch and not newer.overlapped_by(root)]
    families = {root.seq for root in standing}
    covers, dropped = _Cover(standing), _dropped(tx, [row.seq for row in rows if row.state == "dead"])
    return [
        row
        for row in rows
        if row.state in ENDED
        and row.seq not in dropped
        and ((row.root_seq or row.seq) in families or (row.replay_id is None and not covers.overlapped_by(row)))
    ]


def to_replace(tx: sa.Connection, sink_id: int, low_ms: int, high_ms: int) -> list[BatchRow]:
    """The sink's ended batches of these files, filtered ones too, and those that share a batch there with them."""
    rows = [row for span in _spans(tx, sink_id, low_ms, high_ms) for row in _closed(tx, *span)]
    of_log = [row for row in rows if row.replay_id is None]
    return [row for row in of_log if row.state in ENDED or (row.state == "filtered" and row.read_events)]


def open_between(tx: sa.Connection, sink_id: int, low_ms: int, high_ms: int, but_epoch: int | None) -> int:
    """How many batches that `to_replace` would meet have no end yet, but for those of an epoch."""
    rows = [row for span in _spans(tx, sink_id, low_ms, high_ms) for row in _closed(tx, *span)]
    return sum(row.state in OPEN and (row.replay_id is None or row.epoch != but_epoch) for row in rows)


def superseded(tx: sa.Connection, sink: SinkRow, rows: Sequence[BatchRow], epoch: int) -> dict[int, list[str]]:
    """Number of each batch → the ids under which the sink may hold its events, but for those of that epoch."""
    found: dict[int, list[str]] = {row.seq: [] for row in rows}
    by_source: defaultdict[int, list[BatchRow]] = defaultdict(list)
    for row in rows:
        by_source[row.source_id].append(row)
    for source_id, leaves in by_source.items():
        first, last = min(row.from_position for row in leaves), max(row.to_position for row in leaves)
        there = batches.batches_between(tx, sink.id, source_id, first, last, ALL)
        sent = [row for row in there if row.state != "filtered" and row.epoch_of_replay != epoch]
        letters = _letter_ids(tx, sink.identity, [row.seq for row in sent])
        covers = _Cover(leaves)
        for row in sent:
            for leaf in covers.overlapped_by(row):
                found[leaf.seq] += [row.id, *letters.get(row.seq, [])]
    return found


def _spans(tx: sa.Connection, sink_id: int, low_ms: int, high_ms: int) -> list[tuple[int, int, int, int]]:
    """(sink, source, first, last position) of the files dated in [low, high), for each source that the sink takes."""
    dated = sa.func.coalesce(_o.dated_ms, _o.modified_ms)
    spans = []
    for source_id in tx.execute(sa.select(t.cursors.c.source_id).where(t.cursors.c.sink_id == sink_id)).scalars().all():
        first, last = tx.execute(
            sa.select(sa.func.min(_s.position), sa.func.max(_s.position))
            .join_from(t.segments, t.objects, _s.object_id == _o.id)
            .where(_s.source_id == source_id, dated >= low_ms, dated < high_ms)
        ).one()
        if first is not None:
            spans.append((sink_id, source_id, first, last))
    return spans


def _closed(tx: sa.Connection, sink_id: int, source_id: int, first: int, last: int) -> list[BatchRow]:
    """The batches that touch these positions, and all that overlap them, and so on."""
    rows = batches.batches_between(tx, sink_id, source_id, first, last, ALL)
    while rows:
        low, high = min(row.start for row in rows), max(row.end for row in rows)
        near = batches.batches_between(tx, sink_id, source_id, low[0], high[0], ALL)
        wider = [row for row in near if row.start < high and low < row.end]
        if len(wider) == len(rows):
            break
        rows = wider
    return rows


class _Cover:
    """Batches of which no two of a source overlap, found by what overlaps them."""

    def __init__(self, rows: Sequence[BatchRow]) -> None:
        self._rows: defaultdict[int, list[BatchRow]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row.start):
            self._rows[row.source_id].append(row)
        self._ends = {source_id: [row.end for row in each] for source_id, each in self._rows.items()}

    def overlapped_by(self, row: BatchRow) -> list[BatchRow]:
        rows = self._rows.get(row.source_id, [])
        found = []
        for number in range(bisect_right(self._ends.get(row.source_id, []), row.start), len(rows)):
            if rows[number].start >= row.end:
                break
            found.append(rows[number])
        return found


def _letter_ids(tx: sa.Connection, identity: str, seqs: Sequence[int]) -> dict[int, list[str]]:
    """Batch → the ids under which its dead letters were sent one by one, or may yet be."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    query = sa.select(_d.batch_seq, _d.id, _d.place).where(_d.kind != "source_gone")
    for page in _pages(seqs):
        for seq, number, place in tx.execute(query.where(_d.batch_seq.in_(page))):
            found[seq].append(letter_id(identity, number, place))
    return found


def _dropped(tx: sa.Connection, seqs: Sequence[int]) -> set[int]:
    """Those of the batches whose dead letters were all dropped."""
    found: set[int] = set()
    for page in _pages(seqs):
        left = sa.func.sum(sa.case((_d.state == "dropped", 0), else_=1))
        over = sa.select(_d.batch_seq).where(_d.batch_seq.in_(page)).group_by(_d.batch_seq).having(left == 0)
        found |= set(tx.execute(over).scalars())
    return found


def _pages(numbers: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), PAGE):
        yield list(numbers[start : start + PAGE])

"""The identity of a batch: what any machine finds again for the same parts."""

import hashlib
import json
from collections.abc import Iterable

import sqlalchemy as sa

from eventferry.ledger import tables as t
from eventferry.sink import Part

# Raise it when the same raw bytes begin to be framed otherwise: it is part of every batch id.
FRAMING = 1


def batch_id(sink: str, epoch: int, transform: str, parts: Iterable[Part]) -> str:
    """32 hex digits: H(sink, epoch, framing + transform, parts). `sink` is the sink's identity."""
    identity = [sink, epoch, FRAMING, transform, [[p.source, p.key, p.digest, p.start, p.end] for p in parts]]
    return hashlib.sha256(json.dumps(identity, separators=(",", ":")).encode()).hexdigest()[:32]


def letter_id(sink: str, number: int, place: str) -> str:
    """The id under which a dead letter is sent as a batch of its own. `sink` is the sink's identity."""
    return hashlib.sha256(f"{sink}:dead-letter:{number}:{place}".encode()).hexdigest()[:32]


def batch_id_of(
    tx: sa.Connection, sink: str, epoch: int, transform: str, parts: Iterable[tuple[int, int, int, int]]
) -> str:
    """The same for parts as the ledger keeps them: (object id, start, end, events)."""
    found = []
    for object_id, start, end, events in parts:
        source, key, digest = tx.execute(
            sa.select(t.sources.c.identity, t.objects.c.key, t.objects.c.digest)
            .join_from(t.objects, t.sources, t.objects.c.source_id == t.sources.c.id)
            .where(t.objects.c.id == object_id)
        ).one()
        found.append(Part(source, key, digest, start, end, events))
    return batch_id(sink, epoch, transform, found)

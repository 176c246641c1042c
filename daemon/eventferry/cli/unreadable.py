"""Finds the files that were tried to read, and will be tried again."""

import sqlalchemy as sa

from eventferry.ledger import objects
from eventferry.ledger.objects import ObjectRow
from eventferry.pipeline.ending import RELEASED


def not_readable_yet(tx: sa.Connection, source_id: int) -> list[ObjectRow]:
    """Files of the source that could not be read, are not given up and wait for another try; the oldest first."""
    seen = objects.find_objects(tx, state="seen", source_id=source_id, limit=1_000_000)
    # What a person released keeps that as its reason; only where it was tried since does it wait for another try.
    return [row for row in reversed(seen) if row.reason and (row.reason != RELEASED or row.next_ms)]

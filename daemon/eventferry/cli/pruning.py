"""Forgets what is old and needed by nobody, or says what that would be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from eventferry import app, clock
from eventferry.cli import console
from eventferry.cli.place import be_quiet, find_place, load_config, open_place
from eventferry.cli.wording import duration, plural
from eventferry.errors import LedgerBusyError
from eventferry.ledger import Ledger
from eventferry.ledger.prune import prune as prune_ledger


class Rehearsal(Ledger):
    """A ledger in which every write is undone at its end."""

    def __init__(self, real: Ledger) -> None:
        self._real = real

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self._real.read() as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with self._real.write() as tx, tx.begin_nested() as step:
            yield tx
            step.rollback()


def prune(path: Path, *, dry_run: bool) -> None:
    """Delete what is older than the retention; with `dry_run` only say what would go."""
    be_quiet()
    config = load_config(path)
    place = find_place(path)
    ledger = open_place(place)
    before = clock.now_ms() - int(config.ledger.retention.total_seconds() * 1000)
    kept = f"older than {duration(config.ledger.retention.total_seconds())} (ledger.retention)"
    if dry_run:
        gone = prune_ledger(Rehearsal(ledger), before)
        _tell(gone, f"Nothing is {kept}.", f"Would go, as it is {kept} and needed by nobody:")
        return
    if app.is_owned(place.state_dir):
        raise LedgerBusyError("the daemon is running and prunes by itself every few hours; stop it to prune now")
    with app.own_state(place.state_dir, wait=False):
        gone = prune_ledger(ledger, before)
    _tell(gone, f"Nothing is {kept} and needed by nobody.", f"Gone, as it was {kept} and needed by nobody:")


def _tell(gone: dict[str, int], nothing: str, something: str) -> None:
    if not any(gone.values()):
        console.say(nothing)
        return
    console.say(something)
    for name, number in gone.items():
        if number:
            many = name.replace("_", " ")
            console.say(f"  {plural(number, 'batch' if many == 'batches' else many.removesuffix('s'), many)}")

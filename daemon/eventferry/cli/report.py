"""What a pass of `once` ended with: a table, and what is left to do."""

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from eventferry.cli import console
from eventferry.cli.retrying import tell_outcome
from eventferry.cli.wording import count, plural, size
from eventferry.ledger import Ledger, books, facts, sinks
from eventferry.ledger.sinks import SinkRow
from eventferry.pipeline.run import RunReport

Left = tuple[str, str]  # what is left, and the command for it


def tell(
    ledger: Ledger,
    reports: Mapping[str, RunReport],
    started_ms: int,
    working: set[str],
    retried: Sequence[int] = (),
) -> int:
    """Print the summary; 0 where everything available was delivered, 1 where something is left.

    `retried` are the dead letters that somebody wanted to be sent again.
    """
    with ledger.read() as tx:
        delivered = books.delivered_since(tx, started_ms)
        left = {row.sink: 0 for row in books.backlogs(tx)}
        for row in books.backlogs(tx):
            left[row.sink] += row.events
        rows = [row for row in sinks.all_sinks(tx) if row.name in working]
        letters = facts.waiting_letters(tx)
        open_ends = [*_of_sources(reports), *_of_files(tx), *_of_sinks(tx, rows, left, letters)]
    console.say()
    console.table(
        ("Source", ">New files", ">Events", ">Bad lines", ">Size"),
        [
            (name, count(r.indexed.files), count(r.indexed.events), count(r.indexed.bad), size(r.indexed.bytes))
            for name, r in reports.items()
        ],
    )
    if rows:
        console.say()
        console.table(
            ("Sink", ">Delivered now", ">Waiting", ">Dead letters"),
            [
                (
                    row.name,
                    count(delivered.get(row.name, 0)),
                    count(left.get(row.name, 0)),
                    count(letters.get(row.id, 0)),
                )
                for row in rows
            ],
        )
    console.say()
    if retried:
        with ledger.read() as tx:
            outcome = facts.letter_states(tx, retried)
        tell_outcome(ledger, outcome, advise=False)  # what is left is listed below
    for text, command in open_ends:
        console.mark(console.MIND, text)
        if command:
            console.advise(command)
    young = sum(each.discovery.too_young for each in reports.values())
    if young:
        console.say(
            f"{plural(young, 'file')} may still be being written (younger than `settle`); a later run takes them."
        )
    if not open_ends:
        console.mark(console.OK, "Everything is delivered." if not young else "Everything else is delivered.")
    return 1 if open_ends else 0


def _of_sources(reports: Mapping[str, RunReport]) -> Iterator[Left]:
    for name, each in reports.items():
        if each.error is not None:
            yield f"source {name} could not be listed: {each.error}", f"eventferry check --source {name}"
        if each.limited:
            yield f"source {name} has more new files than one run takes (max_files)", "eventferry once --drain"
        if each.indexed.postponed:
            yield f"source {name}: {plural(each.indexed.postponed, 'file')} could not be read yet", "eventferry once"


def _of_files(tx: sa.Connection) -> Iterator[Left]:
    for state, means in (("quarantined", "cannot be read as it is"), ("held", "changed after it was delivered")):
        number = len(facts.ids_in_state(tx, state))
        if number == 1:
            yield f"1 file is {state}: it {means}", f"eventferry files list --state {state}"
        elif number:
            plural_means = means.replace("it is", "they are").replace("it was", "they were")
            yield f"{count(number)} files are {state}: they {plural_means}", f"eventferry files list --state {state}"


def _of_sinks(
    tx: sa.Connection, rows: list[SinkRow], left: Mapping[str, int], letters: Mapping[int, int]
) -> Iterator[Left]:
    errors = facts.waiting_errors(tx)
    for row in rows:
        number = left.get(row.name, 0)
        events = f"{plural(number, 'event')} {'waits' if number == 1 else 'wait'}"
        if row.state == "held":
            yield (
                f"sink {row.name} is held; {events}: {row.reason}",
                f"once it is mended: eventferry resume {row.name}",
            )
        elif row.state == "paused":
            yield f"sink {row.name} is paused; {events}", f"eventferry resume {row.name}"
        elif left.get(row.name, 0):
            why = errors.get(row.id, "it did not take them yet")
            yield f"sink {row.name}: {events}: {why}", "eventferry once"
        if row.id in letters:
            refused = plural(letters[row.id], "event")
            kept = "it is kept" if letters[row.id] == 1 else "they are kept"
            yield f"sink {row.name} refused {refused}; {kept}", f"eventferry dead-letters list --sink {row.name}"

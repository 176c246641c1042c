"""What a pass of `once` ended with: a table, and what is left to do."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import sqlalchemy as sa

from eventferry.cli import console
from eventferry.cli.retrying import tell_outcome
from eventferry.cli.unreadable import not_readable_yet
from eventferry.cli.wording import count, plural, size
from eventferry.ledger import Ledger, books, dead_letters, facts, sinks, sources
from eventferry.ledger.sinks import SinkRow
from eventferry.pipeline.run import RunReport
from eventferry.sink.safe import named

Left = tuple[str, str]  # what is left, and the command for it


def tell(
    ledger: Ledger,
    reports: Mapping[str, RunReport],
    started_ms: int,
    working: set[str],
    retried: Sequence[int] = (),
) -> int:
    """Print the summary; 1 where something failed, or waits because of that, 0 even where files are left to later runs.

    `retried` are the dead letters that somebody wanted to be sent again.
    """
    with ledger.read() as tx:
        delivered = books.delivered_since(tx, started_ms)
        left: Counter[str] = Counter()
        for backlog in books.backlogs(tx):
            left[backlog.sink] += backlog.events
        rows = [row for row in sinks.all_sinks(tx) if row.name in working]
        letters = facts.waiting_letters(tx)
        open_ends = [*_of_sources(tx, reports), *_of_files(tx), *_of_sinks(tx, rows, left, letters)]
    console.say()
    _print_sources(reports)
    if rows:
        console.say()
        _print_sinks(rows, delivered, left, letters)
    console.say()
    if retried:
        with ledger.read() as tx:
            outcome = facts.letter_states(tx, retried)
        tell_outcome(ledger, outcome, advise=False)  # what is left is listed below
    more = [name for name, each in reports.items() if each.limited]
    _tell((*open_ends, *map(_more_waits, more)))
    young = sum(each.discovery.too_young for each in reports.values())
    if young:
        console.say(
            f"{plural(young, 'file')} may still be being written (younger than `settle`); a later run takes them."
        )
    if not open_ends:
        console.mark(console.OK, "Everything else is delivered." if young or more else "Everything is delivered.")
    return 1 if open_ends else 0


def _print_sources(reports: Mapping[str, RunReport]) -> None:
    console.table(
        ("Source", ">New files", ">Events", ">Bad lines", ">Size"),
        [
            (name, count(r.indexed.files), count(r.indexed.events), count(r.indexed.bad), size(r.indexed.bytes))
            for name, r in reports.items()
        ],
    )


def _print_sinks(
    rows: list[SinkRow], delivered: Mapping[str, int], left: Mapping[str, int], letters: Mapping[int, int]
) -> None:
    console.table(
        ("Sink", ">Delivered now", ">Waiting", ">Dead letters"),
        [
            (row.name, count(delivered.get(row.name, 0)), count(left.get(row.name, 0)), count(letters.get(row.id, 0)))
            for row in rows
        ],
    )


def _tell(open_ends: Iterable[Left]) -> None:
    for text, command in open_ends:
        console.mark(console.MIND, text)
        console.advise(command)


def _more_waits(source: str) -> Left:
    """No failure: a run takes so many and no more."""
    return (
        f"source {source} has more new files than one run takes (max_files); the next runs take them",
        "eventferry once --drain   takes all of them now",
    )


def _of_sources(tx: sa.Connection, reports: Mapping[str, RunReport]) -> Iterator[Left]:
    ids = sources.source_names(tx)
    for name, each in reports.items():
        if each.error is not None:
            yield f"source {name} could not be listed: {each.error}", f"eventferry check --source {name}"
        unread = not_readable_yet(tx, ids[name])
        if unread:
            first = "" if len(unread) == 1 else "the first: "
            why = named(unread[0].key, unread[0].reason or "")
            yield (
                f"source {name}: {plural(len(unread), 'file')} could not be read yet; {first}{why}",
                f"eventferry files list --state seen --source {name}",
            )


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
            yield f"sink {row.name}: {events}: {why}", _advice(row.name, why)
        if row.id in letters:
            yield from _of_letters(tx, row, letters[row.id])


def _advice(sink: str, why: str) -> str:
    """Where to look: in the code, where the sink is a function that raised, else at what it talks to."""
    if re.search(r"\(at .+:\d+\)\Z", why):
        return "look at the line of code that is named above; once it is mended: eventferry once"
    return f"eventferry check --sink {sink}   tries it; once it works: eventferry once"


def _of_letters(tx: sa.Connection, row: SinkRow, events: int) -> Iterator[Left]:
    """What a sink refused is kept; of what vanished from the store there is nothing to keep."""
    without = set(facts.letter_ids(tx, row.id, with_bytes=False)) - set(facts.letter_ids(tx, row.id, with_bytes=True))
    found = [dead_letters.get(tx, each) for each in without]
    gone = sum(each.events for each in found if each is not None and each.kind == "source_gone")
    look = f"eventferry dead-letters list --sink {row.name}"
    if events > gone:
        kept = "it is kept" if events - gone == 1 else "they are kept"
        yield f"sink {row.name} refused {plural(events - gone, 'event')}; {kept}", look
    if gone:
        was = "was" if gone == 1 else "were"
        why = "because the file is gone or was rewritten in the store"
        yield f"sink {row.name}: {plural(gone, 'event')} {was} not sent, {why}", look

"""The commands `dead-letters list`, `show`, `retry` and `drop`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventferry.cli.options import AsJson, ConfigPath, Yes, chosen, group

if TYPE_CHECKING:
    from eventferry.ledger import Ledger
    from eventferry.ledger.dead_letters import DeadLetterRow

letters = group("See the events that a sink refused for good; send them again or give them up.")

Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="NO.…", help="Numbers from `dead-letters list`.", show_default=False)
]
AllOf = Annotated[bool, typer.Option("--all", help="All that wait for the sink named by --sink.")]
OfSink = Annotated[str | None, typer.Option("--sink", metavar="NAME", help="Of this sink.")]


@letters.command("list")
def list_letters(
    ctx: typer.Context,
    sink: OfSink = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
    config: ConfigPath = None,
) -> None:
    """List dead letters that wait, newest first."""
    from eventferry.cli import console
    from eventferry.cli.asking import known_sink, prepare
    from eventferry.cli.vanished import tell_of_left_out
    from eventferry.ledger import dead_letters, sinks

    _, ledger = prepare(chosen(ctx, config))
    sink_id = known_sink(ledger, sink).id if sink else None
    with ledger.read() as tx:
        found = dead_letters.find(tx, sink_id=sink_id, state=None, limit=1_000_000)
        names = {row.id: row.name for row in sinks.all_sinks(tx)}
    found = [row for row in found if row.state in ("waiting", "retrying")][:limit]
    if as_json:
        console.print_json([_as_json(row, names) for row in found])
        return
    if not found:
        console.say("There are no dead letters that wait.")
        return
    _print(found, names, limit)
    console.say()
    console.advise("eventferry dead-letters show NO.    shows the event", indent=0)
    if any(row.body is not None for row in found):
        console.advise("eventferry dead-letters retry NO.   sends it again, once the sink is mended", indent=0)
    tell_of_left_out(ledger, [row.id for row in found if row.body is None])


def _as_json(row: "DeadLetterRow", names: dict[int, str]) -> dict[str, Any]:
    from eventferry.cli.wording import iso

    return {
        "id": row.id,
        "sink": names[row.sink_id],
        "kind": row.kind,
        "place": row.place,
        "events": row.events,
        "bytes": row.bytes,
        "reason": row.reason,
        "state": row.state,
        "attempts": row.attempts,
        "created": iso(row.created_ms),
    }


def _print(found: "list[DeadLetterRow]", names: dict[int, str], limit: int) -> None:
    from eventferry.cli import console
    from eventferry.cli.wording import ago, count, size

    console.table(
        (">No.", "Sink", "~Place", ">Events", ">Size", "Since", "~Reason"),
        [
            (
                row.id,
                names[row.sink_id],
                row.place,
                count(row.events),
                size(row.bytes),
                ago(row.created_ms),
                row.reason + (" (being sent again)" if row.state == "retrying" else ""),
            )
            for row in found
        ],
    )
    if len(found) == limit:
        console.say(f"No more than {limit} are shown, the newest; --limit shows more.", "dim")


@letters.command()
def show(ctx: typer.Context, number: Annotated[int, typer.Argument(metavar="NO.")], config: ConfigPath = None) -> None:
    """Show one: where it comes from, why it was refused, its bytes."""
    import sys

    from eventferry.cli import console
    from eventferry.cli.asking import prepare
    from eventferry.cli.wording import at, count
    from eventferry.errors import UsageError
    from eventferry.ledger import dead_letters, sinks

    _, ledger = prepare(chosen(ctx, config))
    with ledger.read() as tx:
        row = dead_letters.get(tx, number)
        if row is None:
            raise UsageError(f"there is no dead letter {number}; see `eventferry dead-letters list`")
        sink = sinks.get_sink_by_id(tx, row.sink_id).name
    known = {"Sink": sink, "Place": row.place, "Reason": row.reason, "Since": at(row.created_ms), "State": row.state}
    known |= {"Events": count(row.events), "Retries": count(row.attempts)}
    for label, text in known.items():
        console.say(f"{label:<8} {text}", err=True)
    if row.body is None:
        console.say("Its bytes are not kept: the file is gone, or it was given up or delivered.", "dim", err=True)
        return
    console.say(err=True)
    # The bytes alone go to standard output, as they are: for a file or a pipe. A terminal obeys control characters.
    if sys.stdout.isatty():
        console.say(row.body.decode(errors="backslashreplace").rstrip("\n"))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(row.body)
        sys.stdout.buffer.flush()


def _chosen_letters(
    ledger: "Ledger", numbers: list[int] | None, *, all_of: bool, sink: str | None, with_bytes: bool
) -> list[int]:
    from eventferry.cli.asking import known_sink
    from eventferry.errors import UsageError
    from eventferry.ledger import dead_letters, facts

    if bool(numbers) == all_of or all_of != (sink is not None):
        raise UsageError("say which: numbers from `eventferry dead-letters list`, or --all --sink NAME")
    if sink is not None:
        row = known_sink(ledger, sink)
        with ledger.read() as tx:
            return facts.letter_ids(tx, row.id, with_bytes=with_bytes)
    with ledger.read() as tx:
        for number in numbers or []:
            found = dead_letters.get(tx, number)
            if found is None or found.state not in ("waiting", "retrying"):
                raise UsageError(f"there is no dead letter {number} that waits; see `eventferry dead-letters list`")
    return numbers or []


@letters.command()
def retry(
    ctx: typer.Context, numbers: Numbers = None, all_of: AllOf = False, sink: OfSink = None, config: ConfigPath = None
) -> None:
    """Send dead letters again, once the sink takes them."""
    from eventferry.cli import console
    from eventferry.cli.asking import prepare
    from eventferry.cli.retrying import retry_letters
    from eventferry.cli.vanished import refuse_to_retry, tell_of_left_out

    place, ledger = prepare(chosen(ctx, config))
    ids = _chosen_letters(ledger, numbers, all_of=all_of, sink=sink, with_bytes=True)
    if all_of:
        every = _chosen_letters(ledger, numbers, all_of=all_of, sink=sink, with_bytes=False)
        tell_of_left_out(ledger, sorted({*every} - {*ids}))
    refuse_to_retry(ledger, ids)
    if not ids:
        console.say("There is nothing to send again.")
        return
    raise typer.Exit(retry_letters(place, ledger, ids))


@letters.command()
def drop(
    ctx: typer.Context,
    numbers: Numbers = None,
    all_of: AllOf = False,
    sink: OfSink = None,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Give dead letters up: their bytes are deleted."""
    from eventferry.cli import console
    from eventferry.cli.asking import confirm, have_each_done, prepare
    from eventferry.cli.wording import plural

    place, ledger = prepare(chosen(ctx, config))
    ids = _chosen_letters(ledger, numbers, all_of=all_of, sink=sink, with_bytes=False)
    if not ids:
        console.say("There is nothing to give up.")
        return
    confirm(f"Delete {plural(len(ids), 'dead letter')} for good?", yes=yes)
    have_each_done(place, ledger, "letters.drop", ids)

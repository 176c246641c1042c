"""Says what can be done about dead letters without bytes, because their file vanished from the store."""

import datetime as dt
from collections.abc import Sequence

from eventferry import clock
from eventferry.cli import console
from eventferry.cli.options import calling
from eventferry.cli.wording import plural
from eventferry.errors import UsageError
from eventferry.ledger import Ledger, batches, dead_letters, objects, sinks


def refuse_to_retry(ledger: Ledger, numbers: Sequence[int]) -> None:
    """Raise UsageError with the remedy where one of these has no bytes to send."""
    for number in numbers:
        if command := _redelivery(ledger, number):
            raise UsageError(
                f"{number}: its file was gone, so no bytes are kept to be sent; if the file is there again, "
                f"`{calling()} {command}` delivers it, otherwise `{calling()} dead-letters drop {number}` ends it"
            )


def tell_of_left_out(ledger: Ledger, numbers: Sequence[int]) -> None:
    """These cannot be sent from here; what can be done instead, as often as it differs."""
    commands = list(dict.fromkeys(filter(None, (_redelivery(ledger, number) for number in numbers))))
    if not commands:
        return
    have, their, them = ("has", "its", "it") if len(numbers) == 1 else ("have", "their", "them")
    left = plural(len(numbers), "dead letter")
    console.mark(console.MIND, f"{left} {have} no bytes to send: {their} file was gone. If it is there again:")
    for command in commands[:5]:
        console.advise(f"eventferry {command}   delivers it")
    if len(commands) > 5:
        console.say("  … and so for the other days", "dim")
    console.say(f"  Otherwise `{calling()} dead-letters drop NO.` ends {them}.", "dim")


def _redelivery(ledger: Ledger, number: int) -> str | None:
    """The command that delivers the file of a letter without bytes once it is back; None for one with bytes."""
    with ledger.read() as tx:
        row = dead_letters.get(tx, number)
        if row is None or row.body is not None:
            return None
        sink = sinks.get_sink_by_id(tx, row.sink_id).name
        parts = [] if row.batch_seq is None else batches.parts_of(tx, row.batch_seq)
        found = [objects.get_object(tx, each) for each in sorted({part[0] for part in parts})]
    days = sorted(_day(each.modified_ms if each.dated_ms is None else each.dated_ms) for each in found)
    first, last = (days[0], days[-1]) if days else ("DAY", "DAY")
    return f"replay --sink {sink} --from {first} --to {last} --missing"


def _day(ms: int) -> str:
    moment: dt.datetime = clock.from_ms(ms)
    return moment.date().isoformat()

"""Has something done: by the running daemon, or at once where none runs."""

import contextlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from eventferry import app, clock
from eventferry.cli import console
from eventferry.cli.options import calling
from eventferry.cli.place import Place, be_quiet, find_place, open_place, try_config
from eventferry.cli.syntax import with_remedy
from eventferry.cli.wording import plural
from eventferry.errors import ConfigError, EventferryError, UsageError
from eventferry.ledger import Ledger, facts, requests, sinks
from eventferry.ledger.batches import BatchRow
from eventferry.service import carry_out
from eventferry.sink import Guarantee
from eventferry.sink.registry import load_sink_type

PATIENCE_SECONDS = 10.0
# A reload may have to wait for calls under way.
RELOAD_SECONDS = 60.0
LOOK_SECONDS = 0.1
# A statement of SQLite takes some 30,000 values.
PAGE = 10_000


class RequestRefused(EventferryError):
    """The daemon says no, for reasons of its own."""


def have_done(place: Place, ledger: Ledger, kind: str, **args: Any) -> str:
    """Have the request carried out; what happened. Raises EventferryError where it was refused or not answered."""
    if app.is_owned(place.state_dir):
        return _ask(ledger, kind, PATIENCE_SECONDS, args)
    with app.own_state(place.state_dir, wait=False):
        return carry_out.do(ledger, kind, args)


def _ask(ledger: Ledger, kind: str, patience: float, args: dict[str, Any]) -> str:
    with ledger.write() as tx:
        number = requests.ask(tx, kind, **args)
    end = clock.monotonic() + patience
    pause = threading.Event()
    while clock.monotonic() < end:
        with ledger.read() as tx:
            request = requests.get(tx, number)
        if request.done_ms is not None:
            if not request.ok:
                raise RequestRefused(request.result or "refused")
            return request.result or ""
        pause.wait(LOOK_SECONDS)
    raise EventferryError(
        f"the daemon has not answered within {patience:g} s; it will do it as soon as it can: eventferry status"
    )


def prepare(path: Path) -> tuple[Place, Ledger]:
    """The place and its ledger, opened as its owner, with secrets known so that none is printed."""
    be_quiet()
    place = find_place(path)
    try_config(path)
    return place, open_place(place)


def known_sink(ledger: Ledger, name: str) -> sinks.SinkRow:
    """The sink of that name. Raises UsageError."""
    with ledger.read() as tx:
        row = sinks.get_sink(tx, name)
        known = ", ".join(each.name for each in sinks.all_sinks(tx))
    if row is None:
        raise UsageError(f"there is no sink {name!r} in the ledger; known are: {known or 'none'}")
    return row


def is_failing(ledger: Ledger, row: sinks.SinkRow) -> bool:
    """Whether a sink that is neither held nor paused is waiting to be tried again."""
    with ledger.read() as tx:
        return row.failures > 0 or row.id in facts.waiting_errors(tx)


def ask_about_sink(path: Path, kind: str, sink: str) -> None:
    """Pause or resume a sink."""
    place, ledger = prepare(path)
    row = known_sink(ledger, sink)
    if kind == "pause" and row.state == "paused":
        console.say(f"Sink {sink} is paused already; its events wait until `{calling()} resume {sink}`.")
        return
    failing = row.state == "active" and is_failing(ledger, row)
    if kind == "resume" and row.state == "active" and not failing:
        console.say(f"Sink {sink} is active already; there is nothing to resume.")
        return
    said = have_done(place, ledger, kind, sink=sink)
    console.mark(console.OK, said.replace("was active", "was waiting to be tried again") if failing else said)
    if kind == "resume":
        tell_who_goes_on(place)


def ask_to_reload(path: Path, *, wait: bool) -> None:
    """Make the daemon load its configuration; print what changed. Raises EventferryError with every mistake."""
    place, ledger = prepare(path)
    if not app.is_owned(place.state_dir):
        raise EventferryError("no daemon is running; the next start loads the configuration anyway")
    if not wait:
        with ledger.write() as tx:
            requests.ask(tx, "reload")
        console.mark(console.OK, "The daemon is asked to reload; `eventferry status` shows the outcome.")
        return
    try:
        result = _ask(ledger, "reload", RELOAD_SECONDS, {})
    except RequestRefused as error:
        console.complain(
            [*map(with_remedy, str(error).split("\n")), "nothing was loaded; the daemon goes on with what it had"]
        )
        raise typer.Exit(1) from None
    if result == "nothing changed":
        console.mark(console.OK, "Loaded; nothing changed.")
    else:
        console.mark(console.OK, "Loaded:")
        for change in result.split("\n"):
            console.say(f"  {change}")
    _tell_about_credentials(path)


def _tell_about_credentials(path: Path) -> None:
    with contextlib.suppress(OSError):
        if "${credential:" in path.read_text(encoding="utf-8", errors="replace"):
            console.say(
                "Credentials stay as they were at the start; changed ones need `systemctl restart eventferry`.", "dim"
            )


def ask_to_replay(path: Path, sink: str, first: str, last: str, mode: str, *, yes: bool) -> None:
    """Say what a replay means, then have it done."""
    place, ledger = prepare(path)
    row = known_sink(ledger, sink)
    low, high = carry_out.day_ms(first), carry_out.day_ms(last) + 86_400_000
    asked = {"sink": sink, "mode": mode, "from": first, "to": last}
    with ledger.read() as tx:
        ended = carry_out.choose_batches(tx, row, asked)
    if not ended:
        console.say(f"Sink {sink} has got nothing of the files from {first} to {last} yet; there is nothing to replay.")
        return
    with ledger.read() as tx:
        reach = facts.reach_of(tx, [each.seq for each in ended], low, high)
    days = first if first == last else f"{first} to {last}"
    files = plural(reach.files_within, "file")
    console.say(f"{days} (UTC): {files} of which it got events; a file counts by the date in its key, else by its age.")
    console.say(_what_will_be(row, mode, ended))
    if reach.files > reach.files_within:
        events, others = reach.events - reach.events_within, reach.files - reach.files_within
        console.mark(
            console.MIND,
            f"Among them {'is' if events == 1 else 'are'} {plural(events, 'event')} of {plural(others, 'file')} "
            "of other days, for batches reach across files.",
        )
    confirm("Go on?", yes=yes)
    have_done(place, ledger, "replay", **asked)
    go = "go" if len(ended) != 1 else "goes"
    way = "again, in place of what it has" if mode == "replace" else "again"
    console.mark(console.OK, f"{plural(len(ended), 'batch', 'batches')} {go} to sink {sink} {way}.")
    console.advise(f"eventferry status --sink {sink}   shows how much of it waits")
    tell_who_goes_on(place)


def _what_will_be(row: sinks.SinkRow, mode: str, ended: Sequence[BatchRow]) -> str:
    """What a replay of these batches does, as a sentence."""
    sink, what, many = row.name, plural(len(ended), "batch", "batches"), len(ended) != 1
    if mode == "replace":
        read = plural(sum(each.read_events for each in ended), "event")
        return (
            f"Whole batches are replaced: what sink {sink} holds of {what} ({read} before any filter) will be deleted,"
            " and written anew under the filter and the fields of today; each batch in one transaction."
        )
    how = {
        "missing": f"under {'their old ids' if many else 'its old id'}: {_what_a_repeat_means(row)}",
        "again": f"under {'new ids' if many else 'a new id'}: it will hold {'them' if many else 'it'} twice",
    }
    sent = plural(sum(each.events for each in ended), "event")
    return f"Whole batches are sent: {what} with {sent} will be sent to sink {sink} {how[mode]}."


def _what_a_repeat_means(row: sinks.SinkRow) -> str:
    """What a sink of this type does with what it has got before, as far as anybody can promise."""
    try:
        guarantee = load_sink_type(row.type).guarantee
    except ConfigError:  # it was uninstalled; `check` says so
        guarantee = Guarantee.AT_LEAST_ONCE
    if guarantee is Guarantee.EFFECTIVELY_ONCE:
        return "it takes what it lacks"
    unless = ", unless its receiver knows the keys of batches" if guarantee is Guarantee.AT_LEAST_ONCE_KEYED else ""
    return f"what it has already it gets a second time{unless}"


def tell_who_goes_on(place: Place) -> None:
    """Where no daemon runs, say that nothing moves by itself."""
    if not app.is_owned(place.state_dir):
        console.say(f"No daemon is running: its next start, or `{calling()} once`, goes on from here.", "dim")


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if a person says so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked; add --yes")
    typer.confirm(question, abort=True)


def have_each_done(place: Place, ledger: Ledger, kind: str, ids: Sequence[int], **args: Any) -> None:
    """Have the same done for these files or dead letters; print what happened."""
    for page in [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]:
        console.mark(console.OK, have_done(place, ledger, kind, ids=list(page), **args))
    tell_who_goes_on(place)

"""The commands `files list`, `retry`, `release` and `drop`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventferry.cli.options import AsJson, ConfigPath, Yes, chosen, group

if TYPE_CHECKING:
    from eventferry.ledger import Ledger
    from eventferry.ledger.objects import ObjectRow

files = group("See the files that were found; mend what became of them.")

Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE…", help="Numbers or keys from `files list`; * matches anything.", show_default=False),
]
WAITING = ("quarantined", "held")


class State(StrEnum):
    """Where a file is on its way."""

    SEEN = "seen"
    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    QUARANTINED = "quarantined"
    HELD = "held"
    GONE = "gone"
    DROPPED = "dropped"


@files.command("list")
def list_files(
    ctx: typer.Context,
    state: Annotated[State | None, typer.Option("--state", help="Only files in this state.")] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only files of this source.")] = None,
    bad: Annotated[bool, typer.Option("--bad", help="Only files with bad lines, with samples of those.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
    config: ConfigPath = None,
) -> None:
    """List files, newest first."""
    from eventferry.cli import console
    from eventferry.cli.asking import prepare
    from eventferry.errors import UsageError
    from eventferry.ledger import facts, objects, sources

    _, ledger = prepare(chosen(ctx, config))
    word = state.value if state else None
    with ledger.read() as tx:
        ids = sources.source_names(tx)
        if source is not None and source not in ids:
            raise UsageError(f"there is no source {source!r} in the ledger; known are: {', '.join(ids) or 'none'}")
        source_id = ids[source] if source else None
        names = {id_: name for name, id_ in ids.items()}
        if bad:
            found_bad = facts.bad_files(tx, source_id=source_id, state=word, limit=limit)
        else:
            found = objects.find_objects(tx, state=word, source_id=source_id, limit=limit)
    if bad:
        _print_bad(found_bad, names, as_json=as_json)
        return
    if as_json:
        console.print_json([_as_json(row, names) for row in found])
        return
    _print(found, names, limit)


def _as_json(row: "ObjectRow", names: dict[int, str]) -> dict[str, Any]:
    from eventferry.cli.wording import iso

    return {
        "id": row.id,
        "source": names[row.source_id],
        "key": row.key,
        "state": row.state,
        "reason": row.reason,
        "size": row.size,
        "events": row.events,
        "bad": row.bad,
        "modified": iso(row.modified_ms),
        "seen": iso(row.seen_ms),
    }


def _print(found: "list[ObjectRow]", names: dict[int, str], limit: int) -> None:
    from eventferry.cli import console
    from eventferry.cli.wording import ago, count, size

    if not found:
        console.say("No such files.")
        return
    styles = {"quarantined": "bold red", "held": "bold red", "seen": "yellow"}
    console.table(
        (">No.", "State", "Source", "~File", ">Size", ">Events", ">Bad lines", "Found"),
        [
            (
                row.id,
                console.styled(row.state, styles.get(row.state, "")),
                names[row.source_id],
                row.key,
                size(row.size),
                "—" if row.events is None else count(row.events),
                "—" if row.bad is None else count(row.bad),
                ago(row.seen_ms),
            )
            for row in found
        ],
    )
    reasons = [row for row in found if row.reason and row.state in (*WAITING, "gone", "seen")]
    if reasons:
        console.say()
    for row in reasons:
        console.mark(console.MIND, f"{row.id}: {row.reason}")
    if len(found) == limit:
        console.say(f"No more than {limit} are shown, the newest; --limit shows more.", "dim")
    _advise([row for row in found if row.state in WAITING])


def _advise(waiting: "list[ObjectRow]") -> None:
    from eventferry.cli import console

    if not waiting:
        return
    console.say()
    console.advise("eventferry files retry NO.     reads it again, once it is mended in the store", indent=0)
    whole = [row for row in waiting if _is_whole(row)]
    if whole:
        which = "" if len(whole) == len(waiting) else ", where it could be read to its end"
        console.advise(f"eventferry files release NO.   delivers it as it is{which}: bad lines are left out", indent=0)
    console.advise("eventferry files drop NO.      gives it up", indent=0)
    console.say("For many at once: a quoted pattern of keys instead of NO., such as '2024/01/31/*'.", "dim")


def _print_bad(found: Any, names: dict[int, str], *, as_json: bool) -> None:
    from eventferry.cli import console
    from eventferry.cli.wording import count, plural

    if as_json:
        fields = ("line", "offset", "length", "reason")
        console.print_json(
            [
                {
                    "id": row.id,
                    "source": names[row.source_id],
                    "key": row.key,
                    "state": row.state,
                    "lines": row.lines,
                    "bad": row.bad,
                    "samples": [dict(zip(fields, sample, strict=True)) for sample in row.samples],
                }
                for row in found
            ]
        )
        return
    if not found:
        console.say("No file has bad lines.")
    for row in found:
        console.say(f"{names[row.source_id]}  {row.key}", "bold")
        console.say(f"  {plural(row.bad, 'bad line')} of {count(row.lines)}")
        for line, _, length, reason in row.samples:
            console.say(f"  line {count(line)}: {reason} ({plural(length, 'byte')})", "dim")
        if row.bad > len(row.samples):
            console.say("  …", "dim")


def _find(ledger: "Ledger", which: list[str], states: tuple[str, ...] = WAITING) -> "list[ObjectRow]":
    """The files of these numbers or keys that wait for a person. Raises UsageError where there are none."""
    from eventferry.errors import UsageError
    from eventferry.ledger import objects

    found: dict[int, ObjectRow] = {}
    with ledger.read() as tx:
        waiting = {row.id: row for state in states for row in objects.find_objects(tx, state=state, limit=1_000_000)}
        for one in which:
            if one.isdecimal():
                rows = [waiting[int(one)]] if int(one) in waiting else []
            else:
                rows = [row for row in objects.find_objects(tx, key=one, limit=1_000_000) if row.id in waiting]
            if not rows:
                raise UsageError(
                    f"{one}: no quarantined or held file has this number or key; see `eventferry files list`"
                )
            found |= {row.id: row for row in rows}
    return list(found.values())


@files.command()
def retry(
    ctx: typer.Context,
    which: Which = None,
    all_quarantined: Annotated[bool, typer.Option("--all-quarantined", help="All quarantined files.")] = False,
    config: ConfigPath = None,
) -> None:
    """Read quarantined or held files again, once they are mended in the store."""
    from eventferry.cli import console
    from eventferry.cli.asking import have_each_done, prepare
    from eventferry.errors import UsageError
    from eventferry.ledger import objects

    place, ledger = prepare(chosen(ctx, config))
    if bool(which) == all_quarantined:
        raise UsageError("say which files: numbers, keys, or --all-quarantined")
    if all_quarantined:
        with ledger.read() as tx:
            rows = objects.find_objects(tx, state="quarantined", limit=1_000_000)
        if not rows:
            console.say("No file is quarantined.")
            return
    else:
        rows = _find(ledger, which or [])
    have_each_done(place, ledger, "files.retry", [row.id for row in rows])


@files.command()
def release(ctx: typer.Context, which: Which = None, config: ConfigPath = None) -> None:
    """Deliver files as they are, in spite of many bad lines or changed content."""
    from eventferry.cli.asking import have_each_done, prepare
    from eventferry.errors import UsageError

    place, ledger = prepare(chosen(ctx, config))
    if not which:
        raise UsageError("say which files: numbers or keys from `eventferry files list`")
    rows = _releasable(_find(ledger, which))
    have_each_done(place, ledger, "files.retry", [row.id for row in rows], release=True)


def _is_whole(row: "ObjectRow") -> bool:
    """Whether it was read to its end, so that it can be released."""
    return row.state == "held" or row.digest is not None


def _releasable(rows: "list[ObjectRow]") -> "list[ObjectRow]":
    """Of several files those that can be read to their end; one alone is refused with its reason by the daemon."""
    from eventferry.cli import console
    from eventferry.cli.wording import plural

    whole = [row for row in rows if _is_whole(row)]
    if len(rows) == 1 or not whole:
        return rows
    if len(whole) < len(rows):
        left = plural(len(rows) - len(whole), "file")
        console.mark(console.MIND, f"{left} cannot be read to the end and stay quarantined: retry or drop them")
    return whole


@files.command()
def drop(ctx: typer.Context, which: Which = None, yes: Yes = False, config: ConfigPath = None) -> None:
    """Give files up: their events are not delivered."""
    from eventferry.cli import console
    from eventferry.cli.asking import confirm, have_each_done, prepare
    from eventferry.cli.wording import plural
    from eventferry.errors import UsageError

    place, ledger = prepare(chosen(ctx, config))
    if not which:
        raise UsageError("say which files: numbers or keys from `eventferry files list`")
    rows = _find(ledger, which)
    for row in rows[:20]:
        console.say(f"  {row.key}")
    confirm(f"Give up {plural(len(rows), 'file')}? No sink will get what is in there.", yes=yes)
    have_each_done(place, ledger, "files.drop", [row.id for row in rows])

"""The commands `keys create`, `list`, `revoke`, `expire` and `rotate-signing`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli.options import AsJson, ConfigPath, chosen, group

if TYPE_CHECKING:
    import sqlalchemy as sa

    from eventferry.access.keys import Key

keys = group("Let people and programs ask the API for events and exports; each with a key of its own.")

# The first line keeps the others from being joined.
EXAMPLE = """\b
Example:
  eventferry keys create nightly-report --owner ana --scope exports \\
    --tenant acme --filter '{"field": "event_type", "eq": "pageView"}' --expires 90d
"""
WHEN = (
    "a span such as 90d or 12h, a day (2027-01-31, which it no longer sees) or an instant (2027-01-31T18:00:00+01:00)"
)


class KeyScope(StrEnum):
    """What a key may be used for."""

    EVENTS = "events"
    EXPORTS = "exports"
    ADMIN = "admin"


Named = Annotated[str, typer.Argument(metavar="KEY", help="Its id, handle, name or token.", show_default=False)]
Several = "Repeat it for several; without it: all of them."


@keys.command(epilog=EXAMPLE)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.", show_default=False)],
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="USER", help="Who uses it; the user name of Basic. Default: NAME.")
    ] = None,
    scope: Annotated[
        list[KeyScope] | None,
        typer.Option("--scope", help="What it may do; repeat it for several. Default: events and exports."),
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="NAME", help=f"Only its events. {Several}")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option("--project", metavar="NAME", help=f"Only its events. {Several}")
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option("--collection", metavar="NAME", help=f"Only its events. {Several}")
    ] = None,
    filter: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Only events that satisfy it, whatever is asked.")
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="WHEN", help=f"When it ends: {WHEN}.")] = None,
    config: ConfigPath = None,
) -> None:
    """Make a key and print its token, this once: only a hash of it is kept.

    The token alone goes to standard output, so that TOKEN=$(eventferry keys create …) works.
    """
    from eventferry.access.keys import create_key
    from eventferry.cli import console
    from eventferry.cli.asking import prepare
    from eventferry.cli.key_forms import describe, read_filter, read_moment
    from eventferry.query.scope import Scope

    only = read_filter(filter) if filter is not None else None
    ends = read_moment(expires, "--expires") if expires is not None else None
    realm = Scope(*(tuple(dict.fromkeys(names)) if names else None for names in (tenant, project, collection)))
    scopes = [each.value for each in scope or (KeyScope.EVENTS, KeyScope.EXPORTS)]
    _, ledger = prepare(chosen(ctx, config))
    with ledger.write() as tx:
        key, token = create_key(
            tx, name=name, owner=owner or name, scopes=scopes, realm=realm, filter=only, expires_ms=ends
        )
    console.mark(console.OK, f"Key {key.name} ({key.handle}): {describe(key)}.", err=True)
    console.say("  Its token is shown this once; only a hash of it is kept:", "dim", err=True)
    typer.echo(token)


@keys.command("list")
def list_all(ctx: typer.Context, as_json: AsJson = False, config: ConfigPath = None) -> None:
    """List every key there ever was, oldest first, without its secret."""
    from eventferry import clock
    from eventferry.access.keys import list_keys
    from eventferry.cli import console
    from eventferry.cli.asking import prepare
    from eventferry.cli.key_forms import limits, to_json
    from eventferry.cli.wording import ago, iso

    _, ledger = prepare(chosen(ctx, config))
    with ledger.read() as tx:
        found = list_keys(tx)
    now = clock.now_ms()
    if as_json:
        console.print_json([to_json(key, now) for key in found])
        return
    if not found:
        console.say("There are no keys; nobody can ask the API for anything.")
        console.advise("eventferry keys create NAME   makes one", indent=0)
        return
    console.table(
        ("Handle", "~Name", "~Owner", "Scopes", "~Limited to", "State", "Expires", "Used"),
        [
            (
                key.handle,
                key.name,
                key.owner,
                " ".join(sorted(key.scopes)),
                limits(key) or "—",
                key.state(now),
                (iso(key.expires_ms) or "never")[:16].replace("T", " "),
                ago(key.used_ms),
            )
            for key in found
        ],
    )


@keys.command()
def revoke(ctx: typer.Context, key: Named, config: ConfigPath = None) -> None:
    """End a key at once and for good; its exports stay."""
    from eventferry.access.keys import revoke_key
    from eventferry.cli import console
    from eventferry.cli.asking import prepare

    _, ledger = prepare(chosen(ctx, config))
    with ledger.write() as tx:
        found = _the_one(tx, key)
        ended = revoke_key(tx, found.id)
    said = "is revoked" if ended else "was revoked before"
    console.mark(console.OK, f"Key {found.name} ({found.handle}) {said}; it opens nothing.")


@keys.command()
def expire(
    ctx: typer.Context,
    key: Named,
    when_in: Annotated[str | None, typer.Option("--in", metavar="SPAN", help="After this time: 30d, 12h.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="WHEN", help="On this day (UTC) or at this instant.")
    ] = None,
    never: Annotated[bool, typer.Option("--never", help="Not at all, until it is revoked.")] = False,
    config: ConfigPath = None,
) -> None:
    """Say anew when a key ends: sooner, later, or never."""
    from eventferry.access.keys import set_expiry
    from eventferry.cli import console
    from eventferry.cli.asking import prepare
    from eventferry.cli.key_forms import read_moment
    from eventferry.cli.wording import iso
    from eventferry.errors import UsageError

    if sum((when_in is not None, at is not None, never)) != 1:
        raise UsageError("say when: one of --in 30d, --at 2027-01-31, --never")
    ends = None if never else read_moment(when_in or at or "", "--in" if when_in is not None else "--at")
    _, ledger = prepare(chosen(ctx, config))
    with ledger.write() as tx:
        found = _the_one(tx, key)
        if found.revoked_ms is not None:
            raise UsageError(f"key {found.name} ({found.handle}) is revoked, and stays so; make another one")
        set_expiry(tx, found.id, ends)
    said = f"ends at {iso(ends)}" if ends is not None else "does not expire"
    console.mark(console.OK, f"Key {found.name} ({found.handle}) {said}.")


@keys.command("rotate-signing")
def rotate_signing(
    ctx: typer.Context,
    forget: Annotated[
        bool, typer.Option("--forget", help="End what the older secrets signed at once, not after 30 days.")
    ] = False,
    config: ConfigPath = None,
) -> None:
    """Sign download links with a new secret from now on; running daemons and servers follow at once.

    With --forget all links given out so far end, and so do waiting exports to a requester's own store.
    """
    from eventferry.access.keyring import Keyring
    from eventferry.cli import console
    from eventferry.cli.asking import prepare

    place, _ = prepare(chosen(ctx, config))
    made = Keyring(place.state_dir).rotate(forget=forget)
    rest = "what the older ones signed is void" if forget else "what the older ones signed is valid for 30 days more"
    console.mark(console.OK, f"Links are signed with secret {made} from now on; {rest}.")


def _the_one(tx: "sa.Connection", named: str) -> "Key":
    """The key that is meant. Raises UsageError."""
    from eventferry.access.keys import find_keys
    from eventferry.errors import UsageError

    found = find_keys(tx, named)
    if len(found) > 1:  # of keys replaced by others of their name only the last one is in use
        found = [key for key in found if key.revoked_ms is None] or found
    if not found:
        shown = "with this token" if named.startswith("ef_") else repr(named[:80])
        raise UsageError(f"there is no key {shown}; see `eventferry keys list`")
    if len(found) > 1:
        handles = ", ".join(key.handle for key in found)
        raise UsageError(f"{len(found)} keys are named {named!r}; say which by its handle: {handles}")
    return found[0]

"""The commands that ask something of the daemon: pause, resume, reload, replay, rename, prune."""

from enum import StrEnum
from typing import Annotated

import typer

from eventferry.cli.options import ConfigPath, Yes, chosen

Sink = Annotated[str, typer.Argument(metavar="SINK", help="Its name.", show_default=False)]


class What(StrEnum):
    """What can be renamed."""

    SINK = "sink"
    SOURCE = "source"


def add_to(program: typer.Typer) -> None:
    """Register the commands."""
    for daily in (pause, resume, reload):
        program.command(rich_help_panel="Carry events")(daily)
    for rare in (replay, rename, prune):
        program.command(rich_help_panel="When something needs you")(rare)


def pause(ctx: typer.Context, sink: Sink, config: ConfigPath = None) -> None:
    """Send nothing to a sink until it is resumed; its events wait."""
    from eventferry.cli.asking import ask_about_sink

    ask_about_sink(chosen(ctx, config), "pause", sink)


def resume(ctx: typer.Context, sink: Sink, config: ConfigPath = None) -> None:
    """Send to a paused or held sink again, now."""
    from eventferry.cli.asking import ask_about_sink

    ask_about_sink(chosen(ctx, config), "resume", sink)


def reload(
    ctx: typer.Context,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the outcome.")] = True,
    config: ConfigPath = None,
) -> None:
    """Make the running daemon load the edited configuration, all of it or nothing."""
    from eventferry.cli.asking import ask_to_reload

    ask_to_reload(chosen(ctx, config), wait=wait)


def replay(
    ctx: typer.Context,
    sink: Annotated[str, typer.Option("--sink", metavar="NAME", help="Which sink gets them.")],
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="The first day of the files, in UTC.")],
    last: Annotated[str, typer.Option("--to", metavar="DATE", help="The last day, included.")],
    missing: Annotated[
        bool, typer.Option("--missing", help="Same ids: a sink that knows them takes only what it lacks.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="New ids: duplicates on purpose.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of what the sink has, where its type can.")
    ] = False,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Send the events of some days to a sink once more."""
    from eventferry.cli.asking import ask_to_replay
    from eventferry.errors import UsageError

    modes = [name for name, wanted in (("missing", missing), ("again", again), ("replace", replace)) if wanted]
    if len(modes) != 1:
        raise UsageError("say how: one of --missing, --again, --replace")
    ask_to_replay(chosen(ctx, config), sink, first, last, modes[0], yes=yes)


def rename(
    ctx: typer.Context,
    what: Annotated[What, typer.Argument(help="What it is.", show_default=False)],
    old: Annotated[str, typer.Argument(metavar="OLD", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", show_default=False)],
    config: ConfigPath = None,
) -> None:
    """Give a sink or source another name; it keeps its memory. The daemon must be stopped."""
    from eventferry.cli.renaming import rename as carry_out

    carry_out(chosen(ctx, config), what.value, old, new)


def prune(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    config: ConfigPath = None,
) -> None:
    """Forget what is old and needed by nobody; a running daemon does it by itself."""
    from eventferry.cli.pruning import prune as carry_out

    carry_out(chosen(ctx, config), dry_run=dry_run)

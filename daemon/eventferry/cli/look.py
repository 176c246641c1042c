"""The commands that change nothing: `check`, `status` and `sinks`."""

from typing import Annotated

import typer

from eventferry.cli.options import AsJson, ConfigPath, chosen

OneSource = Annotated[str | None, typer.Option("--source", metavar="NAME", help="This source only.")]
OneSink = Annotated[str | None, typer.Option("--sink", metavar="NAME", help="This sink only.")]


def add_to(program: typer.Typer) -> None:
    """Register the commands."""
    program.command(rich_help_panel="Set up")(check)
    program.command(rich_help_panel="Set up")(sinks)
    program.command(rich_help_panel="Carry events")(status)


def check(
    ctx: typer.Context,
    source: OneSource = None,
    sink: OneSink = None,
    as_service: Annotated[
        bool, typer.Option("--as-service", help="Check inside the sandbox of the installed systemd unit (as root).")
    ] = False,
    config: ConfigPath = None,
) -> None:
    """Try everything that a run needs, step by step, without moving an event."""
    path = chosen(ctx, config)
    if as_service:
        from eventferry.cli.sandbox import check_in_sandbox

        raise typer.Exit(check_in_sandbox(path, source, sink))
    from eventferry.cli.check import check_all

    raise typer.Exit(check_all(path, source, sink))


def status(
    ctx: typer.Context,
    source: OneSource = None,
    sink: OneSink = None,
    as_json: AsJson = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when something needs a person.")] = False,
    config: ConfigPath = None,
) -> None:
    """Show how sources and sinks are doing, whether or not the daemon runs."""
    from eventferry.cli import console
    from eventferry.cli.place import be_quiet, find_place, step_down, try_config
    from eventferry.cli.status import collect
    from eventferry.cli.status_view import show, show_nothing_yet
    from eventferry.errors import ConfigError
    from eventferry.ledger import open_ledger

    be_quiet()
    path = chosen(ctx, config)
    place = find_place(path)
    loaded = try_config(path)
    step_down(place.state_dir)
    if not place.ledger.exists():
        if not path.exists():
            raise ConfigError(f"{path}: there is no such file; `eventferry init` writes one, --config names another")
        if as_json:
            console.print_json(None)
        else:
            show_nothing_yet(place)
        return
    ledger = open_ledger(place.ledger, migrate=False)
    found = collect(ledger, place, loaded, source, sink)
    ledger.close()
    console.print_json(found) if as_json else show(found)
    if exit_code and found["needs_attention"]:
        raise typer.Exit(1)


def sinks(as_json: AsJson = False) -> None:
    """List the installed sink types with what each promises."""
    from eventferry.cli import console
    from eventferry.cli.place import be_quiet
    from eventferry.cli.sink_types import collect_types, show_types

    be_quiet()
    found = collect_types()
    console.print_json(found) if as_json else show_types(found)

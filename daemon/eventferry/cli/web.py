"""The commands of the pull side's server: `serve` and `openapi`."""

import threading
from typing import TYPE_CHECKING, Any

import typer

from eventferry import installing
from eventferry.cli.options import ConfigPath, chosen
from eventferry.errors import ConfigError, EventferryError, LedgerError

if TYPE_CHECKING:
    from pathlib import Path

    from eventferry.api.parts import Parts
    from eventferry.config import Config

# At boot the daemon, which makes and migrates the ledger, starts at the same time.
LEDGER_SECONDS = 60.0
LOOK_EVERY = 0.5


def add_to(program: typer.Typer) -> None:
    """Register the commands."""
    program.command(rich_help_panel="Serve events")(serve)
    program.command(rich_help_panel="Serve events")(openapi)


def serve(ctx: typer.Context, config: ConfigPath = None) -> None:
    """Answer whoever asks for events and exports, until stopped: the API and the console, beside `eventferry run`."""
    from eventferry.cli.place import load_config, step_down
    from eventferry.logs import configure_logs

    path = chosen(ctx, config)
    configure_logs()
    loaded = load_config(path)
    configure_logs(loaded.log.format, loaded.log.level)
    _check(loaded, path)
    step_down(loaded.state_dir)
    _require_extra()
    from eventferry.api.running import serve_until_stopped
    from eventferry.api.server import make_server

    parts = _await_parts(loaded, path)
    try:
        if fault := serve_until_stopped(make_server(parts, _pages(loaded)), loaded):
            where = f"{loaded.api.host}:{loaded.api.port}"
            raise EventferryError(  # not a ConfigError: whoever holds the port may let go of it, a restart helps then
                f"{path}: api.host, api.port: cannot listen on {where}: {fault}; free it, or write another one"
            )
    finally:
        parts.ledger.close()


def openapi() -> None:
    """Print the API's OpenAPI document, every dialect included; needs neither configuration nor ledger."""
    import json

    _require_extra()
    from eventferry.api.openapi import document

    typer.echo(json.dumps(document(), indent=2, ensure_ascii=False))


def _require_extra() -> None:
    """Say how to install what the server needs, where it is missing. Raises ConfigError."""
    from eventferry.cli.pulling import missing_packages

    if missing := missing_packages():
        raise ConfigError(
            f"the server needs {', '.join(missing)}, which this installation lacks; run:"
            f" {installing.command('eventferry[api]')}"
        )


def _check(config: "Config", path: "Path") -> None:
    if not config.pull.enabled:
        raise ConfigError(
            f"{path}: pull.enabled = false; there is nothing to serve until it is true and the daemon has loaded it"
        )


def _await_parts(config: "Config", path: "Path") -> "Parts":
    """The parts, as soon as the daemon has made or migrated the ledger; for a minute. Raises LedgerError."""
    from eventferry import clock, notify
    from eventferry.api.parts import build_parts
    from eventferry.logs import get_logger

    deadline = clock.monotonic() + LEDGER_SECONDS
    told = False
    while True:
        try:
            return build_parts(config, path)
        except LedgerError as error:
            if clock.monotonic() >= deadline:
                raise
            if not told:
                get_logger().warning("ledger.awaited", reason=str(error), seconds=LEDGER_SECONDS)
                notify.status("waiting for the daemon to prepare the ledger")
                told = True
        threading.Event().wait(LOOK_EVERY)


def _pages(config: "Config") -> list[Any]:
    """The console, where it is on."""
    if not config.api.console:
        return []
    from eventferry.console import SURFACE

    return [SURFACE]

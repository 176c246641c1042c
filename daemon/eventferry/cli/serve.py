"""The commands that move events: `run` and `once`."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from eventferry.cli.options import ConfigPath, chosen

# Ask systemd for more time in steps; a step that is not renewed runs out.
STEP_SECONDS = 20.0


def add_to(program: typer.Typer) -> None:
    """Register the commands."""
    program.command(rich_help_panel="Carry events")(run)
    program.command(rich_help_panel="Carry events")(once)


def run(ctx: typer.Context, config: ConfigPath = None) -> None:
    """Carry events until stopped: what the systemd unit starts."""
    from eventferry import app
    from eventferry.cli.place import load_config, step_down
    from eventferry.logs import configure_logs
    from eventferry.service import Service

    path = chosen(ctx, config)
    configure_logs()
    loaded = load_config(path)
    configure_logs(loaded.log.format, loaded.log.level)
    step_down(loaded.state_dir)
    wait = loaded.ledger.when_busy == "wait"
    with contextlib.ExitStack() as held:
        with _more_time():
            held.enter_context(app.own_state(loaded.state_dir, wait=wait))
            ledger = app.open_own_ledger(loaded)
        Service(loaded, path, ledger).run()
        ledger.close(at_exit=True)
        sys.stdout.flush()
        sys.stderr.flush()
        # A call into a sink that never returns holds its thread for ever; an ordinary exit would wait for it. The
        # books are closed, and the lock goes with the process.
        os._exit(0)


@contextlib.contextmanager
def _more_time() -> Iterator[None]:
    """While a copy and a migration of the ledger, or a wait for it, take their time, systemd keeps its patience."""
    from eventferry import notify

    done = threading.Event()

    def ask() -> None:
        while not done.wait(STEP_SECONDS):
            notify.extend_timeout(2 * STEP_SECONDS)

    threading.Thread(target=ask, name="more-time", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def once(
    ctx: typer.Context,
    drain: Annotated[bool, typer.Option("--drain", help="Go on until no new file is found.")] = False,
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Look at this source only.")] = None,
    config: ConfigPath = None,
) -> None:
    """Look for new files once, deliver what there is, and say what became of it.

    Exits with 1 where something failed or waits because of that, with 0 also where max_files left files to later runs.
    """
    from eventferry.cli.once import carry_once

    raise typer.Exit(carry_once(chosen(ctx, config), drain=drain, only=source))

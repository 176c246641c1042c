"""The commands `alert test` and `alert failure`."""

import contextlib
import socket
from typing import Annotated

import typer

from eventferry.cli.options import ConfigPath, chosen, group

alert = group("Try the ways by which people are told.")

JOURNAL_LINES = "30"
JOURNAL_SECONDS = 20.0


@alert.command()
def test(
    ctx: typer.Context,
    channel: Annotated[str | None, typer.Option("--channel", metavar="NAME", help="This channel only.")] = None,
    config: ConfigPath = None,
) -> None:
    """Send a test message through each channel now, and say what happened."""
    from eventferry import app
    from eventferry.alerts.failure import deliver, make_test_message
    from eventferry.cli import console
    from eventferry.cli.place import be_quiet, load_config
    from eventferry.errors import UsageError

    be_quiet()
    path = chosen(ctx, config)
    loaded = load_config(path)
    channels, _ = app.alert_parts(loaded)
    if channel is not None and channel not in channels:
        raise UsageError(f"there is no channel {channel!r}; known are: {', '.join(channels) or 'none'}")
    wanted = [each for name, each in channels.items() if channel in (None, name)]
    if not wanted:
        raise UsageError(f"{path} names no channel; add [[alerts.channels]]")
    outcomes = deliver(make_test_message(loaded.instance, socket.gethostname()), wanted, tries=1)
    for name, error in outcomes.items():
        if error is None:
            console.mark(console.OK, f"{name} took the message.")
        else:
            console.mark(console.BAD, f"{name}: {error}")
    if any(error is not None for error in outcomes.values()):
        raise typer.Exit(1)


@alert.command(hidden=True)
def failure(ctx: typer.Context, unit: str, config: ConfigPath = None) -> None:
    """Tell people that a unit failed, with the end of its journal: what OnFailure= starts."""
    from eventferry.alerts.failure import lenient_channels, send_failure
    from eventferry.cli.place import load_config
    from eventferry.errors import ConfigError, EventferryError
    from eventferry.logs import configure_logs

    configure_logs()
    path = chosen(ctx, config)
    instance = "eventferry"
    with contextlib.suppress(ConfigError):  # very likely the reason for the failure
        instance = load_config(path, strict=False).instance
    outcomes = send_failure(
        unit, _journal_tail(unit), lenient_channels(path), instance=instance, host=socket.gethostname()
    )
    if not outcomes or any(error is not None for error in outcomes.values()):
        refused = "; ".join(f"{name}: {error}" for name, error in outcomes.items() if error is not None)
        raise EventferryError(f"not everybody could be told that {unit} failed: {refused or 'there is no channel'}")


def _journal_tail(unit: str) -> list[str]:
    """The last lines of the unit; none where the journal cannot be read."""
    import subprocess

    command = ["journalctl", "--unit", unit, "--lines", JOURNAL_LINES, "--output", "cat", "--no-pager"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=JOURNAL_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode(errors="replace").splitlines()

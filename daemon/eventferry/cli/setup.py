"""The command `init`: writes the first configuration."""

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from eventferry.cli.options import ConfigPath, chosen

ACCOUNT = "eventferry"
MODE = 0o640


def add_to(program: typer.Typer) -> None:
    """Register the command."""
    program.command(rich_help_panel="Set up")(init)


def init(
    ctx: typer.Context,
    path: Annotated[
        Path | None, typer.Option("--path", metavar="PATH", help="Where to write it; default: where --config says.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    config: ConfigPath = None,
) -> None:
    """Write a first configuration, and say what comes next."""
    from eventferry.cli import console
    from eventferry.cli.place import DEFAULT_CONFIG
    from eventferry.config import initial_text
    from eventferry.errors import UsageError

    target = (path or chosen(ctx, config)).absolute()
    if target.exists() and not force:
        raise UsageError(f"{target} is there already and stays as it is; --force replaces it")
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, initial_text())
    named = "" if target == DEFAULT_CONFIG else f" --config {target}"
    console.mark(console.OK, f"{target} is written.")
    console.say()
    console.say("Next:")
    console.advise(f"edit {target}: say where your files are, and where events go")
    console.advise(f"eventferry{named} check     tries everything that a run needs")
    console.advise(f"eventferry{named} once      delivers what there is")


def _write(target: Path, text: str) -> None:
    """Write the file whole or not at all; root shares it with the service's group, for it will hold secrets."""
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(descriptor, MODE)
            if os.geteuid() == 0 and (group := _group_of_service()) is not None:
                os.fchown(descriptor, 0, group)
        aside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def _group_of_service() -> int | None:
    import grp

    try:
        return grp.getgrnam(ACCOUNT).gr_gid
    except KeyError:
        return None

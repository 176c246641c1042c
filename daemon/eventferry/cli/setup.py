"""The command `init`: writes the first configuration."""

import contextlib
import json
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
    from eventferry.config import initial_text
    from eventferry.errors import UsageError

    chosen_path = chosen(ctx, path or config)
    target = Path(os.path.normpath(chosen_path))
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name the file that is to be written, such as {target}/config.toml")
    if target.exists() and not force:
        raise UsageError(f"{target} is there already and stays as it is; --force replaces it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(
            f"{target.parent} is no folder, so nothing can be written below it; name another --path"
        ) from None
    state = _own_state(target)
    _write(target, initial_text() if state is None else _with_state(initial_text(), state))
    console.mark(console.OK, f"{target} is written.")
    if state is not None:
        console.say(
            f"  What eventferry remembers goes to {state} (state_dir), for this is no configuration of the system."
        )
    console.say()
    console.say("Next:")
    console.advise(f"edit {target}: say where your files are, and where events go")
    console.advise("eventferry check     tries everything that a run needs")
    console.advise("eventferry once      delivers what there is")


def _own_state(target: Path) -> Path | None:
    """Where a private configuration keeps its state: beside it. None for one of the system."""
    if os.geteuid() == 0 and target.is_relative_to("/etc"):
        return None
    return target.parent / ("state" if target.name == "config.toml" else f"{target.stem}-state")


def _with_state(text: str, state: Path) -> str:
    """The text with its folders below `state`; quoted as TOML wants it."""
    quoted = json.dumps(str(state), ensure_ascii=False)[1:-1]
    return text.replace("/var/lib/eventferry", quoted)


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

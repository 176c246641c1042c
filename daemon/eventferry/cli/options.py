"""The options that commands share."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

DEFAULT_CONFIG = "/etc/eventferry/config.toml"

# Where systemd looks for units, those of packages last.
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)

_HELP = f"The configuration file, by default {DEFAULT_CONFIG}."
# The environment counts before the command only: there it gives way to what is written down.
RootConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="PATH", help=_HELP, show_default=False, envvar="EVENTFERRY_CONFIG", show_envvar=True
    ),
]
ConfigPath = Annotated[Path | None, typer.Option("--config", metavar="PATH", help=_HELP, show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


_chosen: Path | None = None  # what the command at work is about, for the commands that it advises


class Listing(TyperGroup):
    """Lists its commands by what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = str(getattr(command, "rich_help_panel", None) or "Commands")
                sections.setdefault(panel, []).append((name, command.get_short_help_str(110)))
        for panel, rows in sections.items():
            with formatter.section(typer.style(panel, bold=True)):
                formatter.write_dl(rows)


def group(help: str) -> typer.Typer:
    """A command with commands of its own."""
    return typer.Typer(cls=Listing, help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def chosen(ctx: typer.Context, config: Path | None) -> Path:
    """The configuration that the command is about: named after it, before it, by the environment, or the default."""
    global _chosen
    _chosen = (config or ctx.find_root().obj or Path(DEFAULT_CONFIG)).absolute()
    return _chosen


def calling(path: Path | None = None) -> str:
    """How to call the program about this configuration, or that of this command, with the path quoted for a shell."""
    path = path or _chosen
    from_environment = os.environ.get("EVENTFERRY_CONFIG")
    known = {Path(DEFAULT_CONFIG), Path(from_environment).absolute() if from_environment else None}
    return "eventferry" if path is None or path in known else f"eventferry --config {shlex.quote(str(path))}"


def is_service(path: Path | None = None, unit: str = "eventferry.service") -> bool:
    """Whether an installed unit runs this configuration, or that of this command: then systemctl is to be advised."""
    installed = any(Path(folder, unit).exists() for folder in UNIT_FOLDERS)
    return (path or _chosen) in (None, Path(DEFAULT_CONFIG)) and installed

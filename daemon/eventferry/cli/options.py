"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = "/etc/eventferry/config.toml"

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help=f"The configuration file. [default: {DEFAULT_CONFIG}]",
        show_default=False,
        envvar="EVENTFERRY_CONFIG",
        show_envvar=True,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def group(help: str) -> typer.Typer:
    """A command with commands of its own."""
    return typer.Typer(help=help, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


def chosen(ctx: typer.Context, config: Path | None) -> Path:
    """The configuration that the command is about: named after it, before it, by the environment, or the default."""
    return (config or ctx.find_root().obj or Path(DEFAULT_CONFIG)).absolute()

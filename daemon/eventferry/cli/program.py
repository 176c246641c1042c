"""The program `eventferry`: its commands, its options, and how it ends."""

import os
import sys
from typing import Annotated, Any

import typer

from eventferry.cli import act, alert, config, dead_letters, files, keys, look, serve, setup, web
from eventferry.cli.options import Listing, RootConfigPath
from eventferry.errors import ConfigError, EventferryError

# The first line keeps the others from being joined.
EXIT_CODES = """\b
Exit codes:
  0   done
  1   something failed, or needs a person
  2   wrong usage
  75  another eventferry holds the ledger
  78  the configuration or the ledger is wrong, or a package is missing
"""


class Program(Listing):
    """Ends every command in a way that people and scripts understand."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            code = _explain(error, debug=bool(ctx.params.get("debug")))
            if code is None:
                raise
            raise typer.Exit(code) from None


def _explain(error: Exception, *, debug: bool) -> int | None:
    """Print what an error means; its exit code. None where typer knows better."""
    if type(error).__module__.startswith(("typer", "click")):
        return None
    from eventferry.cli.console import complain

    if debug:
        import traceback

        from eventferry.logs import redact

        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    match error:
        case ConfigError():
            complain(error.problems)
            return error.exit_code
        case EventferryError():
            complain([str(error)])
            return error.exit_code
        case BrokenPipeError():  # somebody read enough of the output
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 1
        case PermissionError() if error.filename:
            complain([f"{error.filename}: permission denied; run it as root, or as the user that the service runs as"])
            return 1
        case _:
            first = str(error).partition("\n")[0]
            complain([f"{type(error).__name__}: {first} (a bug? `eventferry --debug …` shows where)"])
            return 1


program = typer.Typer(
    name="eventferry",
    cls=Program,
    help="Carries raw analytics events from the file store where they land to every tool where people look at them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its help would import a Markdown parser and a highlighter: a third of a second
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from eventferry import __version__

        typer.echo(f"eventferry {__version__}")
        raise typer.Exit()


@program.callback()
def options(
    ctx: typer.Context,
    config_path: RootConfigPath = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = config_path


# The order is that of --help: what is needed first stands first.
for module in (setup, serve, web, look, act):
    module.add_to(program)
program.add_typer(keys.keys, name="keys", rich_help_panel="Serve events")
program.add_typer(files.files, name="files", rich_help_panel="When something needs you")
program.add_typer(dead_letters.letters, name="dead-letters", rich_help_panel="When something needs you")
program.add_typer(alert.alert, name="alert", rich_help_panel="Set up")
program.add_typer(config.config, name="config", rich_help_panel="Set up")

"""The commands `config show` and `config example`."""

import sys

import typer

from eventferry.cli.options import AsJson, ConfigPath, chosen, group

config = group("Show the configuration, and every option that there is.")


@config.command()
def show(ctx: typer.Context, as_json: AsJson = False, config: ConfigPath = None) -> None:
    """Print every setting at work, with defaults; secrets are shown as ***."""
    from eventferry.cli import console
    from eventferry.cli.place import be_quiet, load_config

    be_quiet()
    loaded = load_config(chosen(ctx, config))
    if as_json:
        console.print_json(loaded.to_toml_dict())
    else:
        sys.stdout.write(loaded.show())


@config.command()
def example() -> None:
    """Print an example with every option, its default and what it does."""
    from eventferry.config import example_text

    sys.stdout.write(example_text())

"""Renames a sink or source in the ledger, and says what the configuration must say from then on."""

from collections.abc import Sequence
from pathlib import Path

from eventferry import app
from eventferry.cli import console
from eventferry.cli.asking import prepare
from eventferry.cli.naming import cost_of_start
from eventferry.cli.options import calling
from eventferry.cli.place import try_config
from eventferry.config import Config, SinkConfig, SourceConfig
from eventferry.errors import LedgerBusyError, UsageError
from eventferry.ledger import Ledger, log, sinks, sources
from eventferry.service import carry_out


def rename(path: Path, what: str, old: str, new: str) -> None:
    """Rename a sink or source while no daemon runs. Raises UsageError, LedgerBusyError."""
    place, ledger = prepare(path)
    if app.is_owned(place.state_dir):
        raise LedgerBusyError(
            f'the daemon is running; stop it first, or let it do that: write name = "{new}" and renamed_from = "{old}" '
            f"into {path}, then `{calling()} reload`"
        )
    with app.own_state(place.state_dir, wait=False):
        _refuse(ledger, what, old, new)
        carry_out.do(ledger, "rename", {"what": what, "old": old, "new": new})
    console.mark(console.OK, f"{what} {old} is now {new} in the ledger, and keeps its memory.")
    _tell_about_config(path, try_config(path), ledger, what, old, new)


def _refuse(ledger: Ledger, what: str, old: str, new: str) -> None:
    """Raise UsageError where that cannot be."""
    with ledger.read() as tx:
        known = list(sources.source_names(tx)) if what == "source" else [row.name for row in sinks.all_sinks(tx)]
    if old not in known:
        raise UsageError(f"there is no {what} {old!r} in the ledger; known are: {', '.join(known) or 'none'}")
    if new == old:
        raise UsageError(f"{what} {old} has that name already")
    if new in known:
        raise UsageError(
            f"there is a {what} {new!r} in the ledger already, with a memory of its own; {old!r} can have another name"
        )
    try:
        SourceConfig(name=new, url="/")
    except ValueError:
        raise UsageError(
            f"{new!r} is not a name; use a-z, 0-9, _ and -, at most 63 of them, a letter or digit first"
        ) from None


def _tell_about_config(path: Path, config: Config | None, ledger: Ledger, what: str, old: str, new: str) -> None:
    if config is None:
        console.mark(console.MIND, f'{path} cannot be read as it is; the {what} must stand there with name = "{new}".')
        return
    table = "sources" if what == "source" else "sinks"
    entries: Sequence[SourceConfig | SinkConfig] = config.sources if what == "source" else config.sinks
    names = [each.name for each in entries]
    if old in names:
        index = names.index(old)
        console.mark(
            console.MIND,
            f'{config.place(table, index, "name")} still says "{old}". '
            + _consequence(config, ledger, what, entries[index]),
        )
        also = f"remove this table: {new} has its own" if new in names else f'write name = "{new}" there'
        console.advise(f"before the next start: {also}")
        console.advise("eventferry check   tries it then")
    elif new in names:
        console.say(f"{path} names it {new} already: nothing is left to do.")
    else:
        console.mark(console.MIND, f'{path} has no {what} "{new}"; without one nothing is carried for it.')


def _consequence(config: Config, ledger: Ledger, what: str, entry: SourceConfig | SinkConfig) -> str:
    """What the next start would make of the old name."""
    with ledger.read() as tx:
        if log.head(tx) and not entry.says_start:
            return "The next start or reload refuses that name, for the ledger no longer knows it."
    if isinstance(entry, SinkConfig):
        return f"To the next start that is a new sink: it {'; it '.join(cost_of_start(config, ledger, entry))} again."
    return f"To the next start that is a new source: it starts at {entry.start}, and its files are taken again."

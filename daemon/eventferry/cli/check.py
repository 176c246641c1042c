"""Tries everything that a run needs, step by step, without moving an event."""

import sqlite3
from pathlib import Path

from eventferry import app
from eventferry.cli import console, naming, outlook, pulling, room, trial
from eventferry.cli.place import be_quiet, load_config, step_down
from eventferry.cli.wording import count, plural, size
from eventferry.config import Config, SourceConfig
from eventferry.errors import ConfigError, LedgerError, StoreError, UsageError
from eventferry.ledger import Ledger, books, open_ledger, sources
from eventferry.pipeline.source import spec_of, start_ms
from eventferry.store import open_store
from eventferry.store.layout import Layout, Selection

# Below it two connections that write and checkpoint at once can damage the ledger.
SAFE_SQLITE = (3, 51, 3)


class Steps:
    """Prints each step as it is done, and remembers the worst."""

    def __init__(self) -> None:
        self.code = 0
        self.not_contacted: list[str] = []  # sinks of which nothing is proven
        self.new_names = False  # one of them could send everything again
        self.listings: dict[str, trial.Listing] = {}  # source → what is in its store

    def ok(self, text: str) -> None:
        console.mark(console.OK, text)

    def note(self, text: str) -> None:
        """More about the step above."""
        console.say(f"  {text}", "dim")

    def mind(self, text: str) -> None:
        """Worth knowing, no mistake."""
        console.mark(console.MIND, text)

    def bad(self, text: str, code: int = 1) -> None:
        console.mark(console.BAD, text)
        self.code = max(self.code, code)


def check_all(path: Path, source: str | None = None, sink: str | None = None) -> int:
    """Every step, or those of one source or sink; the exit code. Raises ConfigError where there is nothing to try."""
    be_quiet()
    config = load_config(path)
    _refuse_unknown(config, source, sink)
    step_down(config.state_dir)
    steps = Steps()
    steps.ok(f"config  {path}: {plural(len(config.sources), 'source')}, {plural(len(config.sinks), 'sink')}")
    if idle := outlook.is_idle(config):
        steps.mind(app.why_idle(config))
    ledger = _check_ledger(config, steps)
    everything = source is None and sink is None
    for each in config.sources:
        if source == each.name or everything:
            _check_source(each, ledger, steps)
    for sink_config in config.sinks:
        if sink == sink_config.name or everything:
            trial.try_sink(sink_config, steps)
    if everything:
        pulling.check_exports(config, steps)
        for channel in config.alerts.channels:
            known = f"channel {channel.name} ({channel.type}) is set up"
            steps.ok(f"alerts  {known}, not contacted: `eventferry alert test` does that")
        if not config.alerts.channels:
            steps.mind("alerts  nobody is told when something breaks: add [[alerts.channels]]")
    if ledger is not None:
        naming.check_names(config, ledger, steps, source, sink)
    elif everything and not app.ledger_path(config).exists():
        naming.tell_all_new(config, steps)
    outlook.conclude(config, path, ledger, steps, idle=idle, everything=everything)
    if ledger is not None:
        ledger.close()
    return steps.code


def _refuse_unknown(config: Config, source: str | None, sink: str | None) -> None:
    for what, name, known in (
        ("source", source, [each.name for each in config.sources]),
        ("sink", sink, [each.name for each in config.sinks]),
    ):
        if name is not None and name not in known:
            raise UsageError(f"there is no {what} {name!r}; known are: {', '.join(known) or 'none'}")


def _check_ledger(config: Config, steps: Steps) -> Ledger | None:
    """The state directory and the ledger in it, opened; None where there is none yet."""
    ledger = app.ledger_path(config)
    if not room.check_state(config.state_dir, steps):
        return None
    if sqlite3.sqlite_version_info < SAFE_SQLITE:
        steps.note(f"SQLite {sqlite3.sqlite_version} works; 3.51.3 closes a rare fault with two writers at once")
    if not ledger.exists():
        steps.ok("ledger  none yet; the first run makes it")
        return None
    try:
        opened = open_ledger(ledger, migrate=False)
    except LedgerError as error:
        if "start the daemon once to upgrade it" in str(error):
            steps.mind(f"ledger  {error} (a copy is kept)")
        else:
            steps.bad(f"ledger  {error}", 78)
        return None
    with opened.read() as tx:
        kept = books.source_books(tx)
    files, events = sum(each.files for each in kept), sum(each.events for each in kept)
    steps.ok(f"ledger  {ledger}: {plural(files, 'file')}, {plural(events, 'event')} so far")
    return opened


def _check_source(settings: SourceConfig, ledger: Ledger | None, steps: Steps) -> None:
    name = f"source  {settings.name}"
    if not settings.enabled:
        steps.mind(f"{name} is switched off")
        return
    try:
        store = open_store(spec_of(settings))
        try:
            done = store.check()
            found = trial.list_all(
                store.list(),
                Layout(settings.key_pattern or None),
                Selection(settings.include, settings.exclude),
                settings,
                start_ms(settings.start),
            )
        finally:
            store.close()
    except (StoreError, ConfigError) as error:
        steps.bad(f"{name}: {error}")
        return
    steps.ok(f"{name}: {done[-1]}")
    steps.listings[settings.name] = found
    _tell_first_run(settings, ledger, found, steps)
    _tell_polls(settings, found, steps)


def _tell_first_run(settings: SourceConfig, ledger: Ledger | None, found: trial.Listing, steps: Steps) -> None:
    known = None
    if ledger is not None:
        with ledger.read() as tx:
            known = sources.get_source(tx, settings.name)
    least = "at least " if found.cut else ""
    what = f"{least}{plural(found.files, 'file')}, {size(found.bytes)}"
    if found.first and found.last:
        what += f" in {trial.dated(found)}"
    if known is not None:
        steps.note(f"{what}; those that were taken before are not taken again")
        return
    runs = -(-found.files // settings.max_files)
    each = "at once, one run after the other" if settings.catch_up else f"every {trial.rhythm(settings)}"
    steps.note(f'start = "{settings.start}" means: {what}')
    if not found.listed:
        steps.note("nothing lies there yet")
    if runs > 1:
        steps.note(f"that takes {plural(runs, 'run')} of max_files = {count(settings.max_files)}, {each}")
    if found.too_young:
        steps.note(f"{plural(found.too_young, 'file')} more may still be being written (settle)")


def _tell_polls(settings: SourceConfig, found: trial.Listing, steps: Steps) -> None:
    if settings.key_pattern and "(?P<date>" in settings.key_pattern:
        recent, all_ = trial.span(settings.look_back), trial.span(settings.relist)
        steps.note(f"each poll lists the keys of the last {recent} before the newest; all of them every {all_}")
    else:
        steps.mind(
            f"source  {settings.name}: keys have no date (key_pattern), so each poll lists all of them, "
            f"{'more than ' if found.cut else ''}{count(found.listed)} now"
        )
    if found.foreign and found.foreign == found.listed:
        steps.bad(
            f"source  {settings.name}: none of its keys matches key_pattern, such as {found.foreign_example}: nothing "
            'is taken; set key_pattern = "" where keys hold no dates'
        )
    elif found.foreign:
        do, are = ("does", "is") if found.foreign == 1 else ("do", "are")
        steps.mind(
            f"source  {settings.name}: {plural(found.foreign, 'key')} {do} not match key_pattern and {are} left out, "
            f"such as {found.foreign_example}"
        )

"""Tells which names are new to the ledger and what they cost, and which ones only the ledger knows."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from eventferry import app
from eventferry.cli.options import calling
from eventferry.cli.wording import plural, size
from eventferry.config import Config, SinkConfig, SourceConfig
from eventferry.errors import ConfigError
from eventferry.ledger import Ledger, books, facts, log, sinks, sources
from eventferry.pipeline.source import start_of

if TYPE_CHECKING:
    from eventferry.cli.check import Steps

Entry = TypeVar("Entry", SourceConfig, SinkConfig)


def check_names(config: Config, ledger: Ledger, steps: "Steps", source: str | None, sink: str | None) -> None:
    """A new name on a used ledger could send everything again: it must say where it starts, and is told in any case.

    With `source` or `sink` only that one is told.
    """
    for test in (app.check_identities, app.check_roots):
        try:
            test(ledger, config)
        except ConfigError as error:
            for problem in error.problems:
                steps.bad(f"names   {problem}", 78)
    with ledger.read() as tx:
        used = log.head(tx) > 0
        known_sources, known_sinks = sources.source_names(tx), [row.name for row in sinks.all_sinks(tx)]
    gone_sources = _gone(known_sources, config.sources)
    gone_sinks = _gone(known_sinks, config.sinks)
    everything = source is None and sink is None
    if used:
        new_sources = [each for each in config.sources if each.name not in known_sources]
        new_sinks = [each for each in config.sinks if each.name not in known_sinks]
        old_sinks = [each for each in config.sinks if each.name in known_sinks]
        _tell_new_sources(_chosen(new_sources, source, everything), set(known_sources), gone_sources, steps)
        _tell_new_sinks(config, ledger, _chosen(new_sinks, sink, everything), set(known_sinks), gone_sinks, steps)
        _tell_new_pairs(config, ledger, _chosen(old_sinks, sink, everything), steps)
    elif everything:
        tell_all_new(config, steps, {*known_sources, *known_sinks})
    if not everything:
        return
    for name in gone_sources:
        steps.mind(
            f"names   source {name} is known to the ledger, but not in the config any more: nothing is read there"
        )
    for name in gone_sinks:
        steps.mind(
            f"names   sink {name} is known to the ledger, but not in the config any more: it gets nothing, "
            f"{_lacks(ledger, name)}"
        )


def _chosen(entries: Sequence[Entry], name: str | None, everything: bool) -> list[Entry]:
    return [each for each in entries if everything or each.name == name]


def tell_all_new(config: Config, steps: "Steps", known: Collection[str] = ()) -> None:
    """Before the first events a new name costs nothing but what its start says."""
    named = [f"source {each.name}" for each in config.sources if each.enabled and each.name not in known]
    for sink in config.sinks:
        starts = sorted({str(sink.start_of(each.name)) for each in config.sources if sink.takes(each.name)})
        if sink.enabled and sink.name not in known:
            named.append(f"sink {sink.name} (start: {', '.join(starts) or sink.start})")
    if named:
        steps.ok(f"names   new here: {', '.join(named)}")


def _gone(known: "Sequence[str] | dict[str, int]", configured: Sequence[SourceConfig | SinkConfig]) -> list[str]:
    named = {each.name for each in configured} | {each.renamed_from for each in configured}
    return [name for name in known if name not in named]


def _lacks(ledger: Ledger, sink: str) -> str:
    with ledger.read() as tx:
        lacks = sum(each.events for each in books.backlogs(tx) if each.sink == sink)
    return f"and lacks {plural(lacks, 'event')}" if lacks else "and lacks nothing of what is indexed"


def _tell_new_sources(new: Sequence[SourceConfig], known: set[str], gone: Sequence[str], steps: "Steps") -> None:
    for each in new:
        if each.renamed_from in known:
            steps.ok(f"names   source {each.name} is {each.renamed_from} renamed, and keeps its memory")
        elif not each.says_start:
            _note_rename("source", each.name, gone, steps)
        else:
            steps.new_names = True
            found = steps.listings.get(each.name)
            least = "at least " if found and found.cut else ""
            what = f"{least}{plural(found.files, 'file')}, {size(found.bytes)}" if found else "how much was not tried"
            steps.mind(
                f"names   source {each.name} is new here: it starts at {each.start}, {what}"
                f"{_perhaps('source', each.name, gone)}"
            )


def _tell_new_sinks(
    config: Config, ledger: Ledger, new: Sequence[SinkConfig], known: set[str], gone: Sequence[str], steps: "Steps"
) -> None:
    for each in new:
        if each.renamed_from in known:
            steps.ok(f"names   sink {each.name} is {each.renamed_from} renamed, and goes on where that was")
        elif not each.says_start:
            _note_rename("sink", each.name, gone, steps)
        else:
            steps.new_names = True
            steps.mind(
                f"names   sink {each.name} is new here: it {'; it '.join(cost_of_start(config, ledger, each))}"
                f"{_perhaps('sink', each.name, gone)}"
            )


def _note_rename(what: str, name: str, gone: Sequence[str], steps: "Steps") -> None:
    """More about a name that was refused above."""
    if hint := _perhaps(what, name, gone).removeprefix("; "):
        steps.note(f"{what} {name}: {hint}")


def _perhaps(what: str, name: str, gone: Sequence[str]) -> str:
    if not gone:
        return ""
    if len(gone) > 1:
        old = f"one of {', '.join(gone)} renamed, run `{calling()} rename {what} OLD {name}` first"
    else:
        old = f"{gone[0]} renamed, run `{calling()} rename {what} {gone[0]} {name}` first"
    return f"; if it is {old}"


def cost_of_start(config: Config, ledger: Ledger, sink: SinkConfig) -> Iterator[str]:
    """What a sink that the ledger does not know would be sent, a part of a sentence for each start."""
    with ledger.read() as tx:
        known = sources.source_names(tx)
    costs: dict[str, tuple[int, int]] = {}
    for source in config.sources:
        if sink.takes(source.name):
            start = str(sink.start_of(source.name))
            events, bytes_ = _cost(ledger, known.get(source.renamed_from or source.name), sink, source.name)
            before = costs.get(start, (0, 0))
            costs[start] = (before[0] + events, before[1] + bytes_)
    for start, (events, bytes_) in (costs or {str(sink.start): (0, 0)}).items():
        what = f"{plural(events, 'event')}, {size(bytes_)}" if events else "0 events of those that are indexed"
        yield f"starts at {start}, {what}"


def _cost(ledger: Ledger, source_id: int | None, sink: SinkConfig, source: str) -> tuple[int, int]:
    if source_id is None:
        return 0, 0
    start = start_of(ledger, source_id, sink.start_of(source))
    with ledger.read() as tx:
        return facts.log_after(tx, source_id, start.position)


def _tell_new_pairs(config: Config, ledger: Ledger, known: Sequence[SinkConfig], steps: "Steps") -> None:
    """A known sink may take a known source for the first time, and all of its history with it."""
    with ledger.read() as tx:
        source_ids, begun = sources.source_names(tx), facts.cursor_names(tx)
    configured = {each.name for each in config.sources} & set(source_ids)
    for sink in known:
        for source in sorted(configured):
            if not sink.takes(source) or (sink.name, source) in begun:
                continue
            events, bytes_ = _cost(ledger, source_ids[source], sink, source)
            steps.mind(
                f"names   sink {sink.name} takes source {source} for the first time: it starts at "
                f"{sink.start_of(source)}, {plural(events, 'event')}, {size(bytes_)}"
            )

"""Which segments a read covers, asked of the ledger in short looks: the plan of exports and of events of a day."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from eventferry.config import SourceConfig
from eventferry.exports.model import Selection
from eventferry.exports.owners import judge
from eventferry.exports.planned import Planned, is_during
from eventferry.exports.sources import Readable
from eventferry.ledger import Ledger, coverage, sources
from eventferry.ledger.coverage import PAGE, CoveredSegment, KeyVersion
from eventferry.pipeline.source import spec_of
from eventferry.store.opening import StreamLimits


def readable(source_id: int, settings: SourceConfig) -> Readable:
    """What is needed to read the configured source, which the ledger knows under that id."""
    return Readable(
        id=source_id,
        name=settings.name,
        store=spec_of(settings),
        limits=StreamLimits(max_bytes=settings.max_size, max_ratio=settings.max_ratio),
        concatenated=settings.concatenated,
        key_pattern=settings.key_pattern or None,
        time_fields=tuple(settings.time_field),
        tenant_field=settings.tenant_field,
        project_field=settings.project_field,
        collection_field=settings.collection_field,
    )


def readables(ledger: Ledger, configured: Iterable[SourceConfig]) -> dict[int, Readable]:
    """By id, the configured sources that the ledger knows; disabled ones can be read, too."""
    with ledger.read() as tx:
        ids = sources.source_names(tx)
    return {ids[each.name]: readable(ids[each.name], each) for each in configured if each.name in ids}


def plan(
    ledger: Ledger,
    sources: Mapping[int, Readable],
    selection: Selection,
    as_of: int,
    as_of_ms: int,
    page: int = PAGE,
) -> Iterator[Planned]:
    """The segments up to the position `as_of` that may hold selected events, in the order of the log; streams.

    Left out is what was rewritten before `as_of`, so that the log holds its new content, or emptied before `as_of_ms`,
    the moment at which `as_of` was the log's head. No transaction is open between two pages. Raises what the ledger
    raises.
    """
    at = 0
    while sources:
        with ledger.read() as tx:
            found = coverage.covered(tx, list(sources), at, as_of, selection.start_ms, selection.end_ms, page)
            versions = {
                source_id: coverage.versions_of(
                    tx, source_id, sorted({each.key_hash for each in found if each.source_id == source_id})
                )
                for source_id in {each.source_id for each in found}
            }
        for segment in found:
            later = versions[segment.source_id].get(segment.key_hash, [])
            if not _is_replaced(segment, later, as_of, as_of_ms):
                planned = _planned(sources[segment.source_id], segment, later, selection)
                if planned is not None:
                    yield planned
        if len(found) < page:
            return
        at = found[-1].position


def _is_replaced(segment: CoveredSegment, versions: Sequence[KeyVersion], as_of: int, as_of_ms: int) -> bool:
    """Whether the log holds, up to `as_of`, a later version's content in its place; an empty one's is nothing."""
    return any(
        each.is_new_content
        and each.object_id > segment.object_id
        and (
            segment.position < each.first_position <= as_of
            if each.first_position is not None
            # It has no position. Of the same moment it counts as later: then something is said to be missing at worst.
            else each.taken_ms is not None and each.taken_ms < as_of_ms
        )
        for each in versions
    )


def _planned(
    source: Readable, segment: CoveredSegment, versions: Sequence[KeyVersion], selection: Selection
) -> Planned | None:
    taken = judge(source, segment.key, selection.scope)
    if taken is False:
        return None
    newest = versions[-1].version if versions else None
    return Planned(
        position=segment.position,
        source_id=segment.source_id,
        object_id=segment.object_id,
        key=segment.key,
        version=segment.version,
        newest=None if newest == segment.version else newest,
        start=segment.start,
        end=segment.end,
        first_line=segment.first_line,
        events=segment.events,
        untimed=segment.untimed,
        time_min=segment.time_min,
        time_max=segment.time_max,
        digest=segment.digest,
        flags=segment.flags,
        holes=segment.holes,
        is_whole=taken is True and selection.filter is None and is_during(segment, selection),
    )

"""Surveys and counts what is selected; what a scan found is kept by the content that was scanned."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing

from eventferry.exports.model import Selection
from eventferry.exports.planned import Planned
from eventferry.exports.reading import read
from eventferry.exports.scan_cache import ScanCache, key_of
from eventferry.exports.sources import Readable
from eventferry.exports.survey import MAX_PROPERTIES, Survey
from eventferry.exports.surveyor import Surveyor

_VERSION = 1  # raise it when the same bytes begin to give other findings
_GROUP = 16 * 1024 * 1024  # raw bytes whose findings are kept together, at least

Progress = Callable[[int], None]  # raw bytes that are done with since the last call


def survey(
    plan: Iterable[Planned],
    sources: Mapping[int, Readable],
    selection: Selection,
    cache: ScanCache | None = None,
    progress: Progress = lambda _: None,
) -> Survey:
    """The properties of the selected events. Raises TooManyProperties, and what read raises."""
    total, surveyor = Survey(), Surveyor()
    for group in _groups(plan):
        key = _key("survey", group, sources, selection)
        kept = None if cache is None else cache.get(key)
        if kept is not None:
            found = Survey.from_data(kept)
            progress(_bytes(group))
        else:
            surveyor.start()
            with closing(_bodies(group, sources, selection, progress)) as bodies:
                for body in bodies:
                    surveyor.add(body)
            found = surveyor.survey
            if cache is not None:
                cache.put(key, found.to_data())
        total.merge(found)
    return total


def count(
    plan: Iterable[Planned],
    sources: Mapping[int, Readable],
    selection: Selection,
    cache: ScanCache | None = None,
    progress: Progress = lambda _: None,
) -> int:
    """How many events are selected; only segments that are partly selected are scanned. Raises what read raises."""
    whole = 0

    def partly() -> Iterator[Planned]:
        nonlocal whole
        for planned in plan:
            if planned.is_whole:
                whole += planned.events
                progress(planned.size)
            else:
                yield planned

    counted = 0
    for group in _groups(partly()):
        key = _key("count", group, sources, selection)
        kept = None if cache is None else cache.get(key)
        if kept is None:
            with closing(_bodies(group, sources, selection, progress)) as bodies:
                kept = sum(body.count(b"\n") for body in bodies)
            if cache is not None:
                cache.put(key, kept)
        else:
            progress(_bytes(group))
        counted += kept
    return whole + counted


def _groups(plan: Iterable[Planned]) -> Iterator[list[Planned]]:
    group: list[Planned] = []
    size = 0
    for planned in plan:
        group.append(planned)
        size += planned.size
        if size >= _GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _bytes(group: Iterable[Planned]) -> int:
    return sum(each.size for each in group)


def _bodies(
    group: list[Planned], sources: Mapping[int, Readable], selection: Selection, progress: Progress
) -> Generator[bytes, None, None]:
    with closing(read(group, sources, selection)) as found:
        for selected in found:
            yield selected.body
            progress(selected.planned.size)


def _key(kind: str, group: list[Planned], sources: Mapping[int, Readable], selection: Selection) -> str:
    """What the findings of the group depend on: its content and, where that is not taken whole, what selects."""
    content = [[each.digest, each.start, each.flags, each.holes, each.is_whole] for each in group]
    if all(each.is_whole for each in group):
        return key_of(_VERSION, MAX_PROPERTIES, kind, content)
    asked = [
        [source.name, source.key_pattern, source.time_fields, source.tenant_field, source.project_field,
         source.collection_field]
        for source in (sources[id_] for id_ in sorted({each.source_id for each in group}))
    ]  # fmt: skip
    keys = [[sources[each.source_id].name, each.key] for each in group]  # which may say whose the events are
    return key_of(_VERSION, MAX_PROPERTIES, kind, content, keys, asked, selection.to_data())

"""What people are told of a source after a run: what went wrong with it, and that it came right again."""

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import alerts, objects, sources, unread
from eventferry.pipeline.discover import Discovery
from eventferry.pipeline.ending import alert_stopped_again
from eventferry.pipeline.source import Source
from eventferry.sink.safe import named

# So many limited runs in a row, and people are told that the source falls behind.
LIMITED_BEFORE_WARNING = 3
# Bad lines are over when none came in for so long: a message for each clean run between two bad ones helps nobody.
BAD_LINES_OVER_MS = 24 * 3600 * 1000


def alert_run(tx: sa.Connection, source: Source, discovery: Discovery, error: str | None, *, is_full: bool) -> None:
    """Open and close the conditions of the source, in the transaction that closes the books of the run.

    `error` says why the store could not be listed; `is_full` where the whole store was.
    """
    name = source.name
    if error is not None:
        _alert_unreachable(tx, source, error)
    else:
        alerts.close_condition(tx, f"source.unreachable:{name}", subject=f"Source {name} can be listed again")
        _alert_behind(tx, source, discovery)
        # Where no key ever matched there is no cursor yet, and every listing is of the whole store.
        _alert_unmatched(tx, source, discovery, is_whole=is_full or not sources.partition_cursors(tx, source.id))
        if is_full:
            _alert_late(tx, source, discovery)
    _alert_unreadable(tx, source, error)
    _end_bad_lines(tx, source)
    alert_stopped_again(tx, name, source.id)
    alerts.close_condition(tx, f"run.failed:{name}", subject=f"A run of source {name} came to its end again")


def _alert_unreachable(tx: sa.Connection, source: Source, error: str) -> None:
    alerts.open_condition(
        tx,
        cause=f"source.unreachable:{source.name}",
        level="error",
        event="source.unreachable",
        subject=f"Source {source.name} cannot be listed; no new events come in",
        detail=error,
        command=f"eventferry check --source {source.name}",
        fields={"source": source.name},
    )


def _alert_behind(tx: sa.Connection, source: Source, discovery: Discovery) -> None:
    cause = f"source.behind:{source.name}"
    if not discovery.limited:
        alerts.close_condition(tx, cause, subject=f"A run of source {source.name} left no file waiting")
    elif not source.settings.catch_up and sources.limited_in_a_row(tx, source.id) >= LIMITED_BEFORE_WARNING:
        alerts.open_condition(
            tx,
            cause=cause,
            level="warning",
            event="source.behind",
            subject=f"Source {source.name} gets more files than its runs may take",
            detail=f"The last runs each took max_files = {source.settings.max_files} and left more waiting. "
            "Raise max_files, or set catch_up = true to start the next run at once while files wait.",
            command=f"eventferry status --source {source.name}",
            fields={"source": source.name},
        )


def _alert_unmatched(tx: sa.Connection, source: Source, discovery: Discovery, *, is_whole: bool) -> None:
    """A pattern that fits no key at all is a mistake that would otherwise look like silence."""
    cause = f"source.unmatched:{source.name}"
    if discovery.foreign < discovery.listed:
        alerts.close_condition(tx, cause, subject=f"Source {source.name} has keys that match key_pattern")
    elif discovery.listed and is_whole:
        alerts.open_condition(
            tx,
            cause=cause,
            level="error",
            event="source.unmatched",
            subject=f"No file of source {source.name} is taken: none of its keys matches key_pattern",
            detail=f"{discovery.listed} keys were listed; key_pattern is '{source.settings.key_pattern}'. "
            'Set key_pattern = "" where keys hold no dates.',
            command=f"eventferry check --source {source.name}",
            fields={"source": source.name},
        )


def _alert_unreadable(tx: sa.Connection, source: Source, error: str | None) -> None:
    """A store that lists its files but does not hand them out would otherwise look like silence."""
    cause = f"source.unreadable:{source.name}"
    patience_ms = int(source.settings.unreadable_after.total_seconds() * 1000)
    found = unread.unread_since(tx, source.id, clock.now_ms() - patience_ms)
    if found is None:
        _end_unreadable(tx, source, cause)
    elif error is None:  # one that cannot even be listed is told as unreachable
        alerts.open_condition(
            tx,
            cause=cause,
            level="error",
            event="source.unreadable",
            subject=f"Files of source {source.name} can be listed but not read; their events do not come in",
            detail=f"{found.files} wait, the first: {named(found.key, found.reason or 'no reason is known')}",
            command=f"eventferry check --source {source.name}",
            fields={"source": source.name, "key": found.key, "waiting": found.files},
        )


def _end_unreadable(tx: sa.Connection, source: Source, cause: str) -> None:
    """Only the file that was named and is whole in the log proves a recovery: it may be gone, or quarantined."""
    was = alerts.find_open(tx, cause)
    if was is None:
        return
    proven = unread.is_taken(tx, source.id, str(was.fields.get("key", "")))
    subject = f"Files of source {source.name} can be read again"
    if not proven:
        subject = f"No file of source {source.name} waits to be read any more"
    detail = "" if proven else "what could not be read is gone, or was read and is not whole"
    alerts.close_condition(tx, cause, detail, subject=subject, proven=proven)


def _alert_late(tx: sa.Connection, source: Source, discovery: Discovery) -> None:
    """Files that come later than `retention` allows are left out; that must not go unsaid."""
    cause = f"files.late:{source.name}"
    if discovery.late:
        alerts.open_condition(
            tx,
            cause=cause,
            level="warning",
            event="files.late",
            subject=f"Files of source {source.name} came too late and are not taken",
            detail=f"{discovery.late} files are dated by their keys before what the ledger still remembers, "
            "but were written after that.",
            command=f"eventferry status --source {source.name}",
            fields={"source": source.name, "files": discovery.late},
        )
    elif not discovery.limited:
        alerts.close_condition(
            tx, cause, subject=f"A full listing of source {source.name} met no file that is too late"
        )


def _end_bad_lines(tx: sa.Connection, source: Source) -> None:
    """Asked only while the condition is open: the question reads all files of the source."""
    cause = f"lines.bad:{source.name}"
    if alerts.opened_ms(tx, cause) is None:
        return
    if not objects.has_bad_lines_since(tx, source.id, clock.now_ms() - BAD_LINES_OVER_MS):
        alerts.close_condition(tx, cause, subject=f"Source {source.name} brought no bad line for 24 hours")

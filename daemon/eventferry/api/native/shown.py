"""Exports, files and saved queries as the native API shows them."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from eventferry import clock
from eventferry.access.links import make_link
from eventferry.exports.desk import Desk
from eventferry.exports.model import Output, Selection
from eventferry.ledger.exports import ExportRow, FileRow
from eventferry.ledger.saved_queries import SavedQuery
from eventferry.query.expression import join_path
from eventferry.query.scope import Scope


class FileShown(BaseModel):
    """A file of a complete export; `url` needs no key and works until `url_expires`."""

    name: str
    events: int
    bytes: int
    sha256: str
    url: str
    url_expires: str


class SelectionShown(BaseModel):
    """What is selected, resolved when the export was made; the limits of the key are included, its filter not."""

    start: str | None = Field(description="Inclusive, ISO 8601.")
    end: str | None = Field(description="Exclusive, ISO 8601.")
    tenants: list[str] | None
    projects: list[str] | None
    collections: list[str] | None


class OutputShown(BaseModel):
    """In which form."""

    format: str
    compression: str
    part_bytes: int | None
    formula_guard: bool
    fields: list[str]
    latest: int | None
    max_events: int | None


class ExportShown(BaseModel):
    """An export. `percent` only grows; `files` is filled where one export is asked for and complete."""

    id: str
    name: str
    notes: str
    tags: list[str]
    dialect: str
    state: str = Field(description="queued, running, complete, failed, cancelled or expired")
    reason: str | None = Field(description="Why it failed; of a queued one, why it waits.")
    percent: int
    events: int
    bytes: int
    asked: dict[str, Any] = Field(description="Filter, timeframe and timezone as they were written.")
    selection: SelectionShown
    output: OutputShown
    destination: dict[str, Any]
    notify: dict[str, Any]
    as_of: int = Field(description="The position in the log up to which events are read.")
    created: str
    modified: str
    started: str | None
    finished: str | None
    expires: str | None
    files: list[FileShown] | None = None


class ExportsShown(BaseModel):
    """A page of exports, newest first; `next` is the cursor of the next page."""

    exports: list[ExportShown]
    next: str | None


class FilesShown(BaseModel):
    """The files of an export, in order."""

    files: list[FileShown]


class QueryShown(BaseModel):
    """A saved query."""

    id: str
    name: str
    notes: str
    tags: list[str]
    query: dict[str, Any] = Field(description="filter, timeframe, timezone and fields as they were written")
    tenants: list[str] | None
    projects: list[str] | None
    collections: list[str] | None
    created: str
    modified: str


class QueriesShown(BaseModel):
    """A page of saved queries, newest first; `next` is the cursor of the next page."""

    queries: list[QueryShown]
    next: str | None


def show_export(row: ExportRow, files: list[FileShown] | None = None) -> ExportShown:
    """The export; links are for its one view only, they are made anew each time."""
    selection, output = Selection.from_data(row.selection), Output.from_data(row.output)
    return ExportShown(
        id=row.id,
        name=row.name,
        notes=row.notes,
        tags=list(row.tags),
        dialect=row.dialect,
        state=row.state,
        reason=row.reason,
        percent=row.percent,
        events=row.events,
        bytes=row.bytes,
        asked=dict(row.asked),
        selection=SelectionShown(start=iso(selection.start_ms), end=iso(selection.end_ms), **_names(selection.scope)),
        output=OutputShown(
            format=output.format,
            compression=output.compression,
            part_bytes=output.part_bytes,
            formula_guard=output.formula_guard,
            fields=[join_path(path) for path in output.fields],
            latest=output.latest,
            max_events=output.max_events,
        ),
        destination=dict(row.destination),
        notify=dict(row.notify),
        as_of=row.as_of,
        created=iso(row.created_ms) or "",
        modified=iso(row.modified_ms) or "",
        started=iso(row.started_ms),
        finished=iso(row.finished_ms),
        expires=iso(row.expires_ms),
        files=files,
    )


def show_files(desk: Desk, row: ExportRow, files: Sequence[FileRow]) -> list[FileShown]:
    """The files with fresh links; those that lie in a requester's store have none here."""
    if row.destination["kind"] != "managed":
        return []
    expires = clock.now_ms() + int(desk.settings.link_life.total_seconds() * 1000)
    if row.expires_ms is not None:
        expires = min(expires, row.expires_ms)
    return [
        FileShown(
            name=each.name,
            events=each.events,
            bytes=each.bytes,
            sha256=each.sha256,
            url=desk.base_url + make_link(desk.keyring, row.id, each.name, expires),
            url_expires=iso(expires // 1000 * 1000) or "",
        )
        for each in files
    ]


def show_query(row: SavedQuery) -> QueryShown:
    """The saved query."""
    return QueryShown(
        id=row.id,
        name=row.name,
        notes=row.notes,
        tags=list(row.tags),
        query=dict(row.query),
        **_names(Scope.from_data(json.loads(row.scope))),
        created=iso(row.created_ms) or "",
        modified=iso(row.modified_ms) or "",
    )


def iso(ms: int | None) -> str | None:
    """`2026-01-02T03:04:05.678Z`; None for None."""
    return None if ms is None else clock.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _names(scope: Scope) -> dict[str, list[str] | None]:
    return {key: None if names is None else list(names) for key, names in scope.to_data().items()}

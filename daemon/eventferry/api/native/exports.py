"""The native routes of exports: ask for one, look at them, cancel, delete."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response

from eventferry.access.keys import Key
from eventferry.api.auth import Requires
from eventferry.api.native.bodies import ExportForm, OutputForm, S3Form
from eventferry.api.native.cursors import make_cursor, read_cursor
from eventferry.api.native.selecting import placed, select
from eventferry.api.native.shown import ExportShown, ExportsShown, show_export, show_files
from eventferry.api.parts import Parts
from eventferry.api.problems import invalid
from eventferry.exports import queries, requests
from eventferry.exports.desk import Desk
from eventferry.exports.model import Output
from eventferry.exports.wanted import S3, Managed, Notify, Wanted
from eventferry.query.expression import Path, split_path
from eventferry.query.problems import QueryError
from eventferry.query.scope import Scope
from eventferry.query.timeframe import parse_instant

MayExport = Annotated[Key, Depends(Requires("exports", strict=True))]
State = Literal["queued", "running", "complete", "failed", "cancelled", "expired"]
Dialect = Literal["native", "console", "schedule", "altis", "gooee", "connect", "keen", "ombori"]


@dataclass(frozen=True)
class Sought:
    """The query parameters of the list: which exports, and how many at once."""

    limit: Annotated[int, Query(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Query(max_length=100)] = None
    state: State | None = None
    dialect: Dialect | None = None
    tag: Annotated[str | None, Query(min_length=1, max_length=50)] = None
    name: Annotated[str | None, Query(min_length=1, max_length=200)] = None
    created_from: Annotated[str | None, Query(max_length=40, description="ISO 8601, inclusive")] = None
    created_to: Annotated[str | None, Query(max_length=40, description="ISO 8601, exclusive")] = None

    def page(self, desk: Desk, key: Key) -> requests.Page:
        """Those of them that the key may see, newest first. Raises Problem."""
        return requests.list_page(
            desk,
            key,
            limit=self.limit,
            after=read_cursor(self.cursor),
            state=self.state,
            dialect=self.dialect,
            tag=self.tag,
            name=self.name,
            created_from=_moment(self.created_from, "created_from"),
            created_to=_moment(self.created_to, "created_to"),
        )


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes."""
    desk = parts.desk

    @routes.post("/exports", status_code=201)
    def create_export(
        form: ExportForm,
        key: MayExport,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    ) -> ExportShown:
        """Ask for an export. The daemon begins within 2 s; look at it until its state is complete.

        With an `Idempotency-Key` the same request makes one export, however often it is sent.
        """
        made = requests.create(desk, key, wanted_of(desk, key, form, idempotency_key))
        response.headers["Location"] = f"/v1/exports/{made.id}"
        return show_export(made)

    @routes.get("/exports")
    def list_exports(key: MayExport, sought: Annotated[Sought, Depends()]) -> ExportsShown:
        """The exports that this key may see, newest first."""
        page = sought.page(desk, key)
        return ExportsShown(exports=[show_export(row) for row in page.rows], next=make_cursor(page.next))

    @routes.get("/exports/{export_id}")
    def get_export(export_id: str, key: MayExport) -> ExportShown:
        """One export, with links to its files once it is complete."""
        row = requests.get(desk, key, export_id)
        return show_export(row, show_files(desk, row, requests.files(desk, key, export_id)))

    @routes.post("/exports/{export_id}/cancel")
    def cancel_export(export_id: str, key: MayExport) -> ExportShown:
        """End a queued export now, a running one within 2 s; one that has ended stays as it is."""
        return show_export(requests.cancel(desk, key, export_id))

    @routes.delete("/exports/{export_id}", status_code=204)
    def delete_export(export_id: str, key: MayExport) -> None:
        """Forget the export with its files and links; a running one is cancelled first."""
        requests.delete(desk, key, export_id)


def wanted_of(desk: Desk, key: Key, form: ExportForm, idempotency_key: str | None) -> Wanted:
    """The export that the form asks for. Raises Problem, NotFound for a saved query that is not there."""
    asked: dict[str, Any] = form.model_dump(include={"filter", "timeframe", "timezone"})
    if form.query is not None:
        form, asked = _with_saved(desk, key, form)
    return Wanted(
        selection=select(key, form),
        output=_output(desk, form.output),
        asked=asked,
        destination=_destination(form),
        notify=Notify(tuple(form.notify.email), form.notify.webhook),
        name=form.name,
        notes=form.notes,
        tags=tuple(form.tags),
        idempotency_key=idempotency_key,
    )


def _with_saved(desk: Desk, key: Key, form: ExportForm) -> tuple[ExportForm, dict[str, Any]]:
    """The form with what the saved query says in the places that it leaves open."""
    if form.filter:
        raise invalid("body.filter", "goes with no saved query, which has its own; leave one of the two out")
    saved = queries.get(desk, key, str(form.query))
    scope = Scope.from_data(json.loads(saved.scope))
    taken = {"filter": saved.query.get("filter") or []}
    taken |= {name: getattr(form, name) or saved.query.get(name) for name in ("timeframe", "timezone")}
    for name in ("tenants", "projects", "collections"):
        own = getattr(scope, name)
        taken[name] = getattr(form, name) or (None if own is None else list(own))
    output = form.output.model_copy(update={"fields": form.output.fields or saved.query.get("fields") or []})
    merged = form.model_copy(update={**taken, "output": output})
    return merged, {**merged.model_dump(include={"filter", "timeframe", "timezone"}), "query": saved.id}


def _output(desk: Desk, form: OutputForm) -> Output:
    if form.format == "parquet" and form.formula_guard:
        raise invalid("body.output.formula_guard", "goes with csv only")
    part = None if form.single_file else form.part_bytes or desk.settings.part_size
    return Output(
        format=form.format,
        compression=form.compression,
        part_bytes=part,
        formula_guard=form.formula_guard,
        fields=paths_of(form.fields, "body", "output", "fields"),
        latest=form.latest,
        max_events=form.max_events,
    )


def paths_of(fields: Sequence[str], *place: str) -> tuple[Path, ...]:
    """The paths of written fields. Raises Problem."""
    found = []
    with placed(*place):
        for number, text in enumerate(fields):
            try:
                found.append(split_path(text))
            except ValueError as error:
                raise QueryError([((number,), str(error))]) from None
    return tuple(found)


def _destination(form: ExportForm) -> Managed | S3:
    if not isinstance(form.destination, S3Form):
        return Managed()
    return S3(**form.destination.model_dump(exclude={"kind"}))


def _moment(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    with placed("query"):
        return parse_instant(text, (name,))

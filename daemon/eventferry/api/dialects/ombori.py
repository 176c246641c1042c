"""The dialect of Ombori's raw data export: jobs that end in Parquet, one tenant and whole days each."""

import datetime as dt
import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO, Literal, cast

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from eventferry import clock
from eventferry.access import links
from eventferry.access.keys import Key
from eventferry.api import auth
from eventferry.api.auth import Requires
from eventferry.api.dialects import ombori_zip
from eventferry.api.download import RESPONSES, download
from eventferry.api.native.files import RequiresOrLink
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem, not_found
from eventferry.api.surface import Surface
from eventferry.exports import requests
from eventferry.exports.desk import Desk
from eventferry.exports.model import Output, Selection
from eventferry.exports.refusals import Gone, NotReady
from eventferry.exports.requests import OpenFile
from eventferry.exports.wanted import Wanted
from eventferry.ledger import exports
from eventferry.ledger.exports import ExportRow, FileRow
from eventferry.query.scope import Scope

PATH = "/api/analytics-export-job"
DAY_MS = 86_400_000

MayExport = Annotated[Key, Depends(Requires("exports", ways=(auth.BEARER,)))]
MayDownload = Annotated[Key | None, Depends(RequiresOrLink())]

Status = Literal["queued", "processing", "done", "failed"]

_STATUSES: dict[str, Status] = {"queued": "queued", "running": "processing", "complete": "done", "expired": "done"}


def _day(value: object) -> object:
    """Strictly YYYY-MM-DD, a day that there is."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError("must be a day, written YYYY-MM-DD")
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise ValueError("is no day of the calendar; write one as YYYY-MM-DD") from None


Day = Annotated[dt.date, BeforeValidator(_day)]


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")


class JobForm(_Camel):
    """A job as it is asked for: both days are included, in UTC."""

    tenant_id: Annotated[str, Field(min_length=1, max_length=200, strict=True)]
    data_date_from: Day
    data_date_to: Day

    @model_validator(mode="after")
    def _check_order(self) -> "JobForm":
        if self.data_date_to < self.data_date_from:
            raise ValueError(f"dataDateTo {self.data_date_to} lies before dataDateFrom {self.data_date_from}")
        return self


class Job(_Camel):
    """A job as its creation answers."""

    status: Status
    id: str
    tenant_id: str
    job_expiry_date: str
    data_date_from: str
    data_date_to: str
    created_at: str
    updated_at: str
    filename: str


class JobStatus(Job):
    """A job as it stands: the last three are there only once they mean something."""

    download_url: str | None = Field(default=None, description="Where its output is, for a while; done jobs only.")
    file_size: int | None = Field(default=None, description="Bytes of what is downloaded there.")
    error: str | None = Field(default=None, description="Why it failed.")


_FAILURE = {
    "title": "JobFailure",
    "type": "object",
    "required": ["statusCode", "error", "message"],
    "properties": {
        "statusCode": {"type": "integer"},
        "error": {"type": "string"},
        "message": {"type": "string"},
    },
}


def _build(parts: Parts) -> APIRouter:
    routes = APIRouter(prefix=PATH)

    @routes.post("", status_code=201)
    def create_job(key: MayExport, form: JobForm) -> Job:
        """Ask for the events of a tenant from one day to another."""
        return Job(**_described(parts, requests.create(parts.desk, key, _wanted(parts, key, form))))

    @routes.get("/{id}", response_model_exclude_none=True)
    def get_job(id: str, key: MayExport) -> JobStatus:
        """How a job stands, and where its output is."""
        row = requests.get(parts.desk, key, id)
        if row.dialect != "ombori":
            raise not_found(f"there is no export {id}")
        return JobStatus(**_described(parts, row), **_ended(parts, key, row))

    def get_output(request: Request, export_id: str, name: str, key: MayDownload) -> Response:
        """The output of a done job; the link in `downloadUrl` needs no key."""
        if key is not None:
            requests.get(parts.desk, key, export_id)
        return download(request, _open(parts, export_id, name))

    for method in ("GET", "HEAD"):
        routes.add_api_route(
            "/{export_id}/{name}", get_output, methods=[method], response_class=Response, responses=RESPONSES
        )
    return routes


def _wanted(parts: Parts, key: Key, form: JobForm) -> Wanted:
    """The export of a job. Raises Problem, 404, for a tenant that the key cannot see, whether or not it exists."""
    if key.realm.tenants is not None and form.tenant_id not in key.realm.tenants:
        raise not_found(f"there is no tenant {form.tenant_id!r} for this key")
    return Wanted(
        Selection(
            Scope(tenants=(form.tenant_id,)),
            start_ms=_midnight_ms(form.data_date_from),
            end_ms=_midnight_ms(form.data_date_to) + DAY_MS,
        ),
        Output("parquet", part_bytes=parts.config.exports.part_size),
        asked=form.model_dump(mode="json", by_alias=True),
        dialect="ombori",
        details=form.model_dump(mode="json"),
    )


def _midnight_ms(day: dt.date) -> int:
    return clock.to_ms(dt.datetime.combine(day, dt.time(), dt.UTC))


def _described(parts: Parts, row: ExportRow) -> dict[str, Any]:
    """What every answer about a job has."""
    kept_ms = int(parts.config.exports.retention.total_seconds() * 1000)
    return {
        **row.details,
        "status": _STATUSES.get(row.state, "failed"),
        "id": row.id,
        "job_expiry_date": _moment(row.created_ms + kept_ms if row.expires_ms is None else row.expires_ms),
        "created_at": _moment(row.created_ms),
        "updated_at": _moment(row.modified_ms),
        "filename": _filename(row),
    }


def _ended(parts: Parts, key: Key, row: ExportRow) -> dict[str, Any]:
    """What an ended job has besides."""
    now, life_ms = clock.now_ms(), int(parts.config.exports.link_life.total_seconds() * 1000)
    if row.expires_ms is not None and now < row.expires_ms:
        files = requests.files(parts.desk, key, row.id)
        if files:  # it has not expired just now
            url = _address(parts, row, min(now + life_ms, row.expires_ms))
            return {"download_url": url, "file_size": _size(files)}
    if row.state in ("failed", "cancelled"):
        return {"error": row.reason or "the export was cancelled"}
    return {}


def _address(parts: Parts, row: ExportRow, until_ms: int) -> str:
    """A link to the output under its own name; what is signed is the same as in native links."""
    name = _filename(row)
    signature = links.make_link(parts.keyring, row.id, name, until_ms).partition("?")[2]
    return f"{parts.desk.base_url}{PATH}/{row.id}/{name}?{signature}"


def _size(files: Sequence[FileRow]) -> int:
    return files[0].bytes if len(files) == 1 else ombori_zip.size_of([_member(each) for each in files])


def _open(parts: Parts, export_id: str, name: str) -> OpenFile:
    """The output of that name. Raises NotFound, Gone and NotReady."""
    desk = parts.desk
    with desk.ledger.read() as tx:
        row, files = exports.get(tx, export_id), exports.files(tx, export_id)
    if row is None or row.deleted_ms is not None or row.dialect != "ombori" or name != _filename(row):
        raise not_found(f"export {export_id} has no file {name!r} here")
    if row.state == "expired":
        raise Gone(f"the output of job {export_id} has expired; make it again")
    if row.state != "complete":
        raise NotReady(f"job {export_id} is {_STATUSES.get(row.state, 'failed')}; there is nothing to download")
    if len(files) == 1:
        opened = requests.open_linked_file(desk, export_id, files[0].name)
        return replace(opened, row=replace(opened.row, name=name))
    members = [_member(each, partial(_open_part, desk, export_id, each.name)) for each in files]
    digest = hashlib.sha256("".join(each.sha256 for each in files).encode()).hexdigest()
    whole = FileRow(name, 1, row.events, ombori_zip.size_of(members), digest)
    return OpenFile(whole, row, cast(BinaryIO, ombori_zip.Archive(members)))


def _open_part(desk: Desk, export_id: str, name: str) -> BinaryIO:
    return requests.open_linked_file(desk, export_id, name).file


def _member(file: FileRow, opening: Callable[[], BinaryIO] = io.BytesIO) -> ombori_zip.Member:
    return ombori_zip.Member(file.name, file.bytes, opening)


def _filename(row: ExportRow) -> str:
    """Of the whole output; that it is a zip of parts is known in the end."""
    tenant = re.sub(r"[^A-Za-z0-9.-]+", "-", row.details["tenant_id"])
    ending = "zip" if row.state in ("complete", "expired") and row.files != 1 else "parquet"
    return f"events_{tenant}_{row.details['data_date_from']}_{row.details['data_date_to']}.{ending}"


def _moment(ms: int) -> str:
    return clock.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shape(request: Request, problem: Problem) -> Response:
    """`{"statusCode": 400, "error": "Bad Request", "message": "…"}`: the vendor's own form is not public."""
    status = 400 if problem.status == 422 else problem.status
    data = {"statusCode": status, "error": HTTPStatus(status).phrase, "message": problem.detail}
    return Response(json.dumps(data), status, media_type="application/json")


SURFACE = Surface("ombori", (PATH,), _build, _shape, _FAILURE)

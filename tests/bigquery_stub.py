"""The part of BigQuery's REST API that the bigquery sink uses, as Google's documentation tells it, on loopback."""

import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

_line = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?)?( ?(Z|UTC|[+-]\d{2}:\d{2}))?")


class Refusal(Exception):
    """An error object as Google answers it."""

    def __init__(self, code: int, reason: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.headers = code, reason, message, headers

    def body(self) -> dict[str, Any]:
        one = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [one]}}


class BadRow(Exception):
    """A row that does not fit the table."""


@dataclass
class Stub:
    """One project `acme` with one dataset `lake`; `rows` is what its tables hold."""

    url: str = ""
    location: str = "europe-west6"
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)  # ids of the jobs that were inserted, refused ones included
    insert_ids: list[str] = field(default_factory=list)  # all that were sent
    granted: set[str] = field(default_factory=lambda: {"bigquery.tables.get", "bigquery.tables.updateData"})
    tokens: set[str] | None = None  # bearer tokens that are taken; None: whoever comes
    refusal: Refusal | None = None  # of whatever writes
    hidden: bool = False  # jobs that are absent, or of somebody else, may not be asked for
    runs_hidden: bool = False  # nor those that run
    failure: dict[str, str] | None = None  # the errorResult with which every load job ends
    poison: bytes | None = None  # an event that is too much for the table
    looks: int = 0  # how often a new job is seen running before it is done
    hangs: bool = False  # writing is never answered
    held: threading.Event = field(default_factory=threading.Event)
    sessions: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def events(self, table: str = "events") -> list[bytes]:
        return [row["event"].encode() for row in self.rows.get(table, ())]

    def schema(self, table: str = "events") -> dict[str, str]:
        return {each["name"]: each["type"] for each in self.tables[table]["schema"]["fields"]}

    # -- tables -------------------------------------------------------------------------------------------------------

    def get_table(self, name: str) -> dict[str, Any]:
        if name not in self.tables:
            raise Refusal(404, "notFound", f"Not found: Table acme:lake.{name}")
        return self.tables[name]

    def insert_table(self, resource: dict[str, Any]) -> dict[str, Any]:
        name = resource["tableReference"]["tableId"]
        if name in self.tables:
            raise Refusal(409, "duplicate", f"Already Exists: Table acme:lake.{name}")
        for each in resource["schema"]["fields"]:
            each["type"] = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}.get(each["type"], each["type"])
            each.setdefault("mode", "NULLABLE")
        self.tables[name] = {**resource, "kind": "bigquery#table", "etag": "1", "location": self.location}
        self.rows[name] = []
        return self.tables[name]

    def patch_table(self, name: str, change: dict[str, Any], condition: str | None) -> dict[str, Any]:
        table = self.get_table(name)
        if condition not in (None, table["etag"]):
            raise Refusal(412, "conditionNotMet", "Precondition Failed")
        fields = {each["name"] for each in change["schema"]["fields"]}
        for each in table["schema"]["fields"]:
            if each["name"] not in fields:
                message = f"Provided Schema does not match Table acme:lake.{name}. Field {each['name']} is missing"
                raise Refusal(400, "invalid", f"{message} in new schema")
        self.tables[name] = {**table, "schema": change["schema"], "etag": str(int(table["etag"]) + 1)}
        for each in self.tables[name]["schema"]["fields"]:
            each["type"] = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}.get(each["type"], each["type"])
        return self.tables[name]

    # -- load jobs ----------------------------------------------------------------------------------------------------

    def get_job(self, job_id: str, location: str) -> dict[str, Any]:
        job = self.jobs.get(job_id)
        if (job is None and self.hidden) or (job is not None and self.runs_hidden):
            message = f"Access Denied: Job acme:{location}.{job_id}: no bigquery.jobs.get, or it may not exist"
            raise Refusal(403, "accessDenied", message)
        if job is None or location != self.location:
            raise Refusal(404, "notFound", f"Not found: Job acme:{location}.{job_id}")
        if job["looks"] > 0:
            job["looks"] -= 1
            return {**job["resource"], "status": {"state": "RUNNING"}}
        return job["resource"]

    def insert_job(self, resource: dict[str, Any], media: bytes) -> dict[str, Any]:
        reference = resource["jobReference"]
        job_id, load = reference["jobId"], resource["configuration"]["load"]
        assert reference["location"] == self.location
        assert load["sourceFormat"] == "NEWLINE_DELIMITED_JSON"
        assert load["writeDisposition"] == "WRITE_APPEND"
        assert load["createDisposition"] == "CREATE_NEVER"
        self.uploads.append(job_id)
        if job_id in self.jobs:
            raise Refusal(409, "duplicate", f"Already Exists: Job acme:{self.location}.{job_id}")
        status = {"state": "DONE", **self._run(load["destinationTable"]["tableId"], media)}
        kept = {**resource, "kind": "bigquery#job", "id": f"acme:{self.location}.{job_id}", "status": status}
        self.jobs[job_id] = {"resource": kept, "looks": self.looks}
        return {**kept, "status": {"state": "RUNNING"}} if self.runs_hidden else self.get_job(job_id, self.location)

    def _run(self, name: str, media: bytes) -> dict[str, Any]:
        """All or nothing: appends the rows, or says why not."""
        if self.failure is not None:
            return {"errorResult": self.failure, "errors": [self.failure]}
        if name not in self.tables:
            missing = {"reason": "notFound", "message": f"Not found: Table acme:lake.{name}"}
            return {"errorResult": missing, "errors": [missing]}
        body = gzip.decompress(media) if media[:2] == b"\x1f\x8b" else media
        rows, position, fields = [], 0, self._fields(name)
        for number, line in enumerate(body.split(b"\n")[:-1]):
            try:
                rows.append(self._row(fields, line))
            except BadRow as error:
                said = "Error while reading data, error message: JSON "
                many = f"{said}processing encountered too many errors, giving up. Rows: {number + 1}; errors: 1"
                exact = f"{said}parsing error in row starting at position {position}: {error}"
                result = {"reason": "invalid", "message": many}
                return {"errorResult": result, "errors": [result, {"reason": "invalid", "message": exact}]}
            position += len(line) + 1
        self.rows[name] += rows
        return {}

    def _row(self, fields: dict[str, str], line: bytes) -> dict[str, Any]:
        try:
            values = _line.decode(line)
        except msgspec.DecodeError as error:
            raise BadRow(f"Parser terminated before end of string ({error})") from None
        row: dict[str, Any] = {}
        for key, raw in values.items():
            type = fields.get(key) or fields.get(key.casefold())
            if type is None:
                raise BadRow(f"No such field: {key}.")
            row[key] = _value(key, type, raw)
        if self.poison is not None and row["event"].encode() == self.poison:
            raise BadRow(f"Row size is larger than: 104857600. Value: {row['event']}")
        return row

    def _fields(self, name: str) -> dict[str, str]:
        """The types of a table's columns by their folded names."""
        return {each["name"].casefold(): each["type"] for each in self.tables[name]["schema"]["fields"]}

    # -- streaming ----------------------------------------------------------------------------------------------------

    def insert_all(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """Rows that fit, each id once (the real one remembers ids for about a minute), and errors by position."""
        self.get_table(name)
        assert request["skipInvalidRows"]
        assert 0 < len(request["rows"]) <= 50_000
        errors, known, fields = [], set(self.insert_ids), self._fields(name)
        for index, each in enumerate(request["rows"]):
            try:
                row = self._row(fields, json.dumps(each["json"]).encode())
            except BadRow as error:
                problem = {"reason": "invalid", "location": "", "debugInfo": "", "message": str(error)}
                errors.append({"index": index, "errors": [problem]})
                continue
            if each["insertId"] not in known:
                self.rows[name].append(row)
            self.insert_ids.append(each["insertId"])
        return {"kind": "bigquery#tableDataInsertAllResponse", **({"insertErrors": errors} if errors else {})}


_FITS = {
    "STRING": lambda value: isinstance(value, str | int | float),
    "INTEGER": lambda value: re.fullmatch(r"-?\d{1,19}", str(value)) and not isinstance(value, bool),
    "FLOAT": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "TIMESTAMP": lambda value: isinstance(value, str) and _TIME.fullmatch(value),
}


def _value(name: str, type: str, raw: msgspec.Raw) -> Any:
    """The value as the loader reads it for a column of that type."""
    if type == "JSON":
        return bytes(raw).decode()
    value = _any.decode(raw)
    if value is None:
        return None
    if not _FITS[type](value):
        shown = bytes(raw).decode()
        raise BadRow(f"Could not convert value 'value: {shown}' to {type.lower()}. Field: {name}; Value: {shown}")
    if type == "INTEGER":  # a bare number is read as a double, as the documentation warns
        return int(value) if isinstance(value, str) else int(float(value))
    return value


@contextlib.contextmanager
def bigquery_stub() -> Iterator[Stub]:
    """A running stub."""
    stub = Stub()

    class Handler(_Handler):
        there = stub

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, address: object) -> None:
            pass  # clients of these tests leave in the middle on purpose

    server = Server(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.held.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    there: Stub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        raw = self.rfile.read(length)
        if len(raw) < length:  # its sender died in the middle: no server takes that for a request
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        headers: dict[str, str] = {}
        try:
            with self.there.lock:
                code, answer = 200, self._answer(parts.path, query, raw, headers)
        except Refusal as refusal:
            code, answer, headers = refusal.code, refusal.body(), refusal.headers
        body = json.dumps(answer).encode()
        self.send_response(code)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET = do_PATCH = do_POST

    def _answer(self, path: str, query: dict[str, str], raw: bytes, headers: dict[str, str]) -> Any:
        stub = self.there
        if path == "/token":
            return self._token()
        if stub.tokens is not None and self.headers.get("Authorization", "")[7:] not in stub.tokens:
            raise Refusal(401, "authError", "Request had invalid authentication credentials.")
        if path.startswith("/upload/"):
            return self._upload(query, raw, headers)
        path = path.removeprefix("/bigquery/v2/projects/acme/")
        if path.startswith("jobs/"):
            return stub.get_job(path.removeprefix("jobs/"), query.get("location", ""))
        if not path.startswith("datasets/lake/tables"):
            raise Refusal(404, "notFound", f"Not found: Dataset acme:{path.split('/')[1]}")
        name, _, action = path.removeprefix("datasets/lake/tables").lstrip("/").partition("/")
        request = json.loads(raw) if raw else {}
        if name.endswith(":testIamPermissions"):
            return {"permissions": [each for each in request["permissions"] if each in stub.granted]}
        if self.command == "GET":
            return stub.get_table(name)
        if self.command == "PATCH":
            return stub.patch_table(name, request, self.headers.get("If-Match"))
        if action == "insertAll":
            self._write()
            return stub.insert_all(name, request)
        return stub.insert_table(request)

    def _upload(self, query: dict[str, str], raw: bytes, headers: dict[str, str]) -> Any:
        """Multipart: both in one request. Resumable: first the job, then its bytes to the place that is answered."""
        if query["uploadType"] == "multipart":
            self._write()
            _, job, media, _ = raw.split(raw[: raw.index(b"\r\n")])  # the first line is what separates
            return self.there.insert_job(json.loads(_content(job)), _content(media))
        if self.command == "POST":
            session = str(len(self.there.sessions))
            self.there.sessions[session] = json.loads(raw), b""
            headers["Location"] = f"http://{self.headers['Host']}/upload/x?uploadType=resumable&upload_id={session}"
            return {}
        resource, before = self.there.sessions[query["upload_id"]]
        assert self.headers["Content-Range"].startswith(f"bytes {len(before)}-")
        self._write()
        return self.there.insert_job(resource, before + raw)

    def _write(self) -> None:
        if self.there.hangs:
            self.there.held.wait(30)
        if self.there.refusal is not None:
            raise self.there.refusal

    def _token(self) -> Any:
        if self.there.tokens:
            return {"access_token": next(iter(self.there.tokens)), "expires_in": 3600, "token_type": "Bearer"}
        raise Refusal(400, "invalid_grant", "Invalid JWT Signature.")

    def log_message(self, *args: object) -> None:
        pass


def _content(part: bytes) -> bytes:
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")

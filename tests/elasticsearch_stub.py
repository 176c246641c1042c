"""A stub of what Elasticsearch 8 documents of `_bulk`, mappings and data streams; OpenSearch answers the same.

In memory, over a real HTTP server on loopback. It maps fields by the first value that comes (`dynamic`), refuses what
does not fit with the server's words, gives each document its version, and answers item by item.
"""

import fnmatch
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.contract.receiver import Answer, Request, receiving

LONG = 2**63


class Refused(Exception):
    """A document that the mapping does not take: (type, reason)."""


@dataclass
class Index:
    name: str
    dynamic: object = True
    ignore_malformed: bool = False
    field_limit: int = 1000
    depth_limit: int = 20
    fields: dict[str, str] = field(default_factory=dict)
    documents: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # id → (version, source)
    data_stream: str = ""

    def take(self, action: str, identity: str, source: bytes) -> dict[str, Any]:
        known = self.documents.get(identity)
        if known and action == "create":
            reason = f"[{identity}]: version conflict, document already exists (current version [{known[0]}])"
            return {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": reason}}
        try:
            self._map(source, identity)
        except Refused as refusal:
            kind, reason = refusal.args
            return {"status": 400, "error": {"type": kind, "reason": reason}}
        version = known[0] + 1 if known else 1
        self.documents[identity] = (version, source)
        return {"status": 200 if known else 201, "_version": version}

    def _map(self, source: bytes, identity: str) -> None:
        document, added = json.loads(source), dict(self.fields)
        if self.data_stream and "@timestamp" not in document:
            raise Refused("document_parsing_exception", "data stream timestamp field [@timestamp] is missing")
        self._object(document, "", 1, added, identity)
        if len(added) > self.field_limit:
            reason = f"Limit of total fields [{self.field_limit}] has been exceeded while adding new fields"
            raise Refused("document_parsing_exception", reason)
        self.fields = added

    def _object(self, value: dict[str, Any], path: str, depth: int, fields: dict[str, str], identity: str) -> None:
        if depth > self.depth_limit:
            raise Refused(
                "illegal_argument_exception", f"Limit of mapping depth [{self.depth_limit}] has been exceeded"
            )
        for name, each in value.items():
            if not name.strip():
                raise Refused("document_parsing_exception", "field name cannot be an empty string")
            for item in each if isinstance(each, list) else [each]:
                self._field(item, f"{path}{name}", depth, fields, identity)

    def _field(self, value: Any, path: str, depth: int, fields: dict[str, str], identity: str) -> None:
        if value is None or isinstance(value, list):
            return
        known = fields.get(path)
        if known is None:
            if self.dynamic == "strict":
                reason = f"mapping set to strict, dynamic introduction of [{path}] within [_doc] is not allowed"
                raise Refused("strict_dynamic_mapping_exception", reason)
            if self.dynamic is False:
                return
            known = fields[path] = _type_of(value)
        if isinstance(value, dict):
            if known != "object":
                raise Refused("document_parsing_exception", self._misfit(path, known, identity, "{…}"))
            self._object(value, path + ".", depth + 1, fields, identity)
        elif known == "object":
            words = f"object mapping for [{path}] tried to parse field [{path}] as object, but found a concrete value"
            raise Refused("document_parsing_exception", words)
        elif not _fits(value, known) and not self.ignore_malformed:
            raise Refused("document_parsing_exception", self._misfit(path, known, identity, str(value)))

    @staticmethod
    def _misfit(path: str, known: str, identity: str, value: str) -> str:
        where = f"failed to parse field [{path}] of type [{known}] in document with id '{identity}'"
        return f"[1:59] {where}. Preview of field's value: '{value}'"


def _type_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "long", float: "float", str: "keyword", dict: "object"}
    return kinds[type(value)]


def _fits(value: Any, kind: str) -> bool:
    if kind == "keyword":
        return True
    if kind == "boolean":
        return value in (True, False, "true", "false", "")
    if kind == "date" and isinstance(value, str):
        return re.match(r"\d{4}-\d{2}-\d{2}", value) is not None or value.isdigit()
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return False
    return abs(number) < LONG if kind in ("long", "date") else abs(number) < 3.5e38


@dataclass
class Stub:
    """The server. `fail` may answer a request instead of it."""

    url: str = ""
    indexes: dict[str, Index] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)  # alias or data stream → the index it writes to
    templates: dict[str, Any] = field(default_factory=dict)
    bulks: list[Request] = field(default_factory=list)
    came: list[tuple[str, str]] = field(default_factory=list)  # (index, id) of each new document
    fail: Callable[[Request], Answer | None] = lambda request: None
    fail_item: Callable[[str, bytes], dict[str, Any] | None] = lambda identity, source: None
    authorization: str = ""
    largest: int = 100 * 1024 * 1024

    def add(self, name: str, **more: Any) -> Index:
        return self.indexes.setdefault(name, Index(name, **more))

    def sources(self, pattern: str = "*") -> list[bytes]:
        """What the indexes of that name hold, in the order in which it came."""
        came = [(self.indexes[name], identity) for name, identity in self.came if fnmatch.fnmatch(name, pattern)]
        return [index.documents[identity][1] for index, identity in came]

    def roll_over(self, stream: str) -> None:
        """A data stream writes to a new index from now on."""
        number = sum(each.data_stream == stream for each in self.indexes.values()) + 1
        name = f".ds-{stream}-2026.05.01-{number:06}"
        self.add(name, data_stream=stream, fields={"@timestamp": "date"})
        self.aliases[stream] = name

    def answer(self, request: Request) -> Answer:
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return _error(401, "security_exception", "unable to authenticate user")
        if failed := self.fail(request):
            return failed
        parts = urlsplit(request.path)
        path = unquote(parts.path).strip("/")
        if path.endswith("_bulk"):
            self.bulks.append(request)
            return self._bulk(request, path.removesuffix("_bulk").strip("/"), parse_qs(parts.query))
        if path == "":
            return _json({"version": {"number": "8.19.2"}, "tagline": "You Know, for Search"})
        if path.startswith("_security"):
            return _json({"has_all_requested": True})
        if path.startswith("_index_template/"):
            return self._template(request, path.removeprefix("_index_template/"))
        return self._index(request, path)

    def _template(self, request: Request, name: str) -> Answer:
        if request.method == "PUT":
            self.templates[name] = json.loads(request.raw)
            return _json({"acknowledged": True})
        return _json({}) if name in self.templates else _error(404, "resource_not_found_exception", name)

    def _index(self, request: Request, name: str) -> Answer:
        target = self.aliases.get(name, name)
        if request.method == "PUT":
            if name in self.indexes:
                return _error(400, "resource_already_exists_exception", f"index [{name}/x] already exists")
            self._make(name, json.loads(request.raw))
            return _json({"acknowledged": True})
        if target not in self.indexes:
            return _error(404, "index_not_found_exception", f"no such index [{name}]")
        stream = self.indexes[target].data_stream
        return _json({target: {"data_stream": stream} if stream else {"settings": {"index": {"uuid": "x"}}}})

    def _make(self, name: str, body: dict[str, Any]) -> Index:
        settings, mappings = body.get("settings", {}), body.get("mappings", {})
        return self.add(
            name,
            dynamic=mappings.get("dynamic", True),
            ignore_malformed=settings.get("index.mapping.ignore_malformed", False),
            depth_limit=settings.get("index.mapping.depth.limit", 20),
            fields={path: each["type"] for path, each in mappings.get("properties", {}).items()},
        )

    def _target(self, name: str) -> Index:
        name = self.aliases.get(name, name)
        if name not in self.indexes:
            for template in self.templates.values():
                if any(fnmatch.fnmatch(name, each) for each in template["index_patterns"]):
                    if "data_stream" in template:
                        self.roll_over(name)
                        return self._target(name)
                    return self._make(name, template["template"])
            self.add(name)  # as the server does where nobody forbids it
        return self.indexes[name]

    def _bulk(self, request: Request, target: str, query: dict[str, list[str]]) -> Answer:
        if len(request.body) > self.largest:
            return 413, {}, b""
        lines = request.body.split(b"\n")
        assert lines.pop() == b"", "a bulk body ends with a newline"
        items = []
        for head, source in zip(lines[::2], lines[1::2], strict=True):
            ((action, about),) = json.loads(head).items()
            identity = about["_id"]
            item = self.fail_item(identity, source)
            if item is None:
                index = self._target(about.get("_index", target))
                item = index.take(action, identity, source)
                self.came += [(index.name, identity)] if item["status"] == 201 else []
            items.append({action: item})
        errors = any(item["status"] >= 300 for each in items for item in each.values())
        assert query["filter_path"] == ["errors,items.*.status,items.*.error.type,items.*.error.reason"]
        shown = [{action: {key: item[key] for key in ("status", "error") if key in item}}
                 for each in items for action, item in each.items()]  # fmt: skip
        return _json({"errors": errors, "items": shown})


def _json(body: object) -> Answer:
    return 200, {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"}, json.dumps(body).encode()


def _error(status: int, kind: str, reason: str) -> Answer:
    cause = {"type": kind, "reason": reason}
    body = {"error": {"root_cause": [cause], **cause}, "status": status}
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


@contextmanager
def elasticsearch() -> Iterator[Stub]:
    """A running stub without any index."""
    stub = Stub()
    with receiving(lambda request: stub.answer(request)) as receiver:
        stub.url = receiver.url.removesuffix("/in")
        yield stub

"""Indexes events in Elasticsearch or OpenSearch, each once, through `_bulk`."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
from isal import isal_zlib

from eventferry.sink import Batch, BatchLimits, Guarantee, Sink, SinkMisconfigured
from eventferry.sink.http import Answer, HttpClient
from eventferry.sink.safe import safe_url
from eventferry_sinks.elasticsearch.bulk import BulkBody
from eventferry_sinks.elasticsearch.meanings import complaint_of, decode_items, judge_items, misconfigured
from eventferry_sinks.elasticsearch.options import ElasticsearchOptions

_GZIP = 31  # window bits which ask zlib for a gzip header
_ANSWER = 64 * 1024 * 1024  # an answer has an item for each event, with its error
_ASKED = "errors,items.*.status,items.*.error.type,items.*.error.reason"
_JSON = {"Content-Type": "application/json"}
_UNSEEN = "?"  # no index has this name


class ElasticsearchSink(Sink[ElasticsearchOptions]):
    """One `_bulk` a batch. A document's id is the place of its event, so what is there already is not taken again."""

    Options = ElasticsearchOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    max_concurrency = 8
    limits = BatchLimits(max_events=10_000, max_bytes=8 * 1024 * 1024)
    experimental = True
    proved_against = "a stub of _bulk"

    _client: HttpClient | None = None
    _body: BulkBody

    def open(self) -> None:
        options = self.options
        secrets = [each.get_secret_value() for each in (options.api_key, options.password) if each is not None]
        authorization = options.authorization()
        secrets += [authorization.partition(" ")[2]] if authorization else []
        headers = {"Authorization": authorization} if authorization else {}
        client = HttpClient(
            timeout=options.timeout,
            ca_file=options.ca_file,
            headers=headers,
            secrets=filter(None, secrets),
            answer_limit=_ANSWER,
        )
        self._client, self._body = client, BulkBody(options)
        try:
            self._find_index()
        except BaseException:
            self.close()
            raise

    def deliver(self, batch: Batch) -> None:
        options = self.options
        body, headers = self._body.build(batch), {"Content-Type": "application/x-ndjson"}
        if options.compression == "gzip":
            body = isal_zlib.compress(body, 1, _GZIP)
            headers["Content-Encoding"] = "gzip"
        where = "" if options.is_dated else f"/{quote(options.index)}"
        query = f"filter_path={_ASKED}" + (f"&pipeline={options.pipeline}" if options.pipeline else "")
        answer = self._ask("POST", f"{where}/_bulk?{query}", body, headers)
        self.count("bytes.sent", number=len(body))
        items = decode_items(answer.body, batch.events, self._who)
        problem = judge_items(items, self._who, creates=options.action == "create")
        if problem is not None:
            raise problem

    def check(self) -> Iterator[str]:
        server, options = self._described(self._ask("GET", "/", expect=(200, 403))), self.options
        yield f"{self._who} is {server}"
        if options.is_dated:
            yield f"events go to indexes named {options.pattern}, by their day"
        else:
            kind = "data stream" if options.data_stream else "index"
            yield f"{kind} {options.index} {'can be made' if self._look() is None else 'is there'}"
        wanted = json.dumps({"index": [{"names": [options.pattern], "privileges": ["create_doc"]}]}).encode()
        answer = self._opened().exchange("POST", self._url("/_security/user/_has_privileges"), wanted, _JSON)
        if answer.status == 200 and not _decoded(answer).get("has_all_requested", True):
            raise SinkMisconfigured(f"{self._who}: the user lacks the privilege `create_doc` on {options.pattern}")
        if answer.status == 200:
            yield f"the user may add documents to {options.pattern}"

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _who(self) -> str:
        return safe_url(self.options.url)

    def _opened(self) -> HttpClient:
        if self._client is None:
            raise RuntimeError("used before open")
        return self._client

    def _url(self, path: str) -> str:
        return self.options.url.rstrip("/") + path

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        expect: tuple[int, ...] = (200,),
    ) -> Answer:
        """An answer with one of these statuses; the server's own words for what a person must mend."""
        answer = self._opened().exchange(method, self._url(path), body, headers)
        complaint = None if answer.status in expect else complaint_of(answer.body)
        if complaint is not None and (problem := misconfigured(answer.status, complaint, self._who)):
            raise problem
        self._opened().judge(answer, self._url(path), expect)
        return answer

    def _look(self) -> dict[str, Any] | None:
        """What stands behind the index's name, by the name of each index; None where nothing does."""
        path = f"/{quote(self.options.index)}?filter_path=*.data_stream,*.settings.index.uuid"
        answer = self._ask("GET", path, expect=(200, 404, 403))
        if answer.status == 403:  # whoever may write need not be allowed to look
            return {_UNSEEN: {"data_stream": self.options.data_stream}}
        return None if answer.status == 404 else _decoded(answer)

    def _find_index(self) -> None:
        """See whether the index is there, make it on request, and say what it can keep."""
        options = self.options
        if options.is_dated:
            if options.create:
                self._make_template()
            return
        found = self._look()
        if found is None:
            if not options.create:
                raise SinkMisconfigured(self._missing())
            if options.data_stream:
                self._make_template()
            else:
                self._make_index()
            found = {options.index: {"data_stream": options.data_stream}}
        streams = any(each.get("data_stream") for each in found.values())
        if streams and not options.data_stream:
            raise SinkMisconfigured(f"{self._who}: {options.index} is a data stream; set data_stream = true")
        if streams or set(found) != {options.index}:
            # Ids are unique within one index: a repeat after a roll-over finds another one. What this user may not look
            # at may be an alias, too.
            self.guarantee = Guarantee.AT_LEAST_ONCE_KEYED

    def _make_index(self) -> None:
        body = json.dumps(self.options.definition()).encode()
        answer = self._ask("PUT", f"/{quote(self.options.index)}", body, _JSON, expect=(200, 400))
        complaint = complaint_of(answer.body) if answer.status == 400 else None
        # Another instance may have been faster.
        if complaint is not None and complaint.type != "resource_already_exists_exception":
            raise SinkMisconfigured(f"{self._who}: index {self.options.index} cannot be made: {complaint.words()}")

    def _make_template(self) -> None:
        """What is named so is made by the server, like this, when the first event comes."""
        name, body = self._template()
        if self._ask("GET", f"/_index_template/{name}", expect=(200, 404)).status == 404:
            self._ask("PUT", f"/_index_template/{name}", json.dumps(body).encode(), _JSON)

    def _template(self) -> tuple[str, dict[str, Any]]:
        options = self.options
        body: dict[str, Any] = {
            "index_patterns": [options.pattern],
            "priority": 500,
            "template": options.definition(),
        }
        if options.data_stream:
            body["data_stream"] = {}
        return quote(f"eventferry-{options.pattern.replace('*', 'x')}"), body

    def _missing(self) -> str:
        options = self.options
        if options.data_stream:
            name, body = self._template()
            how = f"PUT /_index_template/{name} {json.dumps(body)}"
        else:
            how = f"PUT /{options.index} {json.dumps(options.definition())}"
        kind = "data stream" if options.data_stream else "index"
        return f"{self._who}: {kind} {options.index} is not there; set create = true, or make it: {how}"

    @staticmethod
    def _described(answer: Answer) -> str:
        version = _decoded(answer).get("version")
        if not isinstance(version, dict):
            return "there, and does not say what it is"
        name = "OpenSearch" if version.get("distribution") == "opensearch" else "Elasticsearch"
        return f"{name} {version.get('number', '')}".strip()


def _decoded(answer: Answer) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}

"""Talks to one ClickHouse server over HTTP: statements, answers, and inserts that are sent while they are made."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from isal import isal_zlib

from eventferry.sink import SinkMisconfigured
from eventferry.sink.http import Answer, HttpClient
from eventferry.sink.safe import safe_url
from eventferry.sink.timing import Deadline
from eventferry_sinks.clickhouse.meanings import ACCESS_DENIED, NO_DATA, code_in, meaning

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP = 31  # window bits which ask zlib for a gzip header; its time is 0
_CODE_HEADER = "X-ClickHouse-Exception-Code"


class Server:
    """One server under one user. Used by one thread at a time. The requests after `begin` share its seconds."""

    def __init__(self, client: HttpClient, url: str, secrets: Iterable[str] = ()) -> None:
        self._client = client
        self._url = url
        self._deadline: Deadline | None = None
        self._secrets = tuple(secrets)
        self.who = safe_url(url)

    def begin(self, seconds: float) -> None:
        """Start the clock of a call that may need several requests."""
        self._deadline = Deadline(seconds)

    def select(self, statement: str) -> list[list[Any]]:
        """The rows of a SELECT; 64-bit integers may come as texts. Raises SinkErrors."""
        answer = self._exchange(f"{statement} FORMAT JSONCompact".encode(), {})
        self._judge(answer)
        return self._rows(answer)

    def select_if_allowed(self, statement: str) -> list[list[Any]] | None:
        """The same; None where the user may not ask this."""
        answer = self._exchange(f"{statement} FORMAT JSONCompact".encode(), {})
        if self._code(answer) == ACCESS_DENIED:
            return None
        self._judge(answer)
        return self._rows(answer)

    def execute(self, statement: str) -> None:
        """Carry out a statement that answers nothing. Raises SinkErrors."""
        self._silent(self._exchange(statement.encode(), {}))

    def insert(
        self, statement: str, lines: Iterable[bytes], settings: Mapping[str, object], compression: str, query_id: str
    ) -> None:
        """Carry out an INSERT whose data are `lines`. Returning means that the server said it is done."""
        body = packed(_headed(statement, lines), compression)
        headers = {} if compression == "none" else {"Content-Encoding": compression}
        self._silent(self._exchange(body, {**settings, "query_id": query_id}, headers))

    def try_insert(self, statement: str, settings: Mapping[str, object]) -> None:
        """The same INSERT without data: the server looks at table, columns and rights, and writes nothing."""
        answer = self._exchange(f"{statement}\n".encode(), settings)
        if self._code(answer) != NO_DATA:
            self._silent(answer)

    def close(self) -> None:
        self._client.close()

    def _exchange(
        self, body: bytes | Iterable[bytes], settings: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> Answer:
        # The status is sent after the statement ended, so that it tells how it ended.
        query = urlencode({**settings, "wait_end_of_query": 1})
        left = self._deadline.left if self._deadline else None
        return self._client.exchange("POST", f"{self._url}?{query}", body, headers, left)

    def _code(self, answer: Answer) -> int | None:
        """The code of the exception that an answer tells of, whatever its status."""
        header = answer.headers.get(_CODE_HEADER, "")
        if header.isdecimal() and int(header):
            return int(header)
        return code_in(_text(answer))

    def _judge(self, answer: Answer) -> None:
        code = self._code(answer) if answer.status != 200 or _CODE_HEADER in answer.headers else None
        if code is not None:
            raise meaning(code, _text(answer), self.who, self._secrets)
        self._client.judge(answer, self._url, (200,))

    def _silent(self, answer: Answer) -> None:
        """Raise unless the server says nothing but 200: an exception may follow one."""
        self._judge(answer)
        if answer.body.strip():
            code = self._code(answer)
            if code is not None:
                raise meaning(code, _text(answer), self.who, self._secrets)
            raise SinkMisconfigured(f"{self.who} answered 200 with words that are not ClickHouse's; check the url")

    def _rows(self, answer: Answer) -> list[list[Any]]:
        try:
            rows = json.loads(answer.body)["data"]
        except (ValueError, KeyError, TypeError):
            code = self._code(answer)
            if code is not None:
                raise meaning(code, _text(answer), self.who, self._secrets) from None
            raise SinkMisconfigured(f"{self.who} does not answer as ClickHouse does; check the url") from None
        return [list(row) for row in rows]


def _text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")


def _headed(statement: str, lines: Iterable[bytes]) -> Iterator[bytes]:
    yield f"{statement}\n".encode()
    yield from lines


def packed(pieces: Iterable[bytes], compression: str) -> Iterable[bytes]:
    """`pieces` as one stream compressed as `compression`; equal pieces give equal bytes."""
    if compression == "gzip":
        return _packed(pieces, isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP))
    if compression == "zstd":
        return _packed(pieces, zstd.ZstdCompressor(1))
    return pieces


def _packed(pieces: Iterable[bytes], packer: Any) -> Iterator[bytes]:
    for piece in pieces:
        if some := packer.compress(piece):  # an empty chunk would end the request
            yield some
    yield packer.flush()

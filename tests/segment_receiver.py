"""Stands in for Segment's tracking API: checks what its documentation demands of `/v1/batch`, over HTTP on loopback.

Like Segment it answers 400 to what is too large or no JSON, and 200 to all else, also to calls that it then drops:
those are kept in `dropped`, so that a test sees them.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
from tests.contract.receiver import Answer, Request, raw_items, receiving

KINDS = ("identify", "group", "track", "page", "screen", "alias")
ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")


@dataclass
class Segment:
    """A running receiver; `calls` are what it took, in order, each as JSON."""

    url: str = ""
    write_key: str = "key-4711"
    calls: list[bytes] = field(default_factory=list)
    dropped: list[tuple[str, bytes]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    fail: Callable[[Request], Answer | None] = lambda request: None

    def of(self, kind: str) -> list[dict[str, object]]:
        """The calls of one kind."""
        return [call for call in map(json.loads, self.calls) if call["type"] == kind]

    def once(self) -> list[bytes]:
        """What is left after Segment has dropped calls whose id it has seen."""
        return list({json.loads(call)["messageId"]: call for call in reversed(self.calls)}.values())[::-1]

    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"].rpartition("-")[0] for request in self.requests]

    def answer(self, request: Request) -> Answer:
        if failed := self.fail(request):
            return failed
        given = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        if given != f"{self.write_key}:":
            return 401, {}, b'{"success":false,"message":"invalid write key"}'
        if len(request.raw) > 500_000:
            return 400, {}, b'{"success":false,"message":"request too large"}'
        try:
            body = msgspec.json.decode(request.raw, type=dict[str, msgspec.Raw])
            calls = raw_items(bytes(body["batch"]))
        except (msgspec.MsgspecError, KeyError):
            return 400, {}, b'{"success":false,"message":"malformed JSON"}'
        if any(len(call) >= 32 * 1024 for call in calls):
            return 400, {}, b'{"success":false,"message":"call too large"}'
        self.requests.append(request)
        for number, call in enumerate(calls):
            problem = "too many calls" if number >= 2500 else _problem(json.loads(call))
            if problem:
                self.dropped.append((problem, call))
            else:
                self.calls.append(call)
        return 200, {}, b'{"success":true}'


def _problem(call: dict[str, object]) -> str | None:
    if call.get("type") not in KINDS:
        return "no such type"
    if not any(isinstance(call.get(key), str) and call[key] for key in ("userId", "anonymousId")):
        return "no_user_anon_id"
    if call["type"] == "track" and not call.get("event"):
        return "no event"
    if call["type"] == "group" and not call.get("groupId"):
        return "no groupId"
    if not 0 < len(str(call.get("messageId", ""))) < 100:
        return "messageId"
    times = [call[key] for key in ("timestamp", "receivedAt") if key in call]
    if not all(isinstance(each, str) and ISO.fullmatch(each) for each in times):
        return "a time that is not ISO 8601"
    return None


@contextmanager
def segment() -> Iterator[Segment]:
    """A running receiver, gone with the block."""
    running = Segment()
    with receiving(lambda request: running.answer(request)) as receiver:
        running.url = receiver.url
        yield running

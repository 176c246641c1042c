"""The http sink keeps the contract, against a real HTTP server."""

import json
from contextlib import contextmanager
from typing import ClassVar

import pytest
from tests.contract.receiver import dripping, nobody, receiving

from eventferry.sink import Guarantee, SinkMisconfigured, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, make_batch, sample_events
from eventferry.sink.registry import make_sink
from eventferry_sinks.http.sink import HttpSink

TOKEN = "tok-4711-secret"


def _target(receiver, url=None, **options):
    return Target(
        lambda: make_sink("http", "hook", {"url": url or receiver.url, **options}),
        receiver.events if receiver else list,
        receiver.keys if receiver else None,
    )


class TestHttp(SinkPromises):
    sink_type = HttpSink
    options: ClassVar = {"url": "https://example.org/in"}
    secrets = (TOKEN, "q-secret")
    deadline = 0.3

    @contextmanager
    def healthy(self):
        with receiving() as receiver:
            yield _target(receiver)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield _target(None, f"{url}?key=q-secret", bearer=TOKEN)

    @contextmanager
    def refusing(self):
        def refuse(request):
            return 422, {}, f"no: {request.headers['authorization']}".encode()

        with receiving(refuse) as receiver:
            yield _target(receiver, f"{receiver.url}?key=q-secret", bearer=TOKEN)

    @contextmanager
    def hanging(self):
        with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a") as url:
            yield _target(None, url, timeout=self.deadline)


class TestHttpArrayGzip(TestHttp):
    """The other form: a gzipped JSON array, whose events are equal rather than the same bytes."""

    exact = False

    @contextmanager
    def healthy(self):
        with receiving() as receiver:
            yield _target(receiver, format="array", compression="gzip", username="u", password=TOKEN, method="PUT")

    def test_numbers_arrive(self):
        """Every digit is kept in the array too; compared as bytes, since the test's parser would lose them."""
        with receiving() as receiver, make_sink("http", "h", {"url": receiver.url, "format": "array"}) as sink:
            batch = make_batch([b'{"n":1e400,"m":123456789012345678901234567890}', b'{"n":1.0}'])
            sink.deliver(batch)
            assert receiver.requests[0].body == b"[" + batch.body[:-1].replace(b"\n", b",") + b"]"


def test_a_request_is_what_the_options_say():
    """Headers, content type, credentials and key are on the request; cookies of the receiver are not sent back."""
    options: ClassVar = {"bearer": TOKEN, "headers": {"X-Team": "bi"}, "idempotency_header": "X-Batch"}
    with receiving(lambda request: (201, {"Set-Cookie": "a=b"}, b"")) as receiver:
        with make_sink("http", "h", {"url": receiver.url, **options}) as sink:
            first, second = make_batch(sample_events(1)), make_batch(sample_events(2))
            sink.deliver(first)
            sink.deliver(second)
        seen = receiver.requests
        assert [one.headers["x-batch"] for one in seen] == [first.id, second.id]
        assert seen[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert seen[0].headers["x-team"] == "bi"
        assert seen[0].headers["content-type"] == "application/x-ndjson"
        assert "cookie" not in seen[1].headers
        assert seen[0].peer == seen[1].peer, "the connection is kept between batches"


def test_an_unexpected_success_holds():
    """A 2xx that is not expected is no proof: a person decides what it means."""
    with receiving(lambda request: (207, {}, json.dumps({"errors": True}).encode())) as receiver:
        with make_sink("http", "h", {"url": receiver.url}) as sink, pytest.raises(SinkMisconfigured, match="207"):
            sink.deliver(make_batch(sample_events(1)))
        with make_sink("http", "h", {"url": receiver.url, "expect": [207]}) as sink:
            sink.deliver(make_batch(sample_events(1)))


def test_a_lost_answer_is_repeated_under_the_same_key():
    """A connection that breaks after the request is unknown, and the repeat has the same key and the same bytes."""
    cut = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"", every=0.01)
    with cut as url, make_sink("http", "h", {"url": url, "timeout": 0.2}) as sink:
        with pytest.raises(SinkUnavailable) as caught:
            sink.deliver(make_batch(sample_events(1)))
        assert not caught.value.untouched
    assert HttpSink.guarantee is Guarantee.AT_LEAST_ONCE_KEYED

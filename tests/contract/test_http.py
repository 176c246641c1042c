"""The http sink keeps the contract in every form, against a real HTTP server, also over TLS with its own authority."""

import base64
import hmac
import json
import ssl
from contextlib import contextmanager
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
import pytest
import trustme
from freezegun import freeze_time
from tests.contract.receiver import dripping, nobody, raw_items, receiving

from eventferry.errors import ConfigError
from eventferry.sink import (
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    Guarantee,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.identity import event_ids
from eventferry.sink.kit import SinkPromises, Target, cut_batch, make_batch, sample_events
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.registry import make_sink
from eventferry_sinks.http.sink import HttpSink

TOKEN = "tok-4711-secret"
SIGNING = "whsec_" + base64.b64encode(b"the key of this test, long enough").decode()
LAST = b'"n":4,'  # of the five events that the kit sends where it breaks a connection


def _refuse_poison(request):
    return (422, {}, b"column amount is no number") if b"poison" in request.body else (200, {}, b"ok")


class TestHttp(SinkPromises):
    sink_type = HttpSink
    counterpart = "a receiver on loopback, over HTTP and HTTPS"
    options: ClassVar = {"url": "https://example.org/in"}
    secrets = (TOKEN, "q-secret", SIGNING)
    deadline = 0.3
    poison = b'{"event_type":"poison"}'
    check_sees = False  # that is known once events are sent
    form: ClassVar = {}

    def target(self, receiver, url=None, **options):
        made = {"url": url or receiver.url, **self.form, **options}
        arrived, keys = (receiver.events, receiver.keys) if receiver else (list, None)
        return Target(lambda: make_sink("http", "hook", made), arrived, keys)

    @contextmanager
    def healthy(self):
        with receiving() as receiver:
            yield self.target(receiver)

    @contextmanager
    def poisoned(self):
        with receiving(_refuse_poison) as receiver:
            yield self.target(receiver)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield self.target(None, f"{url}?key=q-secret", bearer=TOKEN, sign=SIGNING)

    @contextmanager
    def _answering(self, status, headers=None, **options):
        def answer(request):
            return status, headers or {}, f"no: {request.headers['authorization']}".encode()

        with receiving(answer) as receiver:
            yield self.target(receiver, f"{receiver.url}?key=q-secret", bearer=TOKEN, sign=SIGNING, **options)

    def refusing(self):
        return self._answering(422)

    def misconfigured(self):
        return self._answering(401)

    def throttling(self):
        return self._answering(429, {"Retry-After": "7"})

    @contextmanager
    def hanging(self):
        with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a") as url:
            yield self.target(None, url, timeout=self.deadline)

    @contextmanager
    def _behind_proxy(self, arm):
        with receiving() as receiver, CuttingProxy("127.0.0.1", urlsplit(receiver.url).port) as proxy:
            plain = self.target(receiver, f"{proxy.url}/in")
            yield Target(plain.sink, plain.arrived, plain.keys, lambda: arm(proxy))

    def losing_reply(self):
        return self._behind_proxy(lambda proxy: proxy.cut_after(LAST))

    def crashing_before(self):
        return self._behind_proxy(lambda proxy: proxy.cut_before(b"POST"))


class TestHttpArrayGzip(TestHttp):
    """A gzipped JSON array, sent with PUT and basic authentication."""

    form: ClassVar = {"format": "array", "compression": "gzip", "method": "PUT"}

    def losing_reply(self):
        return self._behind_proxy(lambda proxy: proxy.cut_after(b"PUT"))

    def crashing_before(self):
        return self._behind_proxy(lambda proxy: proxy.cut_before(b"PUT"))


class TestHttpEnvelope(TestHttp):
    """The events within a JSON text of the receiver's own form."""

    form: ClassVar = {"format": "envelope", "envelope": '{"from": "ferry", "batch": "%batch_id%", "list": "%events%"}'}

    def target(self, receiver, url=None, **options):
        plain = super().target(receiver, url, **options)

        def arrived():
            bodies = [msgspec.json.decode(each.body, type=dict[str, msgspec.Raw]) for each in receiver.requests]
            return [event for body in bodies for event in raw_items(bytes(body["list"]))]

        return Target(plain.sink, arrived if receiver else list, plain.keys)


class TestHttpEvent(TestHttp):
    """One request an event; the batch's id is in a header of its own."""

    form: ClassVar = {"format": "event"}

    def target(self, receiver, url=None, **options):
        plain = super().target(receiver, url, **options)
        return Target(
            plain.sink,
            plain.arrived,
            receiver and (lambda: [each.headers["eventferry-batch"] for each in receiver.requests]),
        )


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


# The form around the events


def test_an_envelope_is_filled_and_is_the_same_in_every_attempt():
    """Every placeholder has its value, what is around them stays as it was written, and a repeat has the same bytes."""
    template = '{ "v":1.0, "b":"%batch_id%","n":"%count%", "of":["%sink%","%time_min%","%time_max%"],"e":"%events%" }'
    options = {"format": "envelope", "envelope": template}
    with receiving() as receiver, make_sink("http", "h", {"url": receiver.url, **options}) as sink:
        batch = make_batch([b'{"a":1e400}', b'{"a": "%events%"}'])
        for _ in range(2):
            sink.deliver(batch)
        expected = (
            f'{{ "v":1.0, "b":"{batch.id}","n":2, "of":["kit",{batch.time_min},{batch.time_max}],'
            '"e":[{"a":1e400},{"a": "%events%"}] }'
        )
        assert [each.body.decode() for each in receiver.requests] == [expected] * 2
        assert receiver.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ('{"events": %events%}', "is not JSON"),
        ('{"events": "%event%"}', '"%event%", which is unknown'),
        ('{"batch": "%batch_id%"}', "0 times"),
        ('["%events%", "%events%"]', "2 times"),
        ('{"%events%": 1}', "as a key"),
    ],
)
def test_an_envelope_that_cannot_be_filled_is_refused_when_it_is_read(template, said):
    """What would send no JSON, or no events, is a mistake of the configuration, named with its remedy."""
    with pytest.raises(ConfigError, match="envelope") as caught:
        make_sink("http", "h", {"url": "https://x/", "format": "envelope", "envelope": template})
    assert said in str(caught.value)


def test_a_placeholder_is_a_whole_text_only():
    """Within a longer text, or behind an escaped quote, it is a text like any other."""
    template = r'{"a": "all of %events%", "b": "\"%events%", "c\"": "%events%"}'
    with receiving() as receiver:
        options = {"url": receiver.url, "format": "envelope", "envelope": template}
        with make_sink("http", "h", options) as sink:
            sink.deliver(make_batch([b'{"n":1}']))
        assert json.loads(receiver.requests[0].body) == {"a": "all of %events%", "b": '"%events%', 'c"': [{"n": 1}]}


# Signatures


@freeze_time("2026-05-01T12:00:00.900Z")
def test_requests_are_signed_as_the_standard_says():
    """Id, time and the body as it is sent are under each of the secrets' signatures: a receiver can check them."""
    old = "whsec_" + base64.b64encode(b"another key that is being replaced").decode()
    with receiving() as receiver:
        options = {"url": receiver.url, "sign": [SIGNING, old], "compression": "gzip"}
        with make_sink("http", "h", options) as sink:
            batch = make_batch(sample_events(3))
            sink.deliver(batch)
        (request,) = receiver.requests
    assert request.headers["webhook-id"] == batch.id == request.headers["idempotency-key"]
    assert request.headers["webhook-timestamp"] == "1777636800"
    signed = f"{batch.id}.1777636800.".encode() + request.raw
    expected = [
        "v1," + base64.b64encode(hmac.digest(base64.b64decode(each[6:]), signed, "sha256")).decode()
        for each in (SIGNING, old)
    ]
    assert request.headers["webhook-signature"].split(" ") == expected


def test_the_standards_own_example_has_its_signature():
    """The values that the standard's reference libraries are tested with."""
    from eventferry_sinks.http.signing import sign

    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, [b'{"test": ', b"2432232314}"])
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "secret", ["", "hush-hush-hush", "whsec_c2hvcnQ=", "whsec_!!!", base64.b64encode(b"x" * 32).decode()]
)
def test_a_secret_that_is_none_is_refused_without_being_shown(secret):
    """A secret of another form would sign in vain; the message says how to make one, and not what it was."""
    with pytest.raises(ConfigError, match="openssl rand") as caught:
        make_sink("http", "h", {"url": "https://x/", "sign": secret})
    assert not secret or secret not in str(caught.value)


# Event by event


def test_each_event_has_a_key_that_holds_however_batches_are_cut():
    """A receiver that remembers keys takes each event once, also from a ledger that cuts its batches elsewhere."""
    files = [sample_events(6), sample_events(5, 6)]
    with receiving() as receiver:
        with make_sink("http", "h", {"url": receiver.url, "format": "event"}) as sink:
            for first, last in ((0, 8), (3, 11)):
                sink.deliver(cut_batch(files, first, last))
        seen = [(each.headers["idempotency-key"], each.body) for each in receiver.requests]
    assert [json.loads(body)["n"] for _, body in seen] == [*range(8), *range(3, 11)]
    assert len(dict(seen)) == len({key for key, _ in seen}) == len(set(seen)) == 11


def test_refused_events_are_named_and_all_others_are_taken():
    """Refusals of single events do not stop the others, and a resend says the same."""
    lines = [b'{"n":%d,"t":"%s"}' % (n, b"poison" if n in (1, 4) else b"fine") for n in range(6)]
    with receiving(_refuse_poison) as receiver:
        with make_sink("http", "h", {"url": receiver.url, "format": "event"}) as sink:
            for _ in range(2):
                with pytest.raises(EventsRejected) as caught:
                    sink.deliver(make_batch(lines))
                assert list(caught.value.reasons) == [1, 4]
                assert "column amount is no number" in caught.value.reasons[1]
        assert [json.loads(each)["n"] for each in receiver.events()] == [0, 2, 3, 5] * 2


def test_a_failure_in_the_middle_stops_at_it_and_is_unknown():
    """What is not a refusal ends the batch at that event; what came before is taken, so the outcome is unknown."""
    answers = iter([(200, {}, b""), (422, {}, b"no"), (429, {"Retry-After": "5"}, b"wait")])
    with receiving(lambda request: next(answers)) as receiver:
        sink = make_sink("http", "h", {"url": receiver.url, "format": "event"})
        with sink, pytest.raises(SinkUnavailable) as caught:
            sink.deliver(make_batch(sample_events(5)))
        assert (caught.value.untouched, caught.value.retry_after) == (False, 5)
        assert len(receiver.events()) == 1


def test_a_receiver_that_refuses_everything_is_not_asked_for_every_event():
    """After twenty refusals and nothing taken the whole batch counts as refused, and nothing of it was taken."""
    asked = []

    def refuse(request):
        asked.append(request)
        return 422, {}, b"no such table"

    with receiving(refuse) as receiver:
        sink = make_sink("http", "h", {"url": receiver.url, "format": "event"})
        with sink, pytest.raises(BatchRejected, match="no such table"):
            sink.deliver(make_batch(sample_events(500)))
    assert len(asked) == 20


def test_a_batch_that_takes_longer_than_the_deadline_is_too_large():
    """Smaller batches follow, whose events have the same keys: a slow receiver is not sent the same for ever."""
    with freeze_time("2026-05-01T12:00:00Z") as clock:

        def slow(request):
            clock.tick(3)
            return 200, {}, b""

        with receiving(slow) as receiver:
            with make_sink("http", "h", {"url": receiver.url, "format": "event", "timeout": 8}) as sink:
                batch = make_batch(sample_events(10))
                with pytest.raises(BatchTooLarge, match=r"took 3 of 10 events.*set batch\.max_events"):
                    sink.deliver(batch)
            assert [each.headers["idempotency-key"] for each in receiver.requests] == event_ids(batch)[:3]


# TLS


def test_https_with_an_authority_of_ones_own():
    """With `ca_file` a receiver whose certificate that authority issued is believed; without it nothing is sent."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with receiving(wrap=lambda sock: context.wrap_socket(sock, server_side=True)) as receiver:
        with authority.cert_pem.tempfile() as pem:
            options = {"url": receiver.url, "ca_file": pem, "sign": SIGNING, "format": "array"}
            with make_sink("http", "h", options) as sink:
                assert "certificate that is verified" in next(sink.check())
                sink.deliver(make_batch(sample_events(3)))
        assert receiver.events() == sample_events(3)
        with make_sink("http", "h", {"url": receiver.url}) as sink, pytest.raises(SinkMisconfigured, match="ca_file"):
            sink.deliver(make_batch(sample_events(1)))
        assert len(receiver.requests) == 1

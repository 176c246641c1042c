"""The segment sink keeps the contract, against a receiver that checks the limits that Segment documents."""

import json
import re
from contextlib import contextmanager
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
import pytest
from freezegun import freeze_time
from tests.contract.receiver import dripping, nobody
from tests.segment_receiver import segment

from eventferry.errors import ConfigError
from eventferry.sink import BatchTooLarge, EventsRejected, SinkUnavailable
from eventferry.sink.kit import SinkPromises, Target, cut_batch, make_batch
from eventferry.sink.kit.proxy import CuttingProxy
from eventferry.sink.registry import make_sink
from eventferry_sinks.segment.sink import SegmentSink

KEY = "key-4711"
SOMEBODY = {"anonymousId": {"value": "kit"}}
AS_THEY_CAME = {
    "identify": SOMEBODY,
    "track": {**SOMEBODY, "event": {"value": "Kit"}, "properties": {"path": "."}},
    "page_types": [],
}
VIEW = {
    "event_type": "pageView",
    "event_timestamp": 1643673911400,
    "arrival_timestamp": 1643673912482,
    "attributes": {"title": "Page title", "url": "https://ex.test/p/", "search": "", "qv_utm_source": "news",
                   "networkId": "1"},
    "metrics": {"elapsed": 2, "hour": 0},
    "endpoint": {
        "Id": "11954862",
        "EndpointStatus": "ACTIVE",
        "Location": {"Country": "GB"},
        "Demographic": {"Locale": "en_gb", "Platform": "ios", "PlatformVersion": "14.4.1", "AppVersion": ""},
        "Attributes": {"DeviceModel": ["iPhone"], "lastSession": ["2f01", "2f02"], "none": []},
        "Metrics": {"sessions": 1.0},
        "User": {"UserId": "u7", "UserAttributes": {"plan": ["gold"]}},
    },
}  # fmt: skip


def lines(*events):
    return [json.dumps(each, separators=(",", ":")).encode() for each in events]


def opened(receiver, **options):
    return make_sink("segment", "cdp", {"write_key": KEY, "url": receiver.url, **options})


class TestSegment(SinkPromises):
    sink_type = SegmentSink
    counterpart = "a receiver on loopback that checks Segment's documented limits"
    options: ClassVar = {"write_key": KEY}
    secrets = (KEY,)
    deadline = 0.3
    poison = b'{"event_type":"poison","pad":"' + b"x" * 40_000 + b'"}'
    check_sees = False  # Segment takes everything; that a key is wrong shows in its debugger

    def target(self, receiver, url=None, **options):
        made = {"write_key": KEY, "url": url or receiver.url, **AS_THEY_CAME, **options}

        def arrived():
            assert not receiver.dropped
            calls = [msgspec.json.decode(call, type=dict[str, msgspec.Raw]) for call in receiver.calls]
            return [bytes(call["properties"]) for call in calls if bytes(call["type"]) == b'"track"']

        return Target(
            lambda: make_sink("segment", "cdp", made), arrived if receiver else list, receiver and receiver.keys
        )

    @contextmanager
    def healthy(self):
        with segment() as receiver:
            yield self.target(receiver)

    @contextmanager
    def unreachable(self):
        with nobody() as url:
            yield self.target(None, url)

    @contextmanager
    def _answering(self, status, headers):
        with segment() as receiver:
            receiver.fail = lambda request: (status, headers, f"no: {request.headers['authorization']} {KEY}".encode())
            yield self.target(receiver)

    def refusing(self):
        return self._answering(400, {})

    def misconfigured(self):
        return self._answering(401, {})

    def throttling(self):
        return self._answering(429, {"Retry-After": "7"})

    @contextmanager
    def hanging(self):
        with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a") as url:
            yield self.target(None, url, timeout=self.deadline)

    @contextmanager
    def _behind_proxy(self, arm):
        with segment() as receiver, CuttingProxy("127.0.0.1", urlsplit(receiver.url).port) as proxy:
            plain = self.target(receiver, f"{proxy.url}/v1/batch")
            yield Target(plain.sink, plain.arrived, plain.keys, lambda: arm(proxy))

    def losing_reply(self):
        return self._behind_proxy(lambda proxy: proxy.cut_after(b"POST"))

    def crashing_before(self):
        return self._behind_proxy(lambda proxy: proxy.cut_before(b"POST"))


def test_a_view_becomes_identify_and_page_by_the_mapping_of_altis():
    """Without any mapping configured the calls are those of Altis's own integration, with an id each."""
    with segment() as receiver, opened(receiver) as sink:
        sink.deliver(make_batch(lines(VIEW)))
        identify, page = map(json.loads, receiver.calls)
        assert not receiver.dropped
    who = {
        "anonymousId": "11954862",
        "userId": "u7",
        "timestamp": "2022-02-01T00:05:11.400Z",
        "receivedAt": "2022-02-01T00:05:12.482Z",
    }
    traits = {"DeviceModel": "iPhone", "lastSession": "2f01", "plan": "gold", "sessions": 1.0}
    about = {"search": "", "title": "Page title", "url": "https://ex.test/p/"}
    first, second = identify.pop("messageId"), page.pop("messageId")
    assert first.removesuffix("-identify") == second.removesuffix("-page")
    assert identify == {"type": "identify", **who, "traits": traits}
    assert page == {
        "type": "page",
        **who,
        "name": "Page title",
        "properties": about,
        "context": {
            "active": "ACTIVE",
            "app": {"version": ""},
            "campaign": {"source": "news"},
            "device": {"model": "iPhone"},
            "locale": "en_gb",
            "location": {"country": "GB"},
            "os": {"name": "ios", "version": "14.4.1"},
            "page": about,
            "traits": traits,
        },
    }


def test_another_event_becomes_a_track_call_with_its_attributes_and_metrics():
    """Its name is the type of the event; an empty list, and what is not there, leaves no key."""
    event = {"event_type": "click", "attributes": {"a": "1", "l": ["x", "y"]}, "metrics": {"n": 0.1},
             "endpoint": {"Id": 5, "Attributes": []}}  # fmt: skip
    with segment() as receiver, opened(receiver, calls=["track"]) as sink:
        sink.deliver(make_batch(lines(event)))
        (call,) = map(json.loads, receiver.calls)
    del call["messageId"]
    properties = {"a": "1", "l": "x", "n": 0.1}
    assert call == {"type": "track", "anonymousId": "5", "event": "click", "properties": properties}


def test_the_mapping_can_be_changed_key_by_key():
    """A configured key goes over the default of the same name, "" takes it away, all others stay."""
    track = {
        "event": {"path": ["attributes.name", "event_type"]},
        "context.traits": "",
        "context.ip": "attributes.ip",
        "properties": ["metrics"],
        "properties.source": {"value": "altis"},
        "sentAt": {"path": "arrival_timestamp", "as": "time"},
    }
    event = {**VIEW, "event_type": "x", "attributes": {"ip": "192.0.2.7"}}
    with segment() as receiver, opened(receiver, track=track, calls=["track"]) as sink:
        sink.deliver(make_batch(lines(event)))
        (call,) = receiver.of("track")
    assert call["event"] == "x"
    assert call["properties"] == {"elapsed": 2, "hour": 0, "source": "altis"}
    assert call["sentAt"] == "2022-02-01T00:05:12.482Z"
    assert call["context"]["ip"] == "192.0.2.7"
    assert "traits" not in call["context"]
    assert call["context"]["os"]["name"] == "ios"


def test_groups_are_called_where_their_id_is_there():
    """Each table of `groups` makes a group call with an id of its own; without a groupId there is none."""
    groups = [
        {"groupId": {"path": "attributes.networkId", "as": "text"}, "traits.url": "attributes.url"},
        {"groupId": "attributes.no"},
    ]
    with segment() as receiver, opened(receiver, groups=groups) as sink:
        sink.deliver(make_batch(lines(VIEW)))
        assert [json.loads(call)["type"] for call in receiver.calls] == ["identify", "group", "page"]
        (group,) = receiver.of("group")
    assert group["groupId"] == "1"
    assert group["traits"] == {"url": "https://ex.test/p/"}
    assert group["messageId"].endswith("-group1")


def test_a_repeat_has_the_same_ids_however_batches_are_cut():
    """What Segment remembers makes a repeat harmless, whole or in other batches; equal events stay two."""
    files = [lines(VIEW, VIEW, {**VIEW, "event_type": "click"}), lines(VIEW)]
    with segment() as receiver, opened(receiver) as sink:
        for first, last in ((0, 3), (1, 4), (0, 4)):
            sink.deliver(cut_batch(files, first, last))
        assert len(receiver.calls) == 20
        assert len(receiver.once()) == 8


def test_two_sources_do_not_take_events_from_each_other():
    """Segment compares ids over all sources and workspaces: each source has ids of its own."""
    events = lines(VIEW, {**VIEW, "id": 7})
    with segment() as receiver:
        for key in (KEY, "key-4712"):
            receiver.write_key = key
            with opened(receiver, write_key=key, message_id="id", calls=["page"]) as sink:
                sink.deliver(make_batch(events))
        assert len(receiver.once()) == 4
        assert not any(b"key-471" in call for call in receiver.calls)


def test_an_id_of_the_events_own_is_taken_where_it_is_usable():
    """With `message_id` the id is the event's own, whatever file it comes in; else its place stands for it."""
    events = [{**VIEW, "id": each} for each in ("e1", "e1", "x" * 65, "", None, 7)]
    with segment() as receiver, opened(receiver, message_id="id", calls=["page"]) as sink:
        sink.deliver(make_batch(lines(*events)))
        ids = [call["messageId"] for call in receiver.of("page")]
    assert ids[0] == ids[1]
    assert [re.sub("-[0-9a-f]{10}-", "-", each) for each in (ids[0], ids[5])] == ["e1-page", "7-page"]
    assert len(set(ids)) == 5
    assert all(len(each) < 100 for each in ids)


def test_requests_stay_within_the_documented_limits():
    """A batch of many calls goes in requests of 500 KB and 2,500 calls at most, in order, and none is dropped."""
    small = {"event_type": "click", "endpoint": {"Id": "a"}}
    large = {**small, "attributes": {"pad": "x" * 30_000}}
    with segment() as receiver, opened(receiver, calls=["track"]) as sink:
        sink.deliver(make_batch(lines(*[large] * 40, *[{**small, "metrics": {"n": n}} for n in range(5200)])))
        assert not receiver.dropped
        assert len(receiver.calls) == 5240
        assert [call["properties"].get("n") for call in receiver.of("track")[40:]] == list(range(5200))
        assert max(len(each.raw) for each in receiver.requests) <= 500_000
        assert len(receiver.requests) == 5, "no more requests than the limits make necessary"


def test_what_segment_would_drop_in_silence_is_refused_by_position():
    """No user, no name, too large: nothing of such an event is sent, and all others are taken."""
    track = {"event": "attributes.name"}
    events = [
        {**VIEW, "event_type": "a", "attributes": {"name": "A"}},
        {"event_type": "a", "attributes": {"name": "B"}},
        {**VIEW, "event_type": "a", "attributes": {}},
        {**VIEW, "event_type": "a", "attributes": {"name": "C", "pad": "x" * 40_000}},
        {**VIEW, "endpoint": {"Id": ""}},
    ]
    with segment() as receiver, opened(receiver, track=track) as sink:
        for _ in range(2):
            with pytest.raises(EventsRejected) as caught:
                sink.deliver(make_batch(lines(*events)))
            assert list(caught.value.reasons) == [1, 2, 3, 4]
        assert [call["event"] for call in receiver.of("track")] == ["A", "A"]
        assert not receiver.dropped
    said = caught.value.reasons
    assert "neither userId nor anonymousId" in said[1]
    assert "no event" in said[2]
    assert "32768" in said[3]


def test_an_empty_text_is_neither_a_name_nor_an_id():
    """Segment drops calls whose event or user is an empty text: such events are refused, and such groups not called."""
    fine = {**VIEW, "event_type": "click"}
    nameless = {**fine, "event_type": ""}
    nobody = {**fine, "endpoint": {"Id": "", "User": {"UserId": ""}}}
    options = {"track": {"userId": "endpoint.User.UserId", "anonymousId": ""}, "calls": ["track"]}
    with segment() as receiver, opened(receiver, **options, groups=[{"groupId": "attributes.search"}]) as sink:
        with pytest.raises(EventsRejected) as caught:
            sink.deliver(make_batch(lines(nameless, fine, nobody)))
        assert "no event" in caught.value.reasons[0]
        assert "neither userId nor anonymousId" in caught.value.reasons[2]
        assert len(receiver.calls) == len(receiver.of("track")) == 1


def test_a_time_that_is_none_is_left_out_and_counted():
    """Segment then takes the time of arrival: people should see how often that happens."""
    times = [1643673911400, "2022-02-01T01:05:11+01:00", "soon", 10**30, {"a": 1}, "1643673911400"]
    with segment() as receiver, opened(receiver, calls=["page"]) as sink:
        sink.deliver(make_batch(lines(*({**VIEW, "event_timestamp": each} for each in times))))
        found = [call.get("timestamp") for call in receiver.of("page")]
        assert sink.counts["values.misfitted", "timestamp"] == 3
    assert found == [
        "2022-02-01T00:05:11.400Z",
        "2022-02-01T00:05:11.000Z",
        None,
        None,
        None,
        "2022-02-01T00:05:11.400Z",
    ]


def test_a_failure_after_the_first_request_is_unknown():
    """What was taken by then is not known to be all: the batch comes again, with the same ids."""
    answers = iter([None, (429, {"Retry-After": "3"}, b"")])
    with segment() as receiver, opened(receiver, calls=["track"]) as sink:
        receiver.fail = lambda request: next(answers)
        large = {"event_type": "click", "endpoint": {"Id": "a"}, "attributes": {"pad": "x" * 30_000}}
        with pytest.raises(SinkUnavailable) as caught:
            sink.deliver(make_batch(lines(*[large] * 40)))
    assert (caught.value.untouched, caught.value.retry_after) == (False, 3)


def test_a_batch_that_takes_longer_than_the_deadline_is_too_large():
    """Smaller ones follow, and their calls have the same ids."""
    with freeze_time("2026-05-01T12:00:00Z") as clock, segment() as receiver:

        def slow(request):
            clock.tick(20)

        receiver.fail = slow
        large = {"event_type": "click", "endpoint": {"Id": "a"}, "attributes": {"pad": "x" * 30_000}}
        with opened(receiver, calls=["track"], timeout=30) as sink, pytest.raises(BatchTooLarge, match="2 requests"):
            sink.deliver(make_batch(lines(*[large] * 40)))


def test_the_region_says_where_to():
    """The endpoint of a workspace in the EU is another one; `url` is for whoever has a proxy."""
    from eventferry_sinks.segment.options import URLS

    assert "api.segment.io" in URLS["us"]
    assert "eu1" in URLS["eu"]
    with make_sink("segment", "s", {"write_key": KEY, "region": "eu"}) as sink:
        assert sink._url == URLS["eu"]


@pytest.mark.parametrize(
    "options",
    [
        {"write_key": ""},
        {"region": "de"},
        {"track": {"type": "x"}},
        {"track": {"messageId": "x"}},
        {"track": {"context": {"ip": "attributes.ip"}}},
        {"track": {"a..b": "x"}},
        {"track": {"event.name": "x"}},
        {"track": {"event": {"path": "a", "value": "b"}}},
        {"track": {"event": {"path": "a..b"}}},
        {"groups": [{"traits.a": "b"}]},
        {"message_id": "a..b"},
        {"calls": []},
    ],
)
def test_a_mapping_that_cannot_work_is_refused(options):
    """What could not work is said when the configuration is read."""
    with pytest.raises(ConfigError) as caught:
        make_sink("segment", "s", {"write_key": KEY, **options})
    assert KEY not in str(caught.value)

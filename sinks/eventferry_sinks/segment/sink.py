"""Sends events to Segment as identify, group, page and track calls."""

from collections.abc import Iterator

from eventferry.sink import (
    Batch,
    BatchLimits,
    BatchTooLarge,
    EventsRejected,
    Guarantee,
    Sink,
    SinkUnavailable,
)
from eventferry.sink.http import HttpClient, basic_auth
from eventferry.sink.safe import safe_url
from eventferry.sink.timing import Deadline
from eventferry_sinks.segment.calls import Caller, requests_of
from eventferry_sinks.segment.options import URLS, SegmentOptions


class SegmentSink(Sink[SegmentOptions]):
    """A few requests a batch. Each call has an id made of its event's, so that Segment drops what comes again soon."""

    Options = SegmentOptions
    guarantee = Guarantee.AT_LEAST_ONCE_KEYED
    max_concurrency = 8
    limits = BatchLimits(max_events=2_000, max_bytes=4 * 1024 * 1024)
    experimental = True
    proved_against = "a receiver on loopback that checks Segment's documented limits"

    _client: HttpClient | None = None
    _caller: Caller

    def open(self) -> None:
        key = self.options.write_key.get_secret_value()
        authorization = basic_auth(key, "")
        self._client = HttpClient(
            timeout=self.options.timeout,
            headers={"Authorization": authorization, "Content-Type": "application/json"},
            secrets=[key, authorization.partition(" ")[2]],
        )
        self._caller = Caller(self.options)

    def deliver(self, batch: Batch) -> None:
        deadline = Deadline(self.options.timeout)
        made = self._caller.make(batch)
        for number, body in enumerate(requests_of(made.calls)):
            if not deadline.left:
                raise BatchTooLarge(
                    f"{self._who}: {number} requests took {deadline.seconds:g} s, and the batch is not done;"
                    " smaller ones follow"
                )
            try:
                headers = {"Idempotency-Key": f"{batch.id}-{number}"}
                self._opened().send("POST", self._url, body, headers, (200,), deadline.left)
            except SinkUnavailable as error:
                # What was taken by then comes again, with the same ids.
                raise SinkUnavailable(
                    str(error), retry_after=error.retry_after, untouched=error.untouched and not number
                ) from None
            self.count("bytes.sent", number=len(body))
        for target, times in made.misfits.items():
            self.count("values.misfitted", target, times)
        if made.refused:
            raise EventsRejected(made.refused)

    def check(self) -> Iterator[str]:
        """Asks with OPTIONS: Segment has no call that changes nothing."""
        self._opened().exchange("OPTIONS", self._url)
        yield f"{self._who} answers; whether the write key is right shows in Segment's debugger alone"

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _url(self) -> str:
        return self.options.url or URLS[self.options.region]

    @property
    def _who(self) -> str:
        return safe_url(self._url)

    def _opened(self) -> HttpClient:
        if self._client is None:
            raise RuntimeError("used before open")
        return self._client

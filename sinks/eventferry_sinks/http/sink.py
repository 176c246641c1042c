"""Posts each batch to a URL: as NDJSON, as one JSON array, in an envelope, or event by event."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from isal import isal_zlib

from eventferry.sink import (
    Batch,
    BatchLimits,
    BatchRejected,
    BatchTooLarge,
    EventsRejected,
    Guarantee,
    Sink,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.http import HttpClient, Parts
from eventferry.sink.identity import event_ids
from eventferry.sink.safe import safe_url
from eventferry.sink.timing import Deadline, unix_seconds
from eventferry_sinks.http.options import HttpOptions
from eventferry_sinks.http.signing import sign
from eventferry_sinks.http.templates import Envelope, as_array

_GZIP = 31  # window bits which ask zlib for a gzip header; its time is 0, so equal bodies stay equal
BATCH_HEADER = "Eventferry-Batch"  # where the key is an event's, this says which batch it came in
# So many refused at the head of a batch, and nothing taken, are a refusal of all of it: no more requests are wasted.
_SAMPLE = 20


class HttpSink(Sink[HttpOptions]):
    """One request a batch, with the batch's id as idempotency key: a receiver that honours it takes each batch once.

    With `format = "event"` it is one request an event, with the event's own id, which holds however batches are cut.
    """

    Options = HttpOptions
    guarantee = Guarantee.AT_LEAST_ONCE_KEYED
    max_concurrency = 8
    limits = BatchLimits(max_events=1_000, max_bytes=1024 * 1024)
    proved_against = "a receiver on loopback, over HTTP and HTTPS"

    _client: HttpClient | None = None
    _envelope: Envelope | None = None
    _last: Parts | None = None

    def open(self) -> None:
        options = self.options
        headers = {name: value.get_secret_value() for name, value in options.headers.items()}
        headers["Content-Type"] = "application/x-ndjson" if options.format == "ndjson" else "application/json"
        if options.compression == "gzip":
            headers["Content-Encoding"] = "gzip"
        if authorization := options.authorization():
            headers["Authorization"] = authorization
        self._envelope = Envelope(options.envelope) if options.envelope is not None else None
        self._client = HttpClient(
            timeout=options.timeout, ca_file=options.ca_file, headers=headers, secrets=options.secrets()
        )

    def deliver(self, batch: Batch) -> None:
        if self.options.format == "event":
            self._send_each(batch)
        else:
            # The body is kept until the next one is there: to give megabytes back to the system and ask for them again
            # takes longer than to fill them.
            self._last = self._body(batch)
            self._send(self._last, batch.id, self.options.timeout, {})

    def check(self) -> Iterator[str]:
        """Asks with OPTIONS: a receiver of events must not be sent what is no event."""
        url = self.options.url
        answer = self._opened().exchange("OPTIONS", url)
        if answer.status == 401:
            raise SinkMisconfigured(f"{safe_url(url)} refuses the credentials (it answered 401 to OPTIONS)")
        secured = ", over TLS with a certificate that is verified" if urlsplit(url).scheme == "https" else ""
        yield f"{safe_url(url)} answers{secured}; what it says to events is known after the first batch"

    def close(self) -> None:
        client, self._client, self._last = self._client, None, None
        if client is not None:
            client.close()

    def _opened(self) -> HttpClient:
        if self._client is None:
            raise RuntimeError("used before open")
        return self._client

    def _body(self, batch: Batch) -> Parts:
        if self._envelope is not None:
            return self._envelope.fill(batch)
        return as_array(batch.body) if self.options.format == "array" else Parts(batch.body)

    def _send(self, body: Parts, key: str, seconds: float, more: dict[str, str]) -> None:
        options = self.options
        if options.compression == "gzip":
            packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)
            body = Parts(*map(packer.compress, body), packer.flush())
        headers = {options.idempotency_header: key, **more}
        if options.sign:
            now, prefix = unix_seconds(), options.signature_prefix
            secrets = [secret.get_secret_value() for secret in options.sign]
            headers |= {
                f"{prefix}id": key,
                f"{prefix}timestamp": str(now),
                f"{prefix}signature": sign(secrets, key, now, body),
            }
        self._opened().send(options.method, options.url, body, headers, options.expect, seconds)
        self.count("bytes.sent", number=len(body))

    def _send_each(self, batch: Batch) -> None:
        """Event by event, in order. The first failure that is not a refusal ends it: what was taken by then comes
        again under the same keys."""
        deadline = Deadline(self.options.timeout)
        refused: dict[int, str] = {}
        for position, (key, line) in enumerate(zip(event_ids(batch), batch.lines(), strict=True)):
            if not deadline.left:
                raise self._too_many(batch, position)
            try:
                self._send(Parts(line), key, deadline.left, {BATCH_HEADER: batch.id})
            except (BatchRejected, BatchTooLarge) as error:
                if batch.events == 1:
                    raise
                refused[position] = str(error)
                if len(refused) == position + 1 == _SAMPLE:
                    raise BatchRejected(f"the first {_SAMPLE} events are all refused: {error}") from None
            except SinkUnavailable as error:
                if position and not deadline.left:
                    raise self._too_many(batch, position) from None
                raise SinkUnavailable(
                    str(error), retry_after=error.retry_after, untouched=error.untouched and position == len(refused)
                ) from None
        if refused:
            raise EventsRejected(refused)

    def _too_many(self, batch: Batch, sent: int) -> BatchTooLarge:
        """No batch of this size gets through at this pace; the ids of its events hold in smaller ones, too."""
        return BatchTooLarge(
            f"{safe_url(self.options.url)} took {sent} of {batch.events} events, one request each, within"
            f" {self.options.timeout:g} s; set batch.max_events"
        )

"""One POST within a deadline, and what its answer means for a message."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from eventferry import clock
from eventferry.alerts.channels.base import DEADLINE_S, ChannelError
from eventferry.sink.answers import retry_after
from eventferry.sink.errors import SinkError
from eventferry.sink.http import Answer, HttpClient
from eventferry.sink.safe import safe_text


def post(url: str, body: bytes, headers: Mapping[str, str], *, ca_file: Path | None = None) -> None:
    """POST `body`; returning means a 2xx answer. Raises ChannelError."""
    _judge(call("POST", url, body, headers, ca_file=ca_file), url)


def knock(url: str, *, ca_file: Path | None = None) -> str:
    """Says that the host of `url` answers, whatever it answers; HEAD posts nothing. Raises ChannelError."""
    call("HEAD", url, ca_file=ca_file)
    return f"{urlsplit(url).hostname} answers; `eventferry alert test` proves the rest"


def call(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    ca_file: Path | None = None,
    timeout: float = DEADLINE_S,
) -> Answer:
    """One request, without redirects. Raises ChannelError where there is no answer within `timeout` seconds."""
    try:
        client = HttpClient(timeout=timeout, ca_file=ca_file, secrets=_secrets(url))
        try:
            return client.exchange(method, url, body, headers)
        finally:
            client.close()
    except SinkError as error:
        raise ChannelError(str(error).replace("; what it took is unknown", "")) from None


def _judge(answer: Answer, url: str) -> None:
    if 200 <= answer.status < 300:
        return
    words = safe_text(answer.body[:1600], 200, _secrets(url))
    said = f"{urlsplit(url).hostname} answered {answer.status}" + (f": {words}" if words else "")
    if answer.status in (400, 413, 415, 422):
        raise ChannelError(said, refused=True)
    if 300 <= answer.status < 400:
        raise ChannelError(f"{said}; redirects are not followed, configure the final URL")
    wait = retry_after(answer.headers.get("Retry-After"), clock.now())
    raise ChannelError(said, retry_after=wait)


def _secrets(url: str) -> tuple[str, ...]:
    """Of a webhook's URL the path is the password."""
    parts = urlsplit(url)
    return tuple(one for one in (parts.path, parts.query) if len(one) > 1)

"""What every sink that speaks HTTP goes through: one request, one deadline, one meaning."""

import base64
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests
import urllib3.exceptions

from eventferry import clock
from eventferry.sink.answers import classify
from eventferry.sink.errors import SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text, safe_url
from eventferry.sink.wire import Connect, DeadlineReached, Watchdog, WatchedAdapter, connect

ANSWER_LIMIT = 64 * 1024  # bytes of an answer that are read where nobody says more; the rest is not waited for
SUCCESS = (200, 201, 202, 204)
Piece = bytes | memoryview


class Parts:
    """A body in pieces that goes out as one of known length: to put megabytes together takes as long as to send them
    to a neighbour."""

    def __init__(self, *pieces: Piece) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)


Body = bytes | Iterable[bytes] | Parts | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered: its status, headers (any spelling) and the first 64 KiB of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def basic_auth(username: str, password: str) -> str:
    """The value of an Authorization header for basic authentication."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class HttpClient:
    """Sends single requests over kept connections. Used by one thread at a time.

    No redirects, no proxies or .netrc from the environment, no retries, certificates always verified. `timeout` is the
    total time of a call in seconds, from the name's look-up to the last byte of the answer. `secrets` are texts which
    are masked in what a receiver's answer says. `connect` makes the connections. Of an answer's body `answer_limit`
    bytes are read.
    """

    def __init__(
        self,
        *,
        timeout: float,
        ca_file: Path | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        connect: Connect = connect,
        answer_limit: int = ANSWER_LIMIT,
    ) -> None:
        if ca_file is not None and not ca_file.is_file():
            raise SinkMisconfigured(f"ca_file {ca_file} is not there or cannot be read")
        self._timeout = self._seconds = timeout
        self._answer_limit = answer_limit
        self._secrets = tuple(secrets)
        self._watchdog = Watchdog()
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca_file) if ca_file else True
        self._session.headers.clear()
        self._session.headers.update({"User-Agent": "eventferry", "Accept-Encoding": "identity", **(headers or {})})
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, WatchedAdapter(self._watchdog, connect))

    def send(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = SUCCESS,
        seconds: float | None = None,
    ) -> Answer:
        """Send one request; returning means that the status was one of `expect`. Raises SinkErrors."""
        answer = self.exchange(method, url, body, headers, seconds)
        self.judge(answer, url, expect)
        return answer

    def judge(self, answer: Answer, url: str, expect: Collection[int] = SUCCESS) -> None:
        """Raise what the status of an answer means, unless `expect` lists it."""
        words = safe_text(answer.body, 200, self._secrets)
        who = safe_url(url)
        problem = classify(answer.status, answer.headers, words, expect=expect, who=who, now=clock.now())
        if problem is not None:
            raise problem

    def exchange(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """Send one request and return whatever was answered. Raises SinkUnavailable, SinkMisconfigured.

        A body that is made while it is sent is chunked: the receiver may work on it meanwhile, and can tell one that
        broke off from one that ended. `Parts` have a length instead.

        `seconds`, where several requests share one deadline, is what is left of it.
        """
        who = safe_url(url)
        self._seconds = self._timeout if seconds is None else max(0.001, min(seconds, self._timeout))
        self._watchdog.start(self._seconds)
        try:
            answer = self._call(method, url, body, headers)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self._watchdog.stop()
            # `from None`: the texts of these libraries quote the whole URL.
            raise self._meaning(error, who) from None
        finally:
            self._watchdog.stop()
        if self._watchdog.fired:  # the end of the answer may have been the cut itself
            raise self._overdue(who)
        return answer

    def close(self) -> None:
        """Close every connection; twice is harmless."""
        self._session.close()

    def _call(self, method: str, url: str, body: Body, headers: Mapping[str, str] | None) -> Answer:
        data: Any = body  # of Parts the stubs of requests do not know that an iterable with a length will do
        response = self._session.request(
            method,
            url,
            data=data,
            headers=dict(headers or {}),
            allow_redirects=False,
            stream=True,
            timeout=None,  # the watchdog ends it; a timeout of the socket costs a large body a quarter of its speed
        )
        with response:
            raw: Any = response.raw
            read = raw.read(self._answer_limit, decode_content=False)
            return Answer(response.status_code, response.headers, read)

    def _overdue(self, who: str) -> SinkUnavailable:
        return SinkUnavailable(f"{who} did not answer within {round(self._seconds, 2):g} s; what it took is unknown")

    def _meaning(self, error: Exception, who: str) -> SinkError:
        causes = list(_causes(error))
        if _has(causes, urllib3.exceptions.NameResolutionError):
            return SinkUnavailable(f"{who}: the host's name cannot be resolved", untouched=True)
        if _has(causes, urllib3.exceptions.NewConnectionError):
            if self._watchdog.fired or _has(causes, DeadlineReached, TimeoutError):
                return SinkUnavailable(f"{who}: no connection within {round(self._seconds, 2):g} s", untouched=True)
            return SinkUnavailable(f"{who}: no connection: {_reason(causes)}", untouched=True)
        if self._watchdog.fired or _has(causes, TimeoutError, requests.Timeout):
            return self._overdue(who)
        if _has(causes, requests.exceptions.SSLError, urllib3.exceptions.SSLError):
            return self._tls_problem(causes, who)
        if isinstance(error, ValueError):  # requests refused to send: nothing has left
            return SinkMisconfigured(f"{who}: no request can be made of this URL and these headers ({_reason(causes)})")
        return SinkUnavailable(f"{who}: the connection broke ({_reason(causes)}); what it took is unknown")

    def _tls_problem(self, causes: list[BaseException], who: str) -> SinkError:
        said = safe_text(str(causes[-1]), 200, self._secrets)
        if "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower():
            return SinkMisconfigured(
                f"{who}: its certificate cannot be verified ({said}); name the authority that issued it in ca_file"
            )
        return SinkUnavailable(f"{who}: TLS failed: {said}")


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    """`error` and what lies under it, outermost first: causes, contexts and exceptions held as arguments."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        held = [one for one in (getattr(error, "reason", None), *error.args) if isinstance(one, BaseException)]
        error = error.__cause__ or (held[0] if held else error.__context__)
    return seen


def _has(causes: Iterable[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(one, kinds) for one in causes)


def _reason(causes: list[BaseException]) -> str:
    """The system's own words (`Connection refused`); the libraries' texts may hold the URL."""
    for one in reversed(causes):
        if isinstance(one, OSError) and one.strerror and not isinstance(one, requests.RequestException):
            return one.strerror
    return type(causes[-1]).__name__

"""What buckets behind a network share: every call ends at the deadline, and its error says what to do next."""

import ssl
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from eventferry import clock
from eventferry.clients.diagnosis import Diagnosis, Kind
from eventferry.errors import ConfigError
from eventferry.sink.answers import retry_after
from eventferry.sink.errors import BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.objects.base import Bucket, Stored
from eventferry.sink.objects.places import Place
from eventferry.sink.timing import within
from eventferry.sink.wire import Watchdog, watched_pool

T = TypeVar("T")

_TOO_LARGE = frozenset({"EntityTooLarge", "MaxMessageLengthExceeded", "RequestBodyTooLarge"})
_THROTTLED = frozenset({"SlowDown", "ServerBusy", "TooManyRequests"})


class ObjectAbsent(SinkMisconfigured):
    """There is no such object, or for a writer: no such bucket."""


class ObjectPresent(SinkUnavailable):
    """A condition was not met: there is an object."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store said when it refused: its own code, the HTTP status (0 where it said nothing) and the headers."""

    code: str = ""
    status: int = 0
    headers: Mapping[str, str] | None = None


class NetworkBucket(Bucket):
    """A bucket whose sockets are shut down at the deadline, as timeouts of SDKs bound a single read only."""

    def __init__(self, place: Place, seconds: float) -> None:
        super().__init__()
        self.root = place.root
        self.seconds = seconds
        self._bucket = place.bucket
        self._prefix = place.prefix
        self._watchdog = Watchdog()

    @abstractmethod
    def _write(self, key: str, body: bytes, *, absent: bool) -> None:
        """Write an object; with `absent` under the condition that there is none."""

    @abstractmethod
    def _read(self, key: str) -> bytes:
        """An object, whole."""

    @abstractmethod
    def _look(self, key: str) -> Stored | None:
        """What is stored; None, or an error that means absence, where nothing is."""

    @abstractmethod
    def _remove(self, key: str) -> None:
        """Remove an object."""

    @abstractmethod
    def _names(self, prefix: str) -> Iterable[str]:
        """The names of the bucket's objects that begin so; a server that does not honour it gives others, too."""

    def put(self, key: str, body: bytes) -> None:
        with self._calling(f"writing {key}"):
            self._write(key, body, absent=False)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        try:
            with self._calling(f"writing {key}"):
                self._write(key, body, absent=True)
        except ObjectPresent:
            return False
        return True

    def get(self, key: str) -> bytes | None:
        try:
            with self._calling(f"reading {key}", reads=True):
                body = self._read(key)
        except ObjectAbsent:
            return None
        return body

    def head(self, key: str) -> Stored | None:
        try:
            with self._calling(f"looking for {key}", reads=True):
                found = self._look(key)
        except ObjectAbsent:
            return None
        return found

    def delete(self, key: str) -> None:
        with suppress(ObjectAbsent), self._calling(f"deleting {key}"):
            self._remove(key)

    def list(self, prefix: str) -> Iterator[str]:
        whole = self._prefix + prefix
        with self._calling(f"listing {prefix or 'it'}", reads=True):
            found = [name for name in self._names(whole) if name.startswith(whole)]
        yield from (name[len(self._prefix) :] for name in found)

    @abstractmethod
    def _diagnose(self, error: Exception, action: str) -> Diagnosis:
        """What an error of the SDK means, with this sink's remedies."""

    @abstractmethod
    def _answer(self, error: Exception) -> Answer:
        """What the store answered."""

    def _sign_in(self) -> None:
        """Fetch credentials that have to be fetched, in what is left of the time; static ones need nothing."""

    @contextmanager
    def _calling(self, action: str, *, reads: bool = False) -> Iterator[None]:
        """One call of the SDK; what it raises becomes the contract's, without the store's or the SDK's own text.

        `reads` says that nothing can have been changed. Raises ObjectAbsent, ObjectPresent, and SinkErrors.
        """
        action = f"{self.root}: {action}"
        try:
            with self._explained(action):
                self._sign_in()
                self._watchdog.start(self._left())
                try:
                    yield
                finally:
                    self._watchdog.stop()
            if self._watchdog.fired:  # the end of the answer may have been the cut itself
                raise self._overdue(action)
        except SinkUnavailable as error:
            error.untouched = error.untouched or reads
            raise

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except SinkError:
            raise
        except ConfigError as error:
            raise SinkMisconfigured(f"{action}: {error}") from None
        except MemoryError:
            raise
        except Exception as error:
            # `from None`: the texts of these libraries quote URLs, headers and identities.
            raise self._meaning(error, action) from None

    def _meaning(self, error: Exception, action: str) -> SinkError:
        said = self._diagnose(error, action)
        answer = self._answer(error)
        if self._watchdog.fired and answer.status < 400 and said.kind is not Kind.UNREACHABLE:
            return self._overdue(action)
        if 200 <= answer.status < 300:  # something in between answers in the store's place, or half of it came
            return SinkUnavailable(f"{action}: the answer is not one of the store; what it took is unknown")
        if answer.code in _TOO_LARGE or answer.status == 413:
            return BatchTooLarge(f"{action}: the object is larger than the store takes")
        if said.kind is Kind.GONE:
            return ObjectAbsent(said.text)
        if said.kind is Kind.CONFLICT:
            return ObjectPresent(said.text)
        if said.kind is Kind.PERSON or _is_untrusted(error):
            return SinkMisconfigured(said.text)
        if said.kind is Kind.UNREACHABLE:
            return SinkUnavailable(said.text, untouched=True)
        wait = retry_after((answer.headers or {}).get("retry-after"), clock.now())
        throttled = answer.status == 429 or answer.code in _THROTTLED
        return SinkUnavailable(said.text, retry_after=wait, untouched=throttled)

    def _overdue(self, action: str) -> SinkUnavailable:
        return SinkUnavailable(f"{action}: no answer within {self._given():g} s; what it took is unknown")

    def _given(self) -> float:
        return min(self.deadline.seconds, self.seconds)

    def _left(self) -> float:
        return min(self.seconds, self.deadline.remaining(self.root))

    def _within(self, fetch: Callable[[], T]) -> T:
        """What `fetch` returns, unless it takes longer than is left: servers of tokens have clients of their own,
        which no deadline interrupts."""
        late = SinkUnavailable(f"{self.root}: no credentials within {self._given():g} s", untouched=True)
        return within(self._left(), fetch, late)

    def _pools(self, http: Any, https: Any) -> dict[str, Any]:
        """These classes of urllib3's pools with watched connections, by scheme."""
        return {"http": watched_pool(http, self._watchdog), "https": watched_pool(https, self._watchdog)}


def _is_untrusted(error: BaseException | None) -> bool:
    """Whether a server's certificate was refused, which no retry mends."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False

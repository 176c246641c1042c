"""A session with Snowflake whose every call ends at a total deadline, and is made once."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from eventferry.sink import SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text
from eventferry.sink.wire import DeadlineReached, Watchdog, watched_pool
from eventferry_sinks.snowflake.meaning import meaning_of

# Of the timeout, up to some seconds: for ending what is not committed, which lets its lock go.
_GOODBYE, _LONGEST_GOODBYE = 0.2, 3.0
_API = ("/session/", "/queries/")


class BrokenCall(Exception):
    """An exchange that broke off. Neither an OSError nor of the driver: it would try those again by itself."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent  # the request may have been read


class RefusedCall(Exception):
    """An answer 403, which the driver would ask for again until the deadline."""


class Session:
    """One connection. Used by one thread at a time."""

    def __init__(self, who: str, timeout: float, arguments: Mapping[str, Any]) -> None:
        """`arguments` are those of snowflake.connector.connect. Touches nothing."""
        self._who = who
        self._timeout = timeout
        self._goodbye = min(_GOODBYE * timeout, _LONGEST_GOODBYE)
        self._arguments = arguments
        self._watchdog = Watchdog()
        self._connection: Any = None
        self.committing = False  # from here on a lost answer may hide an effect

    @contextlib.contextmanager
    def within(self) -> Iterator[Any]:
        """A cursor; the whole block takes the timeout at most. Raises SinkErrors; after one the session is over.

        An error before `committing` means that nothing of the block took effect, unless the deadline ended it.
        """
        from snowflake.connector.errors import Error

        self.committing = False
        self._watchdog.start(self._timeout - self._goodbye)
        try:
            if self._connection is None:
                self._connection = _connect(self._arguments, self._watchdog)
            with self._connection.cursor() as cursor:
                yield cursor
        except BaseException as error:
            meaning = self._meaning(error, Error)
            self._watchdog.stop()
            self.close(rolling_back=True)
            if meaning is None:
                raise
            # `from None`: the driver's texts quote statements, which quote what they insert.
            raise meaning from None
        finally:
            self._watchdog.stop()

    def close(self, *, rolling_back: bool = False) -> None:
        """End the session, and what it has not committed, if there can be something; twice is harmless."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._watchdog.start(self._goodbye)
        try:
            with contextlib.suppress(Exception):
                if rolling_back:  # a lock that is left behind would stop the next attempt
                    connection.cursor().execute("ROLLBACK")
            with contextlib.suppress(Exception):
                connection.close(retry=False)
        finally:
            self._watchdog.stop()

    def _meaning(self, error: BaseException, driver_error: type[BaseException]) -> BaseException | None:
        """The contract's error; None where the error is to pass as it is."""
        if isinstance(error, SinkError) or not isinstance(error, Exception):
            return None
        if self._watchdog.fired or isinstance(error, DeadlineReached):
            return SinkUnavailable(f"{self._who} did not finish within {self._timeout:g} s; what it took is unknown")
        if isinstance(error, RefusedCall):
            return SinkMisconfigured(
                f"{self._who} answered 403: there is no such account, or a network policy keeps eventferry out; check"
                " account and endpoint"
            )
        if isinstance(error, BrokenCall):
            untouched = not (self.committing and error.sent)
            ending = "" if untouched else "; what it took is unknown"
            return SinkUnavailable(f"{self._who}: {error}{ending}", untouched=untouched)
        if isinstance(error, driver_error):
            return meaning_of(self._who, error, untouched=not self.committing)
        return None


def _connect(arguments: Mapping[str, Any], watchdog: Watchdog) -> Any:
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.session_manager import ProxySupportAdapter

    adapter = _watched_adapter(ProxySupportAdapter, watchdog)

    class Connection(SnowflakeConnection):  # type: ignore[misc]
        """The driver's, whose HTTP goes through our adapter from the first request on."""

        @property
        def _http_config(self) -> Any:
            return self.__dict__.get("_watched_config")

        @_http_config.setter
        def _http_config(self, config: Any) -> None:
            watched = None if config is None else config.copy_with(adapter_factory=adapter)
            self.__dict__["_watched_config"] = watched

    try:
        return Connection(**arguments)
    except (ValueError, TypeError, OSError) as error:  # the driver's own errors are none of these
        key = arguments.get("private_key_file")
        if key is None or isinstance(error, DeadlineReached):
            raise
        raise SinkMisconfigured(
            f"private_key_file {key} cannot be used ({type(error).__name__}): expected a private key in PKCS 8, and its"
            " private_key_passphrase where it is encrypted"
        ) from None


def _watched_adapter(base: Any, watchdog: Watchdog) -> Any:
    """A subclass of the driver's transport `base`: sockets under `watchdog`, no second try, no redirects of its own."""
    from snowflake.connector.vendored import requests, urllib3

    pools = urllib3.connectionpool

    class Adapter(base):  # type: ignore[misc]
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {
                "http": watched_pool(pools.HTTPConnectionPool, watchdog, connect=None),
                "https": watched_pool(pools.HTTPSConnectionPool, watchdog, connect=None),
            }

        def send(self, request: Any, **kwargs: Any) -> Any:
            kwargs["timeout"] = watchdog.remaining()
            try:
                response = super().send(request, **kwargs)
            except requests.exceptions.SSLError:
                raise  # the driver says what is wrong with the certificate
            except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                raise BrokenCall(_reason(error, urllib3), sent=not _kept_out(error, urllib3)) from None
            status = response.status_code
            # The storage of a stage says 400 and 403 where the driver has to fetch another token for it.
            is_own = urlsplit(request.url).path.startswith(_API)
            if status >= 500 or status in (408, 429) or (is_own and status in (400, 405)):
                response.close()
                raise BrokenCall(f"it answered {status}", sent=status != 429)
            if is_own and status == 403:
                response.close()
                raise RefusedCall
            return response

    return Adapter


def _kept_out(error: BaseException, urllib3: Any) -> bool:
    """Whether no connection was made at all."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _reason(error: BaseException, urllib3: Any) -> str:
    """The system's own words; the library's hold the URL."""
    if _kept_out(error, urllib3):
        return f"no connection: {safe_text(str(getattr(error.args[0], 'reason', '')).rpartition(': ')[2], 100)}"
    return f"the connection broke ({type(error).__name__})"

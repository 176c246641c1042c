"""Connections that end at a total deadline, whatever the other side does: the socket is shut down under the call."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from eventferry import clock
from eventferry.sink.alarm import alarms
from eventferry.sink.timing import within


class DeadlineReached(OSError):
    """The time of the call was over before its connection was made."""


class Watchdog:
    """Shuts the sockets of one call down when its time is over.

    The timeouts of requests bound one read, not the call: a server that drips bytes would hold a call for ever. Used by
    one thread at a time; the thread of the alarms only ever calls `_fire`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: set[socket.socket] = set()
        self._ended: list[socket.socket] = []
        self._call: object | None = None  # the one under way
        self._end = 0.0
        self.fired = False

    def start(self, seconds: float) -> None:
        self.fired = False
        self._end = clock.monotonic() + seconds
        call = self._call = object()
        alarms.set(self, seconds, lambda: self._fire(call))

    def stop(self) -> None:
        """End the watch; after this `fired` no longer changes."""
        alarms.cancel(self)
        with self._lock:
            self._call = None
            while self._ended:
                self._drop(self._ended.pop())

    def remaining(self) -> float:
        """Seconds left, more than 0. Raises DeadlineReached."""
        left = self._end - clock.monotonic()
        if self.fired or left <= 0:
            raise DeadlineReached("the deadline is over")
        return left

    def watch(self, sock: socket.socket) -> socket.socket:
        """A second handle on `sock` (TLS takes over the first one) which is shut down at the deadline."""
        line = sock.dup()
        with self._lock:
            self._lines.add(line)
            if self.fired:
                _shut_down(line)
        return line

    def forget(self, line: socket.socket) -> None:
        """The connection is closed. During a call its socket stays watched: after `Connection: close` the connection is
        closed at once, but the body is still being read."""
        with self._lock:
            if self._call is None:
                self._drop(line)
            else:
                self._ended.append(line)

    def _drop(self, line: socket.socket) -> None:
        self._lines.discard(line)
        line.close()

    def _fire(self, call: object) -> None:
        with self._lock:
            if self._call is not call:
                return  # the call ended in the same instant
            self.fired = True
            for line in self._lines:
                _shut_down(line)


def _shut_down(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


class NameUnknown(OSError):
    """The host's name cannot be resolved."""


def resolve(host: str, port: int, seconds: float) -> list[Any]:
    """getaddrinfo within `seconds`, though the system's resolver cannot be interrupted.

    Raises NameUnknown, DeadlineReached.
    """

    def look_up() -> list[Any]:
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameUnknown(str(error)) from None

    return within(seconds, look_up, DeadlineReached(f"no answer about the name {host}"))


def connect(host: str, port: int, watchdog: Watchdog) -> socket.socket:
    """A connected TCP socket to the first address of `host` that answers. Raises OSError."""
    return connect_to(resolve(host, port, watchdog.remaining()), watchdog)


def connect_to(found: list[Any], watchdog: Watchdog) -> socket.socket:
    """A connected TCP socket to the first of these addresses, as getaddrinfo gives them, to answer. Raises OSError."""
    last: OSError = DeadlineReached("the deadline is over")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(watchdog.remaining())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
            continue
        return sock
    raise last


Connect = Callable[[str, int, Watchdog], socket.socket]


def _watched(base: Any, watchdog: Watchdog, connect: Connect | None) -> Any:
    """A subclass of urllib3's connection class `base` whose sockets `connect` makes and `watchdog` watches."""

    class Watched(base):  # type: ignore[misc]
        _line: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            try:
                sock = connect(self._dns_host, self.port, watchdog) if connect else super()._new_conn()
            except NameUnknown as error:
                raise urllib3.exceptions.NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
            except OSError as error:
                raise urllib3.exceptions.NewConnectionError(self, str(error)) from error
            self._line = watchdog.watch(sock)
            return sock

        def close(self) -> None:
            super().close()
            line, self._line = self._line, None
            if line is not None:
                watchdog.forget(line)

    return Watched


class WatchedAdapter(requests.adapters.HTTPAdapter):
    """The transport of a requests session: no retries, TLS 1.2 at least, every socket under `watchdog`."""

    def __init__(self, watchdog: Watchdog, connect: Connect = connect) -> None:
        self._watchdog = watchdog
        self._connect = connect
        super().__init__(pool_connections=4, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_minimum_version=ssl.TLSVersion.TLSv1_2)
        self.poolmanager.pool_classes_by_scheme = {
            "http": watched_pool(urllib3.connectionpool.HTTPConnectionPool, self._watchdog, self._connect),
            "https": watched_pool(urllib3.connectionpool.HTTPSConnectionPool, self._watchdog, self._connect),
        }

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager


def watched_pool(base: Any, watchdog: Watchdog, connect: Connect | None = connect) -> Callable[..., Any]:
    """A subclass of urllib3's pool class `base` whose connections `connect` makes and `watchdog` watches.

    With None the class makes them itself: a client library's own copy of urllib3 knows only its own errors.
    """
    return type("WatchedPool", (base,), {"ConnectionCls": _watched(base.ConnectionCls, watchdog, connect)})

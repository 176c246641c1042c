"""A relay in front of a database that pulls its plug at a chosen instant of a transaction."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable


class Relay:
    """Passes bytes both ways until `aim` comes true; then the client hears nothing more, and `strike` is called.

    `prepare` is called right before the last bytes go through. From then on nobody gets through, until `mend`.
    """

    def __init__(self, host: str, port: int, strike: Callable[[], None], prepare: Callable[[], None]) -> None:
        self._upstream = (host, port)
        self._strike = strike
        self._prepare = prepare
        self._lock = threading.Lock()
        self._aim: tuple[bytes, int, float] | None = None
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.is_cut = False
        self.has_struck = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def aim(self, pattern: bytes = b"", *, after: int = 0, pause: float = 0.0) -> None:
        """Strike `pause` seconds after the pattern was passed on, or in the middle of what is sent: once a connection
        has passed `after` bytes since now."""
        with self._lock:
            self._aim = (pattern, after, pause)
            self.has_struck.clear()

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self.is_cut = False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                client.close()
                continue
            with self._lock:
                if self.is_cut:
                    client.close()
                    server.close()
                    continue
                self._sockets |= {client, server}
            threading.Thread(target=self._upload, args=(client, server), daemon=True).start()
            threading.Thread(target=self._download, args=(server, client), daemon=True).start()

    def _upload(self, client: socket.socket, server: socket.socket) -> None:
        before, passed, aimed = b"", 0, None
        with contextlib.suppress(OSError):
            while data := client.recv(64 * 1024):
                with self._lock:
                    aim = self._aim
                    if aim is not aimed:
                        aimed, before, passed = aim, b"", 0
                    end = _end(aim, before, data, passed) if aim and not self.is_cut else None
                    if end is not None:
                        self._aim, self.is_cut = None, True
                if end is not None:
                    return self._pull(server, data[:end], aim[2])
                server.sendall(data)
                before, passed = (before + data)[-64:], passed + len(data)
        self._drop(client, server)
        return None

    def _pull(self, server: socket.socket, last: bytes, pause: float) -> None:
        self._prepare()
        with contextlib.suppress(OSError):
            server.sendall(last)
        if pause:
            time.sleep(pause)
        self._strike()
        self._cut()
        self.has_struck.set()

    def _download(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(64 * 1024):
                if self.is_cut:  # the answer is lost
                    continue
                client.sendall(data)
        if not self.is_cut:
            self._drop(client, server)

    def _cut(self) -> None:
        with self._lock:
            everything, self._sockets = self._sockets, set()
        self._drop(*everything)

    def _drop(self, *sockets: socket.socket) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._sockets -= set(sockets)


def _end(aim: tuple[bytes, int, float], before: bytes, data: bytes, passed: int) -> int | None:
    """How much of `data` still goes through, where it is to end in it."""
    pattern, after, _ = aim
    if not pattern:
        return max(0, after - passed) if passed + len(data) >= after else None
    kept = before[-len(pattern) + 1 :]
    found = (kept + data).find(pattern)
    return None if found < 0 else max(0, found + len(pattern) - len(kept))


def instants(random: random.Random, kills: int, commit: bytes, most: int) -> list[dict[str, object]]:
    """For each kill what to aim at: half of them at COMMIT, half in the middle of up to `most` bytes of events."""
    pauses = [0.0, 0.0, 0.001, 0.002, 0.05]
    aims: list[dict[str, object]] = [{"pattern": commit, "pause": pauses[n % len(pauses)]} for n in range(kills // 2)]
    aims += [{"after": random.randrange(20_000, most)} for _ in range(kills - len(aims))]
    random.shuffle(aims)
    return aims

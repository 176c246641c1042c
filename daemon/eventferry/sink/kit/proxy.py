"""A TCP proxy in front of a real server that loses replies and breaks connections where a test says so."""

import contextlib
import select
import socket
import threading
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Self

_CHUNK = 256 * 1024
_QUIET = 0.02  # seconds without a byte after which a reply counts as complete
_PATIENCE = 30.0  # seconds that the end of a reply may take to come


class _End(Enum):
    AFTER = auto()  # the effect, without its reply
    BEFORE = auto()  # neither
    STALL = auto()  # the effect, and silence


@dataclass(slots=True)
class _Trap:
    end: _End
    pattern: bytes
    reply: bytes
    left: int


@dataclass(slots=True)
class _Line:
    """One connection through the proxy."""

    client: socket.socket
    server: socket.socket
    trap: _Trap | None = None  # the one that snapped
    sent: int = 0  # how often the client sent something

    def cut(self) -> None:
        for end in (self.server, self.client):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self.server.close()
        self.client.close()


class CuttingProxy:
    """Passes bytes both ways between loopback and a server until a trap snaps: once the client has sent its pattern.

    Give the server's host and port, or the path of its Unix socket; the client connects to `proxy.host` and
    `proxy.port`, in plain text (through TLS no pattern is seen; `b""` is any byte).

        with CuttingProxy("127.0.0.1", 5432) as proxy:
            sink = make_sink("postgres", "kit", {"host": proxy.host, "port": proxy.port, "sslmode": "disable", …})
            with sink:
                proxy.cut_after(b"COMMIT")         # the server commits, its reply is lost, the connection breaks
                with pytest.raises(SinkUnavailable):
                    sink.deliver(batch)
            assert proxy.snapped == 1              # the pattern was really seen

    A trap snaps `times` times, on whatever connection comes first, then everything passes again; setting one replaces
    the one before. A pattern may span several writes. `snapped` counts, so that a test notices a pattern that never
    came.
    """

    def __init__(self, host: str | Path, port: int | None = None) -> None:
        self._upstream = (str(host), port)
        self._trap: _Trap | None = None
        self._lines: list[_Line] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.snapped = 0
        self.host, self.port = "127.0.0.1", 0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the client."""
        return self.host, self.port

    @property
    def url(self) -> str:
        """The same for HTTP clients."""
        return f"http://{self.host}:{self.port}"

    def cut_after(self, pattern: bytes, *, reply: bytes = b"", times: int = 1) -> None:
        """Commit, then lose the reply: pass all on, wait for the server's reply, throw it away, break the connection.

        The reply is complete once it contains `reply` (needed where the client pipelines, or the server answers in
        several steps), without it at its first pause.
        """
        self._set(_Trap(_End.AFTER, pattern, reply, times))

    def cut_before(self, pattern: bytes, *, times: int = 1) -> None:
        """Crash before the effect: what stands before the pattern is passed on, then the connection breaks."""
        self._set(_Trap(_End.BEFORE, pattern, b"", times))

    def stall_after(self, pattern: bytes, *, times: int = 1) -> None:
        """Never answer: all is passed on, and the client hears nothing more on this connection."""
        self._set(_Trap(_End.STALL, pattern, b"", times))

    def pass_all(self) -> None:
        """Take the trap away."""
        with self._lock:
            self._trap = None

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in list(self._lines):
            line.cut()
        for thread in list(self._threads):
            thread.join(5)

    def _set(self, trap: _Trap) -> None:
        with self._lock:
            self._trap = trap

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                line = _Line(client, self._connect())
            except OSError:  # the server is gone: so is this connection
                client.close()
                continue
            self._lines.append(line)
            self._start(self._carry, line)

    def _connect(self) -> socket.socket:
        host, port = self._upstream
        if port is not None:
            return socket.create_connection((host, port), timeout=None)
        server = socket.socket(socket.AF_UNIX)
        server.connect(host)
        return server

    def _carry(self, line: _Line) -> None:
        back = threading.Thread(target=self._download, args=(line,), daemon=True)
        back.start()
        try:
            self._upload(line)
        finally:
            back.join()
            line.close()
            self._lines.remove(line)

    def _upload(self, line: _Line) -> None:
        before = b""
        try:
            while data := line.client.recv(_CHUNK):
                line.sent += 1
                at = None if line.trap else self._snap(line, before, data)
                if at is not None:
                    line.server.sendall(data[:at])
                    return line.cut()
                line.server.sendall(data)
                before = (before + data)[-4096:]
            line.server.shutdown(socket.SHUT_WR)
        except OSError:
            line.cut()

    def _snap(self, line: _Line, before: bytes, data: bytes) -> int | None:
        """Spring the trap where the pattern ends in `data`; gives how much of it goes before the connection dies."""
        with self._lock:
            trap = self._trap
            if trap is None:
                return None
            start = max(0, len(before) - len(trap.pattern) + 1) if trap.pattern else len(before)
            found = (before + data).find(trap.pattern, start)
            if found < 0:
                return None
            self.snapped += 1
            trap.left -= 1
            self._trap = trap if trap.left else None
            line.trap = trap
        return max(0, found - len(before)) if trap.end is _End.BEFORE else None

    def _download(self, line: _Line) -> None:
        swallowed = b""
        try:
            while True:
                if swallowed and self._is_complete(line, swallowed):
                    return line.cut()
                data = line.server.recv(_CHUNK)
                if line.trap is None and data:
                    line.client.sendall(data)
                elif line.trap is not None and line.trap.end is _End.AFTER and data:
                    swallowed += data
                elif line.trap is None or line.trap.end is not _End.STALL:
                    return line.cut()
                elif not data:  # stalling: the client is not even told that the server has gone
                    return None
        except OSError:
            line.cut()

    def _is_complete(self, line: _Line, swallowed: bytes) -> bool:
        assert line.trap is not None
        if line.trap.reply and line.trap.reply in swallowed:
            return True
        pauses, sent = 0, line.sent
        while not select.select([line.server], [], [], _QUIET)[0]:
            pauses, sent = (pauses + 1, sent) if sent == line.sent else (0, line.sent)
            if pauses * _QUIET >= (_PATIENCE if line.trap.reply else _QUIET):
                return True
        return False

"""Networks in front of a server that are worse than loopback: cut, far away, or waiting for company."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_BLOCK = 65536
_PATIENCE = 20.0


@dataclass
class Line:
    """A listener that passes connections on; `endpoint` is what to connect to instead of the server."""

    endpoint: str
    cuts: list[int] = field(default_factory=list)  # bytes that had passed when a connection was cut
    passed: int = 0  # bytes of answers
    requests: int = 0  # pieces that clients sent
    most_open: int = 0  # connections that waited for an answer at the same time
    _waiting: set[int] = field(default_factory=set)

    def note_request(self, connection: int) -> None:
        self.requests += 1
        self._waiting.add(connection)
        self.most_open = max(self.most_open, len(self._waiting))

    def note_answer(self, connection: int) -> None:
        self._waiting.discard(connection)


@contextmanager
def cutting_line(endpoint: str, after: int) -> Iterator[Line]:
    """One connection is cut, the one that answers flow through when `after` bytes of them have passed."""

    def is_over(line: Line) -> bool:
        if line.passed > after and not line.cuts:
            line.cuts.append(line.passed)
            return True
        return False

    with _line(endpoint, lambda line, request: None, is_over) as line:
        yield line


@contextmanager
def slow_line(endpoint: str, seconds: float) -> Iterator[Line]:
    """Every request takes so much longer, however many are under way."""
    with _line(endpoint, lambda line, request: time.sleep(seconds), lambda line: False) as line:
        yield line


@contextmanager
def gathering_line(endpoint: str, together: int) -> Iterator[Line]:
    """Requests for objects wait until so many of them wait: who asks for one after another gets no answer in time."""
    gate = threading.Barrier(together)

    def wait(line: Line, request: bytes) -> None:
        if request.startswith(b"GET") and b"list-type" not in request.partition(b"\r\n")[0]:
            with suppress(threading.BrokenBarrierError):
                gate.wait(_PATIENCE)

    with _line(endpoint, wait, lambda line: False) as line:
        yield line


@contextmanager
def _line(endpoint: str, hold_back: Callable[["Line", bytes], None], is_over: Callable[[Line], bool]) -> Iterator[Line]:
    host, port = endpoint.removeprefix("http://").split("/")[0].split(":")
    open_ends: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    line = Line(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def pass_requests(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(_BLOCK):
                line.note_request(id(client))
                hold_back(line, data)
                server.sendall(data)
        _end(client, server)

    def pass_answers(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_BLOCK):
                line.note_answer(id(client))
                client.sendall(data)
                line.passed += len(data)
                if is_over(line):
                    break
        _end(client, server)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection((host, int(port)))
            open_ends.extend((client, server))
            for task in (pass_requests, pass_answers):
                threading.Thread(target=task, args=(client, server), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield line
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for end in (listener, *open_ends):
            end.close()


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

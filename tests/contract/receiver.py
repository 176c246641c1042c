"""A real HTTP server on loopback that keeps what it is sent and answers as it is told."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]  # lower-case names
    raw: bytes
    peer: tuple[str, int]

    @property
    def body(self) -> bytes:
        return gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw

    @property
    def events(self) -> list[bytes]:
        if self.headers["content-type"] != "application/json":
            return self.body.split(b"\n")[:-1]
        return raw_items(self.body) if self.body.startswith(b"[") else [self.body]


def raw_items(array: bytes) -> list[bytes]:
    """The items of a JSON array, each with the bytes that it had."""
    return [bytes(item) for item in msgspec.json.decode(array, type=list[msgspec.Raw])]


@dataclass
class Receiver:
    url: str
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer] = lambda request: (200, {}, b"ok")

    def events(self) -> list[bytes]:
        return [event for request in self.requests for event in request.events]

    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.requests]


@contextlib.contextmanager
def receiving(answer: Callable[[Request], Answer] | None = None, wrap=None) -> Iterator[Receiver]:
    """A running Receiver; `wrap(socket)` may put TLS around its listening socket."""
    receiver = Receiver("")
    if answer:
        receiver.answer = answer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self._read_body()
            if raw is None:  # its sender died in the middle: no server takes that for a request
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, raw, self.client_address)
            status, extra, body = receiver.answer(request)
            if 200 <= status < 300:
                receiver.requests.append(request)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _read_body(self) -> bytes | None:
            if self.headers.get("Transfer-Encoding") != "chunked":
                length = int(self.headers.get("Content-Length", 0))
                raw = self.rfile.read(length)
                return raw if len(raw) == length else None
            chunks = []
            while line := self.rfile.readline():
                size = int(line, 16)
                chunk = self.rfile.read(size + 2)
                if len(chunk) < size + 2:
                    return None
                chunks.append(chunk[:-2])
                if size == 0:
                    return b"".join(chunks)
            return None

        do_PUT = do_GET = do_POST

        def do_OPTIONS(self) -> None:
            self.send_response(405)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, address: object) -> None:
            pass  # clients of these tests leave in the middle on purpose

    server = Server(("127.0.0.1", 0), Handler)
    if wrap:
        server.socket = wrap(server.socket)
    receiver.url = f"{'https' if wrap else 'http'}://127.0.0.1:{server.server_address[1]}/in"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextlib.contextmanager
def dripping(first: bytes, drip: bytes, every: float = 0.05) -> Iterator[str]:
    """The URL of a server that answers every request with `first`, then `drip` again and again without an end."""
    stopped = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def drip_on(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(first)
            while not stopped.wait(every):
                connection.sendall(drip)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip_on, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/in"
    finally:
        stopped.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """A URL at which nobody listens while the context lasts: the port is bound, so that no other test gets it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/in"

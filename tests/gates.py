"""A gate before a server: what goes through can be held up, or be cut off as if the server were away."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Gate:
    """`endpoint` leads to the server while `open`; `held` lets bytes wait, `shut` ends every connection."""

    def __init__(self, server: str) -> None:
        url = urlsplit(server)
        self._server = (url.hostname, url.port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._passing = threading.Event()
        self._passing.set()
        self._is_shut = False
        self.endpoint = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """From now on bytes wait."""
        self._passing.clear()

    def shut(self) -> None:
        """End every connection, and each new one."""
        self._is_shut = True
        for each in self._connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        """Let everything through."""
        self._is_shut = False
        self._passing.set()

    def close(self) -> None:
        self.shut()
        self._passing.set()
        self._door.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._door.accept()
                if self._is_shut:
                    here.close()
                    continue
                there = socket.create_connection(self._server)
                self._connections += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(64 * 1024):
                self._passing.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate(server: str) -> Iterator[Gate]:
    """A gate before the server of that URL."""
    made = Gate(server)
    try:
        yield made
    finally:
        made.close()

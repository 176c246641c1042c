"""What contract tests of lake tables share: reading files back, places that fail, calls whose reply is lost."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow.parquet as pq


def events_in(files: Iterable[str], filesystem: Any = None) -> list[bytes]:
    """The raw events of Parquet files, file by file. Read without the libraries that wrote them."""
    found: list[bytes] = []
    for path in files:
        found += [
            event.encode() for event in pq.ParquetFile(path, filesystem=filesystem).read(["event"])[0].to_pylist()
        ]
    return found


@contextmanager
def absent() -> Iterator[str]:
    """An endpoint at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Failing:
    """Stands for an object of a library: its method `name` fails once with a broken connection, before or after it
    did its work."""

    def __init__(self, inner: Any, name: str, *, after: bool) -> None:
        self._inner, self._name, self._after, self._done = inner, name, after, False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._name or self._done:
            return found
        return self._once(found)

    def _once(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._done = True
            if self._after:
                method(*args, **kwargs)
            raise ConnectionResetError(104, os.strerror(104))

        return call

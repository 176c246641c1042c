"""Starts an emulator of Google Cloud Storage: it speaks the JSON API, and checks neither rights nor conditions."""

import importlib.util
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.servers import missing, running

# Its own command does not say which port it got, where it was asked for any.
_START = """
import threading
from gcp_storage_emulator import server
made = server.create_server("127.0.0.1", 0, in_memory=True)
made.start()
print("listening on port", made._api._httpd.server_address[1], flush=True)
threading.Event().wait()
"""
_numbers = itertools.count()


@dataclass(frozen=True)
class GcsServer:
    """A running emulator."""

    endpoint: str

    def options(self, **more: object) -> tuple[tuple[str, object], ...]:
        """What a StoreSpec needs to reach it."""
        return tuple(sorted({"endpoint": self.endpoint, "anonymous": True, **more}.items()))

    def client(self) -> Any:
        """A google.cloud.storage.Client of the test's own."""
        from eventferry.clients.gcs import GcsOptions, connect

        return connect(GcsOptions.of(self.options()))

    def make_bucket(self) -> str:
        """A new, empty bucket."""
        name = f"bucket-{next(_numbers)}"
        self.client().create_bucket(name)
        return name


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """The emulator in a process of its own, everything in memory."""
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        missing("gcp-storage-emulator", "pip install 'eventferry[dev]'")
    with running([sys.executable, "-W", "ignore", "-c", _START], ready=r"listening on port (\d+)") as port:
        yield GcsServer(f"http://127.0.0.1:{port}")

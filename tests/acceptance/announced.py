"""A request whose body is announced and never sent: who refuses it by its length answers at once."""

import json
import socket
from typing import Any

from tests.served import Site


def announce(site: Site, method: str, path: str, length: int = 2_000_000) -> tuple[int, Any]:
    """The status and the JSON body of the answer."""
    host, port = site.url.removeprefix("http://").split(":")
    head = (f"{method} {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {length}")
    with socket.create_connection((host, int(port)), 20) as wire:
        wire.sendall("\r\n".join((*head, "", "")).encode())
        received = b"".join(iter(lambda: wire.recv(65536), b""))
    top, _, body = received.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)

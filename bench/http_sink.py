"""The http sink against a bare client loop: python bench/http_sink.py [--short] [--rounds N] [--json FILE].

Both post the same bodies to the same receiver, a process of its own on loopback that reads and answers, over HTTP and
HTTPS with a verified certificate. The loop is a kept session of requests, nothing else. They take turns body by body;
judged is the time of the loop ÷ the time of the sink, the median of some rounds. Exit 1 where a promise is missed.
"""

import argparse
import json
import multiprocessing
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
import trustme

from eventferry.sink import Batch
from eventferry.sink.kit import make_batch, sample_events
from eventferry.sink.registry import make_sink

PROMISE = 0.8  # whatever the form: an array is made from the events in the time of the sink
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Send = Callable[[], None]


def serve(listener: socket.socket, pem: Path | None) -> None:
    """Answer every request of every connection; what was sent is read and forgotten."""
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(connection, context), daemon=True).start()


def answer(connection: socket.socket, context: ssl.SSLContext | None) -> None:
    line = context.wrap_socket(connection, server_side=True) if context else connection
    buffer, got = bytearray(256 * 1024), b""
    while True:
        while (end := got.find(b"\r\n\r\n")) < 0:
            data = line.recv(65536)
            if not data:
                return
            got += data
        head = got[:end].lower()
        at = head.index(b"content-length:") + 15
        left = int(head[at:].split(b"\r\n", 1)[0]) - (len(got) - end - 4)
        while left > 0:
            left -= line.recv_into(buffer, min(left, len(buffer)))
        got = b""
        line.sendall(ANSWER)


def bare(url: str, bodies: Sequence[bytes], content_type: str, ca_file: str) -> Send:
    """A loop that somebody would write: a session, and one post for each body."""
    session = requests.Session()
    session.trust_env = False  # it would look for proxies and certificates in every request
    session.verify = ca_file
    headers = {"Content-Type": content_type}

    def send() -> None:
        for number, body in enumerate(bodies):
            session.post(url, data=body, headers={**headers, "Idempotency-Key": str(number)}).raise_for_status()

    return send


def ours(url: str, batch: Batch, form: str, ca_file: str) -> Send:
    """What the daemon does with a batch."""
    sink = make_sink("http", "bench", {"url": url, "format": form, "ca_file": ca_file})
    sink.open()
    return lambda: sink.deliver(batch)


def timed(send: Send) -> float:
    begun = time.perf_counter()
    send()
    return time.perf_counter() - begun


def measure(ours: Send, bare: Send, times: int) -> float:
    """The sink's speed ÷ the loop's, by turns: the lower quartile of each, since others work on this machine, too."""
    found: dict[Send, list[float]] = {ours: [], bare: []}
    for number in range(times):
        for send in (ours, bare) if number % 2 else (bare, ours):
            found[send].append(timed(send))
    return statistics.quantiles(found[bare])[0] / statistics.quantiles(found[ours])[0]


def cases(short: bool) -> list[tuple[str, str, int, int]]:
    """(scheme, format, events in a batch, batches in a round)."""
    times = 1 if short else 5
    return [
        ("http", "ndjson", 1000, 60 * times),
        ("https", "ndjson", 1000, 40 * times),
        ("http", "array", 1000, 60 * times),
        ("https", "array", 1000, 40 * times),
        ("http", "ndjson", 50, 150 * times),
        ("https", "ndjson", 50, 150 * times),
        ("http", "event", 3, 60 * times),
        ("https", "event", 3, 60 * times),
    ]


def padded(count: int) -> list[bytes]:
    """Events of about 1 KB, so that a thousand are as large as a batch may be."""
    return [line[:-1] + b',"pad":"' + b"x" * 850 + b'"}' for line in sample_events(count)]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--short", action="store_true")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    authority, found = trustme.CA(), []
    with tempfile.TemporaryDirectory() as folder:
        ca, pem = Path(folder, "ca.pem"), Path(folder, "server.pem")
        authority.cert_pem.write_to_path(ca)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
        ports = {}
        for scheme, certificate in (("http", None), ("https", pem)):
            listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            ports[scheme] = listener.getsockname()[1]
            multiprocessing.get_context("fork").Process(target=serve, args=(listener, certificate), daemon=True).start()
        print("| what | median | range | promise | kept |\n|---|---|---|---|---|", flush=True)
        for scheme, form, events, count in cases(asked.short):
            url = f"{scheme}://127.0.0.1:{ports[scheme]}/in"
            batch = make_batch(padded(events))
            body = b"[" + batch.body[:-1].replace(b"\n", b",") + b"]" if form == "array" else batch.body
            bodies = list(batch.lines()) if form == "event" else [body]
            content = "application/x-ndjson" if form == "ndjson" else "application/json"
            pair = ours(url, batch, form, str(ca)), bare(url, bodies, content, str(ca))
            ratios = [measure(*pair, count) for _ in range(asked.rounds + 1)][1:]  # the first one warms up
            median, size = statistics.median(ratios), len(bodies[0]) / 1024
            name = f"{scheme} sink ÷ bare loop, {form}, bodies of {size:,.0f} KiB"
            kept = median >= PROMISE
            found.append({"name": name, "median": median, "low": min(ratios), "high": max(ratios), "kept": kept})
            row = f"| {name} | {median:.2f} | {min(ratios):.2f}–{max(ratios):.2f} | ≥ {PROMISE} |"
            print(f"{row} {'yes' if kept else 'NO'} |", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    return 0 if all(each["kept"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())

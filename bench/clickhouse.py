"""The clickhouse sink against curl posting the same bodies: python bench/clickhouse.py [--rounds N] [--events N].

Two counterparts: Debian's ClickHouse, a real server that reads a body while it is sent, and chdb, today's engine
behind the tests' HTTP front, which reads a body first and runs one statement at a time. In every round the sink
delivers batches and curl posts the bytes that the sink posts, into the same table, one at a time and two at a time
(`concurrency = 2`). The server has one core, its clients another one. curl finds its bodies made; the sink makes them
while the server reads, but the server writes its part after the last line, and then a lone sink has nothing to do. Two
at a time curl is slowed down as well, and the sink carries no more than alone: only one at a time is judged. Exit 1
where the real server's median ratio misses the promise, as it does by some hundredths.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.clickhouse_server import PASSWORD, ClickhouseServer, chdb_server, debian_server  # noqa: E402

from eventferry.sink.kit import make_batch  # noqa: E402
from eventferry.sink.registry import make_sink  # noqa: E402
from eventferry_sinks.clickhouse import server as module  # noqa: E402

PROMISE = 0.9  # of curl's speed, one batch at a time
OLD = "event_time Nullable(DateTime), event_type Nullable(String)"


def made_events(count: int) -> list[bytes]:
    """Events of about 540 bytes, as a web analytics client sends them."""
    chance = random.Random(1)
    return [
        json.dumps(
            {
                "event_type": chance.choice(["pageView", "click", "_session.start"]),
                "event_timestamp": 1714564800000 + number * 10,
                "arrival_timestamp": 1714564800100 + number * 10,
                "event_version": "3.1",
                "application": {"app_id": "a" * 32, "sdk": {}},
                "client": {"client_id": f"{chance.getrandbits(128):032x}"},
                "device": {"locale": {"code": "en_GB"}, "make": "blink", "platform": {"name": "windows"}},
                "session": {"session_id": f"{chance.getrandbits(64):016x}", "start_timestamp": 1714564800000},
                "attributes": {"url": f"https://example.org/{number}", "loggedIn": "false", "referer": ""},
                "metrics": {"elapsed": number * 0.5},
            },
            separators=(",", ":"),
        ).encode()
        for number in range(count)
    ]


class Side:
    """A table at one counterpart, with two sinks that fill it."""

    def __init__(self, server: ClickhouseServer, columns: str, rest: str, compression: str, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.table = server.make_table(columns, rest)
        self.sinks = [
            make_sink("clickhouse", "bench", server.options(table=self.table, compression=compression))
            for _ in range(2)
        ]
        self.headers = ["-H", "Expect:"]
        if compression != "none":
            self.headers += ["-H", f"Content-Encoding: {compression}"]

    def body(self, batch: object, name: str) -> Path:
        """The bytes that the sink posts for a batch, in a file; nothing is sent."""
        sink = self.sinks[0]
        kept: list[bytes] = []

        def keep(self: object, body: list[bytes], *rest: object) -> module.Answer:
            kept.extend(body)
            return module.Answer(200, {}, b"")

        original, module.Server._exchange = module.Server._exchange, keep  # type: ignore[method-assign,assignment]
        try:
            sink.deliver(batch)  # type: ignore[arg-type]
        finally:
            module.Server._exchange = original  # type: ignore[method-assign]
        path = self.folder / f"{self.table}-{name}"
        path.write_bytes(b"".join(kept))
        return path

    def post(self, path: Path, times: list[float]) -> None:
        """Let curl post a file; adds the seconds that it measured."""
        token = path.name
        settings = self.sinks[0]._abilities.insert_settings(token, 0)  # type: ignore[attr-defined]
        query = urlencode({**settings, "query_id": token, "wait_end_of_query": 1})
        done = subprocess.run(
            [
                *("curl", "-sS", "-f", "-u", f"default:{PASSWORD}", *self.headers, "-w", "%{time_total}"),
                *("--data-binary", f"@{path}", f"{self.server.url}?{query}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(float(done.stdout))


CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What starts in the block runs on one core: the server stands elsewhere, as it does where it is used."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def in_parallel(work: list[Callable[[], object]]) -> float:
    """Seconds on the clock until all of them are done."""
    threads = [threading.Thread(target=each) for each in work]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def measure(side: Side, events: list[bytes], rounds: int, width: int) -> tuple[list[float], list[float]]:
    """(seconds of the sink, seconds of curl) for `width` batches at a time, round by round, the first one left out."""
    ours, theirs = [], []
    for number in range(rounds + 1):
        names = [f"{width}-{number}-{each}" for each in range(width)]
        batches = [make_batch(events, salt=f"{side.table} {name}") for name in names]
        paths = [side.body(batch, name) for name, batch in zip(names, batches, strict=True)]
        ours.append(in_parallel([partial(sink.deliver, each) for sink, each in zip(side.sinks, batches, strict=False)]))
        times: list[float] = []
        clock = in_parallel([partial(side.post, path, times) for path in paths])
        theirs.append(times[0] if width == 1 else clock)  # two at a time: curl's own start counts, some 10 ms
        for path in paths:
            path.unlink()
    return ours[1:], theirs[1:]


def run(
    name: str, start: Callable[[], AbstractContextManager[ClickhouseServer]], arguments: argparse.Namespace
) -> float:
    """Print the figures of one counterpart; gives the ratio for plain bodies, one at a time."""
    events = made_events(arguments.events)
    size = sum(map(len, events)) / 1e6
    found: dict[tuple[str, int], float] = {}
    with pinned(SERVER_CORE), start() as server, pinned(CLIENT_CORE), tempfile.TemporaryDirectory() as folder:
        columns, rest = (OLD, "") if name == "debian" else ("", "SETTINGS non_replicated_deduplication_window = 100")
        for compression in ("none", "gzip") if name == "debian" else ("none", "gzip", "zstd"):
            side = Side(server, columns, rest, compression, Path(folder))
            with side.sinks[0], side.sinks[1]:
                for width in (1, 2):
                    ours, theirs = measure(side, events, arguments.rounds, width)
                    ratios = [there / here for here, there in zip(ours, theirs, strict=True)]
                    found[compression, width] = statistics.median(ratios)
                    here, there, ratio = map(statistics.median, (ours, theirs, ratios))
                    said = f"{name:7} {compression:5} {width} at a time: sink {here:.3f} s"
                    said += f" ({width * size / here:.0f} MB/s), curl {there:.3f} s"
                    print(f"{said}, ratio {ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f})", flush=True)
            stored = int(server.rows(f"SELECT count() FROM {side.table}")[0][0])
            assert stored == 2 * 3 * len(events) * (arguments.rounds + 1), stored  # what curl posts goes there, too
    return found["none", 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--events", type=int, default=50_000)
    arguments = parser.parse_args()
    ratio = run("debian", debian_server, arguments)
    run("chdb", chdb_server, arguments)
    kept = ratio >= PROMISE
    print(f"{ratio:.2f} of curl, promised {PROMISE}: {'kept' if kept else 'missed'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
